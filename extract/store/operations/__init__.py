"""Stores rewritten: packed, merged, split, converted, thinned, viewed; one file per command of ``extract store``."""

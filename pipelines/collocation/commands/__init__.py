"""``extract collocate``."""

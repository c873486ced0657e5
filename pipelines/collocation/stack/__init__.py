"""Parsers trained at once as one set of tensors."""

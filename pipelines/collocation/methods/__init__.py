"""How to search: one file per method."""

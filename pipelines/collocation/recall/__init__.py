"""How alike the seconds of one modality, and of two, are (Table 1), and what trained parsers fuse."""

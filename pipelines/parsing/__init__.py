"""Parsers that the features feed: which events of a clip are heard, which are seen, and when (AVVP, AVE)."""

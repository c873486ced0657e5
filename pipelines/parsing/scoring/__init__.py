"""Scores: what counts as found, against which labels."""

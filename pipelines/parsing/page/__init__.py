"""The page of a run: scores, curves, timelines."""

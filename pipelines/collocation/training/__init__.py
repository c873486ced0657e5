"""Trials, curves, and the lanes that train them."""

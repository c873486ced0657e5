"""Stores of clips that were never filmed."""

"""Losses, and the clips they are computed on."""

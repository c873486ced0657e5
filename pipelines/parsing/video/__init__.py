"""A new video, end to end."""

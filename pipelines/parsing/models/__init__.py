"""The networks, by name of their papers."""

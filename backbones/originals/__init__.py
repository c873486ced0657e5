"""Scripts that run a network's original implementation. Other interpreters run them: they import nothing of this project."""

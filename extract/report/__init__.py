"""One self-contained page about a store: ``extract report``. write.py is the door; templates/ is how it looks."""

"""``extract parse``: one file per subcommand."""

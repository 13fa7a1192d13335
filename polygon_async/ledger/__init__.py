"""What happened, in one SQLite file."""

"""Rows and the CSV, whatever the source."""

"""This machine: threads, processes, files, secrets in text."""

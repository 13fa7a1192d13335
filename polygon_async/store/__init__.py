"""A file in, a proven object out."""

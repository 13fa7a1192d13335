"""A run from its checks to its end."""

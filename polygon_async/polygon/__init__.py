"""The REST API: a unit in, its pages out."""

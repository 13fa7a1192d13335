"""Whether the objects are as they must be; and how they are mended."""

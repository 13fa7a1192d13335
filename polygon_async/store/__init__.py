"""A file in, an object that was read back out: lzop, the upload, the proof.

Takes plain values, never `Settings`. `report`, `run` and the wings above may import it. Read `delivery` first
(a CSV's way into the store), then `upload` (write, read back, prove) and `bucket` (the S3 calls).
"""

"""Rows of bars and the CSV that they become, whatever their source.

Takes plain values, never `Settings`. `polygon`, `report`, `run` and the wings above may import it. Read
`page` first (order and duplicates), then `part` (the file that becomes a complete one) and `resume`.
"""

"""Objects, local files and what they must be in; what is wrong with them, and the repaired objects, out.

Only `cli` may import it. Read `run` first (a verification from its checks to its report), then `checks`,
which is pure.
"""

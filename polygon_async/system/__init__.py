"""This machine: threads, processes, files, sockets, and the secrets that no text may show.

Knows nothing of bars; every wing may import it. Read `threads` first: the event loop only awaits, and work
that blocks is done there.
"""

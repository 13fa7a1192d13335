"""argv in, exit code out: flags, terminal, signals, logs, the live view.

The top wing, and the only one that prints: nothing but `__main__` may import it. Read `main` first, then
`commands/__init__`, which lists the commands; each is a module of its own, imported when it is called.
"""

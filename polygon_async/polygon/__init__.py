"""The REST API: a unit in, its pages out, each checked against the request and the page before.

Takes plain values, never `Settings`. `run` and the wings above it may import it. Read `walk` first (which
request comes next), then `client` (how a request is sent, retried and read); `pace` is what all requests
share.
"""

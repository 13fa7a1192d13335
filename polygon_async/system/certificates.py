"""Checks the bundle of CA certificates that an environment variable names."""

from __future__ import annotations

import os
import ssl

from polygon_async.errors import one_line

__all__ = ["unusable_bundle"]


def unusable_bundle(*variables: str) -> str | None:
    """What is wrong with the bundle named by the first of these variables that is set; None if nothing."""
    variable = next((name for name in variables if os.environ.get(name)), None)
    if variable is None:
        return None
    path = os.environ[variable]
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
    except ssl.SSLError:
        problem = "it contains no certificates"
    except OSError as error:
        problem = one_line(error.strerror)
    else:
        return None
    return f"{variable} names a bundle of CA certificates that cannot be used: {one_line(path)} ({problem})"

"""Whether an address names a host that can be looked up: a name by IDNA's rules, or an IP address."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

__all__ = ["names_a_host"]


def names_a_host(url: str) -> bool:
    """Whether a URL has a host that can be looked up, and a port that can be one, if any.

    The resolver would raise for another one in the middle of a request, in words that repeat it.
    """
    from yarl import URL

    try:
        parts, sent = urlsplit(url), URL(url)
        # The port, and the name as it is shown, are worked out only when they are asked for.
        hosts = {parts.hostname or "", sent.raw_host or "", sent.host or ""}
        return parts.port != 0 and all(map(_can_be_looked_up, hosts))
    except ValueError:
        return False


def _can_be_looked_up(host: str) -> bool:
    """Raises ValueError, or returns False, if it cannot."""
    if host.replace(".", "").isdigit():
        ipaddress.IPv4Address(host)
    return bool(host.encode("idna"))

"""The proxy for an address, from the environment's variables, checked; and which parts of it are secret."""

from __future__ import annotations

import base64
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from polygon_async.errors import ConfigError
from polygon_async.system.hosts import names_a_host

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["Proxy", "ProxyTrouble", "proxies_named", "proxy_for", "user_secrets"]

_PASSING = frozenset({408, 429})
"""Answers of a proxy, beside those from 500 on, that another attempt may not get."""
_SHORTEST_SECRET = 4
"""Letters; removing shorter secrets from every text would leave no text. As user information they are removed."""
_OWN_WORDS = frozenset({"polygon", "massive", "stocks", "options", "indices", "forex", "crypto", "user", "proxy"})
"""User names that occur all over this program's own output, and are no secret by themselves."""


_BEFORE_HOST = "before the host, with a colon between them and an @ after"
"""An example would be taken for somebody's own user and password, and be removed."""


@dataclass(frozen=True, slots=True)
class ProxyTrouble:
    """What is wrong with a proxy; it names the variable, and nothing of its value."""

    text: str
    passes: bool = False
    """Whether another attempt may get through."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxy:
    """A proxy that can be used."""

    variable: str
    """The variable's name, for messages."""
    url: str = field(repr=False)
    """With user and password, if it has them."""

    @property
    def host(self) -> str:
        """Its name or address, for comparison and never for messages."""
        return urlsplit(self.url).hostname or ""

    def trouble_of(self, error: BaseException, host: str) -> ProxyTrouble | None:
        """What an error of aiohttp, on the way to `host`, says of this proxy; None if it is about another host."""
        import aiohttp

        where = f"the proxy in {self.variable}"
        match error:
            case aiohttp.ClientHttpProxyError():
                return self.answer(error.status, host)
            case aiohttp.ClientConnectorCertificateError() if error.host == self.host:
                return ProxyTrouble(f"the certificate of {where} cannot be trusted; check the CA certificates")
            case aiohttp.ClientConnectorSSLError() if error.host == self.host:
                return ProxyTrouble(f"{where} does not speak TLS; write http:// there instead of https://")
            case aiohttp.ClientConnectorDNSError() if error.host == self.host:
                return ProxyTrouble(f"the name of {where} cannot be resolved", passes=True)
            case aiohttp.ClientProxyConnectionError():
                # Its own text names the address.
                number = error.os_error.errno
                return ProxyTrouble(
                    f"no connection to {where} ({os.strerror(number) if number else 'it failed'})", passes=True
                )
            case _:
                return None

    def answer(self, status: int, host: str) -> ProxyTrouble:
        """What it means that the proxy answers itself instead of passing a request on to `host`."""
        where = f"the proxy in {self.variable}"
        if status == 407:
            what = "does not accept its credentials" if "@" in self.url else "asks for credentials"
            return ProxyTrouble(f"{where} {what} (HTTP 407); write them there, {_BEFORE_HOST}")
        if status in _PASSING or (status >= 500 and status != 501):
            return ProxyTrouble(f"{where} answers HTTP {status}", passes=True)
        advice = "allow it there, or name it in NO_PROXY to bypass the proxy"
        return ProxyTrouble(f"{where} refuses to connect to {host} (HTTP {status}); {advice}")


def proxy_for(url: str, *, by_scheme_only: bool = False) -> Proxy | None:
    """The proxy that the environment names for `url`; None if it is requested directly.

    The variable of the scheme counts (HTTPS_PROXY), then ALL_PROXY; of both spellings the lower case one.
    With `by_scheme_only`, ALL_PROXY does not count: that is how botocore reads them.

    Raises:
        ConfigError: it cannot be used; names the variable, and nothing of its value.
    """
    from urllib.request import proxy_bypass

    asked = urlsplit(url)
    named = _named((asked.scheme,) if by_scheme_only else (asked.scheme, "all"))
    port = asked.port or {"https": 443, "http": 80}.get(asked.scheme)
    if named is None or proxy_bypass(f"{asked.hostname}:{port}"):
        return None
    variable, text = named
    url = _checked(variable, text, asked.hostname or "")
    if by_scheme_only and "://" in text and not text.strip().startswith(("http://", "https://")):
        raise ConfigError(f"{variable} must begin with http:// or https:// in lower case")
    return Proxy(variable=variable, url=url)


def proxies_named() -> list[Proxy]:
    """Every usable proxy that a variable names, for whatever scheme."""
    found = (_named((scheme,)) for scheme in ("https", "http", "all"))
    named = [each for each in found if each is not None]
    return [Proxy(variable=variable, url=url) for variable, text in named if _is_usable(url := _spelt_out(text))]


def user_secrets(address: str) -> Iterator[str]:
    """The secret parts of an address: its user information as a whole, and its parts, percent-encoded and decoded.

    An address that cannot be used has it, too: all before the last @ counts, whatever is in it.
    """
    before, scheme, rest = address.strip().partition("://")
    userinfo, at, _ = (rest if scheme else before.removeprefix("//")).rpartition("@")
    if not at:
        return
    user, colon, password = userinfo.partition(":")
    plain = f"{unquote(user)}:{unquote(password)}"
    yield from (userinfo, unquote(userinfo)) if colon or len(userinfo) >= _SHORTEST_SECRET else (f"{userinfo}@",)
    yield from (f"//{user}:", f"//{user}@")
    # As the header Proxy-Authorization spells them.
    yield from {base64.b64encode(plain.encode(spelling, "replace")).decode() for spelling in ("utf-8", "latin-1")}
    parts = [password, unquote(password), *(name for name in (user, unquote(user)) if name.lower() not in _OWN_WORDS)]
    yield from (part for part in parts if len(part) >= _SHORTEST_SECRET)


def _named(schemes: tuple[str, ...]) -> tuple[str, str] | None:
    """Variable and value for the first of these schemes that has a proxy."""
    from urllib.request import getproxies_environment

    proxies = getproxies_environment()
    for scheme in schemes:
        if text := proxies.get(scheme):
            return _variable(scheme, text, os.environ), text
    return None


def _variable(scheme: str, text: str, environment: Mapping[str, str]) -> str:
    """The spelling of the variable that names a proxy."""
    name = f"{scheme}_proxy"
    spelt = sorted((each for each in environment if each.lower() == name), key=lambda each: each != name)
    return next((each for each in spelt if environment[each] == text), name.upper())


def _checked(variable: str, text: str, host: str) -> str:
    """The proxy's address in the form that HTTP clients expect.

    Raises:
        ConfigError: it is none.
    """
    url = _spelt_out(text)
    scheme = url.partition("://")[0].lower()
    if scheme not in {"http", "https"}:
        kind = "a SOCKS proxy" if scheme.startswith("socks") else "neither an http:// nor an https:// proxy"
        raise ConfigError(
            f"{variable} names {kind}, which cannot be used; name an HTTP proxy, or set NO_PROXY={host} to bypass it"
        )
    if not _is_usable(url):
        raise ConfigError(
            f"{variable} is not a proxy's address such as http://host:3128 (special characters before its @ are"
            " percent-encoded: # is %23, @ is %40)"
        )
    return url


def _spelt_out(text: str) -> str:
    text = text.strip()
    return text if "://" in text else f"http://{text.removeprefix('//')}"


def _is_usable(url: str) -> bool:
    from yarl import URL

    if not names_a_host(url) or any(letter.isspace() or not letter.isprintable() for letter in url):
        return False
    parts, proxy = urlsplit(url), URL(url)
    try:
        # As HTTP clients send them.
        f"{proxy.user}{proxy.password}".encode("latin-1")
    except UnicodeEncodeError:
        return False
    return parts.path in {"", "/"} and not parts.query and "#" not in url and ":" not in (proxy.user or "")

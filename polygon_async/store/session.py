"""The HTTP session of the S3 client: aiobotocore's own, which checks less than botocore's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiobotocore.httpsession import AIOHTTPSession

if TYPE_CHECKING:
    import ssl

__all__ = ["VerifyingSession"]


class VerifyingSession(AIOHTTPSession):  # type: ignore[misc]  # it has no types
    """A session that talks only to the host that was asked for.

    botocore leaves the host's name to urllib3, which aiobotocore does without: any valid certificate, of
    whatever host, would do. Through a proxy, it would not even look at the certificate.
    """

    def _get_ssl_context(self) -> ssl.SSLContext:
        context: ssl.SSLContext = super()._get_ssl_context()
        context.check_hostname = True
        return context

    def _setup_proxy_ssl_context(self, proxy_url: str) -> ssl.SSLContext:
        return super()._setup_proxy_ssl_context(proxy_url) or self._get_ssl_context()

"""TLS on both sides: what we demand of a server, and the certificate that our own listeners show.

Client contexts are made once: loading the certificate authorities takes milliseconds. The server's context follows its
files, so that a renewed certificate needs no restart.
"""

from __future__ import annotations

import ssl
from functools import lru_cache
from pathlib import Path
from typing import Literal

import structlog

from relay.config_sections import Tls

Level = Literal["none", "may", "require", "verify"]
"""How much TLS a next hop must give: none; encrypted if it can; encrypted; encrypted by the host that we meant."""

_MINIMUM = ssl.TLSVersion.TLSv1_2  # RFC 8996 withdraws all before it

log = structlog.get_logger()


@lru_cache
def client_context(verify: bool) -> ssl.SSLContext:
    """A context for outgoing connections; with `verify` the chain and the name are checked (RFC 6125), else neither."""
    if verify:
        context = ssl.create_default_context()
    else:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    context.minimum_version = _MINIMUM
    return context


def describe(cipher: tuple[str, str, int] | None, version: str | None) -> str:
    """Protocol version and cipher for the log, like `TLSv1.3 TLS_AES_256_GCM_SHA384`; empty in clear."""
    return f"{version} {cipher[0]}" if cipher and version else ""


class ServerTls:
    """The listeners' certificate, read again when one of its files changes; a broken new file keeps the old one.

    Raises:
        OSError, ssl.SSLError: the files cannot be used at the start (later that is logged).
    """

    def __init__(self, tls: Tls) -> None:
        self._files = (tls.certificate, tls.private_key)
        self._seen = self._state()
        self._context = self._load()

    def context(self) -> ssl.SSLContext:
        """The context for the next handshake.

        A listener that keeps one for its whole life (implicit TLS) shows the renewed certificate all the same.
        """
        try:
            seen = self._state()
            if seen != self._seen:
                self._seen = seen
                self._context = self._load()
                log.info("tls_certificate_reloaded", certificate=str(self._files[0]))
        except OSError as error:  # ssl.SSLError is one
            log.error("tls_certificate_not_reloaded", problem=str(error), effect="the old one stays")
        return self._context

    def _state(self) -> list[tuple[int, int, int]]:
        return [(s.st_mtime_ns, s.st_size, s.st_ino) for s in map(Path.stat, self._files)]

    def _load(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = _MINIMUM
        try:
            context.load_cert_chain(*self._files)
        except ssl.SSLError as error:
            certificate, key = self._files
            reason = error.reason or "it is no PEM"
            what = f"{certificate} with {key}: not a certificate with its key: {reason}"
            raise ssl.SSLError(error.errno, what) from None
        context.sni_callback = self._latest
        return context

    def _latest(self, connection: ssl.SSLObject, name: str | None, first: ssl.SSLContext) -> None:
        connection.context = self.context()

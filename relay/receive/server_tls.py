"""The TLS certificate of the listeners, which is read again when its files change: renewal needs no restart."""

from __future__ import annotations

import ssl
from pathlib import Path

import structlog

from relay.config.sections import TlsSection
from relay.tls import MINIMUM_VERSION, UnusableCertificate, load_certificate

log = structlog.get_logger()


class ServerTls:
    """The listeners' certificate. Where the changed files cannot be used, the old certificate stays.

    Attributes:
        quiet: whether another process, which follows the same files, logs what becomes of them.

    Raises:
        OSError, UnusableCertificate: the files cannot be used at the start. Later such an error is logged.
    """

    def __init__(self, tls: TlsSection) -> None:
        self.quiet = False
        self._problem = ""
        first = tls.pairs[0]
        self._files = (first.certificate, first.private_key)
        self._seen = self._state()
        self._context = self._load()

    def context(self) -> ssl.SSLContext:
        """The context for the next handshake.

        A listener with implicit TLS keeps one context; it shows a renewed certificate nevertheless.
        """
        try:
            seen = self._state()
            if seen != self._seen:
                self._seen = seen
                self._context = self._load()
                self._problem = ""
                if not self.quiet:
                    log.info("tls_certificate_reloaded", certificate=str(self._files[0]))
        except (OSError, UnusableCertificate) as error:
            if str(error) != self._problem and not self.quiet:
                log.error("tls_certificate_not_reloaded", problem=str(error), effect="the old one stays")
            self._problem = str(error)
        return self._context

    def _state(self) -> list[tuple[int, int, int]]:
        return [(s.st_mtime_ns, s.st_size, s.st_ino) for s in map(Path.stat, self._files)]

    def _load(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = MINIMUM_VERSION
        try:
            load_certificate(context, *self._files)
        except UnusableCertificate as error:
            certificate, key = self._files
            raise UnusableCertificate(f"{certificate} with {key}: not a certificate with its key: {error}") from None
        context.sni_callback = self._use_latest
        return context

    def _use_latest(self, connection: ssl.SSLObject, name: str | None, first: ssl.SSLContext) -> None:
        connection.context = self.context()

"""The TLS certificates of the listeners: which one a client sees, and how renewed ones are taken over.

A handshake only looks a name up. The files are looked at once a second, as those of the tables are, by every process in
a thread. Where a certificate cannot be used its old one stays, and the others are renewed all the same.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Iterable, Sequence

import structlog

from relay.config.model import ConfigError
from relay.config.sections import CertificateSection, TlsSection
from relay.receive.certificate_files import CertificateFiles, Pair
from relay.receive.sni import SniTable
from relay.table_files.reloaded_file import next_look
from relay.tls import MINIMUM_VERSION, UnusableCertificate

log = structlog.get_logger()


class ServerTls:
    """The listeners' certificates.

    Raises:
        ConfigError: the files of one cannot be used at the start; the text names its table. Later such an error is
            logged.
    """

    def __init__(self, tls: TlsSection) -> None:
        self._files = [_read(key, section) for key, section in tls.named_pairs]
        self._shown = _Contexts([file.pair for file in self._files])

    def context(self) -> ssl.SSLContext:
        """The context for the next handshake. The certificate is chosen when the client has named its host."""
        return self._shown.entry

    def look(self) -> None:
        """Takes over the certificates that have changed, as far as they are good; it may take milliseconds for each."""
        for file in self._files:
            file.look()
        pairs = [file.pair for file in self._files]
        if pairs == self._shown.pairs:
            return
        try:
            self._shown = _Contexts(pairs)
        except (OSError, UnusableCertificate) as error:  # they were good, so this process lacks memory or descriptors
            log.error("tls_certificate_not_reloaded", problem=str(error), effect="the old one stays for a second")

    async def follow(self, *, quiet: bool = False) -> None:
        """Looks in a thread, every second until cancelled.

        Args:
            quiet: whether another process, which follows the same files, logs what becomes of them.
        """
        for file in self._files:
            file.quiet = quiet
        while True:
            await asyncio.sleep(next_look(time.time()))
            await asyncio.to_thread(self.look)


class _Contexts:
    """The contexts of one set of certificates; a handshake that has begun keeps to them.

    Attributes:
        pairs: the certificates.
        entry: the context in which handshakes begin. It has no certificate. The keys of session tickets are in it, so
            that no session from before a renewal is resumed, and sessions do not depend on the host name.
    """

    def __init__(self, pairs: Sequence[Pair]) -> None:
        self.pairs = pairs
        self._table = SniTable([pair.shown for pair in pairs])
        self._by_group = {group: _context([pairs[number] for number in group]) for group in self._table.groups}
        self.entry = _context([])
        self.entry.sni_callback = self._choose

    def _choose(self, connection: ssl.SSLObject, name: str | None, entry: ssl.SSLContext) -> None:
        connection.context = self._by_group[self._table.chosen(name or "")]


def _context(pairs: Iterable[Pair]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = MINIMUM_VERSION
    for pair in pairs:
        pair.load(context)
    return context


def _read(key: str, section: CertificateSection) -> CertificateFiles:
    try:
        return CertificateFiles(section)
    except OSError as error:
        raise ConfigError(f"{key}: {error.filename}: {error.strerror}") from None
    except UnusableCertificate as error:
        raise ConfigError(f"{key}: {error}") from None

"""A certificate with its key, read from their files, and read again when these change.

The two are replaced one after the other, and a client may connect in between. So both are read before OpenSSL sees
them, and only a pair that belongs together takes the place of the last good one.
"""

from __future__ import annotations

import errno
import os
import ssl
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import structlog
from cryptography import x509

from relay.config.sections import CertificateSection
from relay.receive.sni import Shown, shown
from relay.table_files.reloaded_file import SETTLED
from relay.tls import UnusableCertificate, load_certificate

log = structlog.get_logger()

LARGEST = 1 << 20  # octets of a file; a chain has a few thousand
_OWN_TROUBLE = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)  # which the other processes may not have


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate with its chain and its key, in PEM, which belong together.

    Attributes:
        shown: when it is shown.
    """

    certificate: bytes
    key: bytes = field(repr=False)
    shown: Shown

    def load(self, context: ssl.SSLContext) -> None:
        """Adds it to those that the context shows. Raises: OSError, UnusableCertificate."""
        with ExitStack() as files:
            paths = [files.enter_context(_in_memory(content)) for content in (self.certificate, self.key)]
            load_certificate(context, *paths)


class CertificateFiles:
    """The files of one certificate; `pair` is the last good content.

    Attributes:
        quiet: whether another process, which follows the same files, logs what becomes of them.

    Raises:
        OSError, UnusableCertificate: the files cannot be used at the start. Later such an error is logged.
    """

    def __init__(self, section: CertificateSection) -> None:
        self.quiet = False
        self._section = section
        self._files = (section.certificate, section.private_key)
        self._problem = ""  # of the last look
        self._said = ""  # the problem that is in the log
        self._loaded = self._state()[0]
        self.pair = self._read()

    def look(self) -> None:
        """Reads the files if they have changed."""
        try:
            state, changed = self._state()
            if state == self._loaded:
                self._problem = self._said = ""
                return
            if 0 <= time.time() - changed < SETTLED:  # somebody may be writing still
                return
            pair = self._read()
            if self._state()[0] != state:
                return
        except (OSError, UnusableCertificate) as error:
            self._failed(error)
            return
        self.pair, self._loaded = pair, state
        self._problem = self._said = ""
        if not self.quiet:
            log.info("tls_certificate_reloaded", certificate=str(self._files[0]))

    def _failed(self, error: OSError | UnusableCertificate) -> None:
        """Logs what is wrong once it is found a second time: by then the other file may have been replaced as well."""
        problem, before = str(error), self._problem
        self._problem = problem
        own_trouble = isinstance(error, OSError) and error.errno in _OWN_TROUBLE
        if problem == before and problem != self._said and (own_trouble or not self.quiet):
            self._said = problem
            log.error("tls_certificate_not_reloaded", problem=problem, effect="the old one stays")

    def _state(self) -> tuple[list[tuple[int, int, int]], float]:
        """What tells that the files have changed, and when the last change was, in seconds since 1970."""
        found = [path.stat() for path in self._files]
        return [(s.st_mtime_ns, s.st_size, s.st_ino) for s in found], max(s.st_ctime for s in found)

    def _read(self) -> Pair:
        certificate, key = (_content(path) for path in self._files)
        try:
            leaf = x509.load_pem_x509_certificate(certificate)
            names = shown(leaf, self._section.hosts)
        except ValueError:  # OpenSSL decides below; it takes what cryptography finds malformed
            names = Shown(self._section.hosts, "unknown")
        pair = Pair(certificate, key, names)
        try:
            pair.load(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
        except UnusableCertificate as error:
            where = "{} with {}".format(*self._files)
            raise UnusableCertificate(f"{where}: not a certificate with its key: {error}") from None
        return pair


def _content(path: Path) -> bytes:
    if path.is_fifo():  # reading would wait for a writer
        raise OSError(errno.EINVAL, "a named pipe is no file that can be read again", str(path))
    with path.open("rb") as file:
        return file.read(LARGEST)


@contextmanager
def _in_memory(content: bytes) -> Iterator[Path]:
    """A file without a place on disk: OpenSSL reads a chain from files only."""
    descriptor = os.memfd_create("certificate")
    try:
        with os.fdopen(os.dup(descriptor), "wb") as file:
            file.write(content)
        yield Path(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)

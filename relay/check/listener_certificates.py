"""The certificates of the listeners as they are in their files, and which of them a client sees for a host name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from cryptography import x509

from relay.config.sections import CertificateSection, TlsSection
from relay.receive.sni import Shown, SniTable, shown

Chain = tuple[x509.Certificate, ...]


@dataclass(frozen=True)
class ListenerCertificate:
    """One of them.

    Attributes:
        chain: the certificate and those below it; empty where the file cannot be read.
        problem: why not.
    """

    section: CertificateSection
    chain: Chain
    problem: str = ""

    @property
    def path(self) -> Path:
        return self.section.certificate

    @cached_property
    def shown(self) -> Shown:
        return shown(self.chain[0], self.section.hosts) if self.chain else Shown(self.section.hosts, "unknown")


class ListenerCertificates:
    """All of them, in the order of the configuration."""

    def __init__(self, certificates: Sequence[ListenerCertificate]) -> None:
        self.all = certificates
        self._table = SniTable([certificate.shown for certificate in certificates])

    def of(self, host: str = "") -> list[ListenerCertificate]:
        """Those that are shown for a host; without a host, those for clients that name none."""
        return [self.all[number] for number in self._table.chosen(host)]

    def hidden(self, number: int) -> dict[str, ListenerCertificate]:
        """The names of a certificate for which another one is shown, with that one."""
        return {name: self.all[other] for name, other in self._table.hidden(number).items()}


def read_certificates(tls: TlsSection) -> ListenerCertificates:
    """Read them; it takes milliseconds."""
    return ListenerCertificates([_read(pair) for pair in tls.pairs])


def _read(section: CertificateSection) -> ListenerCertificate:
    try:
        return ListenerCertificate(section, tuple(x509.load_pem_x509_certificates(section.certificate.read_bytes())))
    except (OSError, ValueError) as error:
        return ListenerCertificate(section, (), str(error.strerror if isinstance(error, OSError) else "it is no PEM"))

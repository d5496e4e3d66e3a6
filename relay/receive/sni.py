"""Which certificates are shown for the host name that a client asks for (SNI, RFC 6066 section 3).

The exact name goes before `*.domain`, and that before `*`. Where several certificates are for the same name, those with
keys of different kinds are all offered, and TLS takes what the client can verify; of one kind the first counts. A
client that names no host, or one that no certificate is for, sees the first certificate, or one with a key of another
kind that is for all of its names.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa

Group = tuple[int, ...]
"""The numbers of the certificates that are offered together, each with a key of another kind."""


@dataclass(frozen=True, slots=True)
class Shown:
    """What decides when a certificate is shown.

    Attributes:
        names: of hosts in lower case; `*.domain` stands for one more label, `*` for every name.
        kind: of its key; a client that cannot verify one may know another.
    """

    names: tuple[str, ...]
    kind: str


def shown(leaf: x509.Certificate, hosts: Sequence[str] = ()) -> Shown:
    """A certificate for the given hosts, or else for its own names."""
    return Shown(tuple(normal(host) for host in hosts) or names_in(leaf), _kind(leaf))


def names_in(leaf: x509.Certificate) -> tuple[str, ...]:
    """The DNS names of a certificate (RFC 9525 section 6.3), in lower case."""
    try:
        extension = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except (x509.ExtensionNotFound, x509.DuplicateExtension, x509.UnsupportedGeneralNameType, ValueError):
        return ()
    return tuple(dict.fromkeys(normal(name) for name in extension.value.get_values_for_type(x509.DNSName)))


def normal(name: str) -> str:
    """A name of a host as it is compared: in lower case, without a final dot."""
    return name.lower().removesuffix(".")


def covers(pattern: str, host: str) -> bool:
    """Whether a name in a certificate covers a host; `*` stands for the first label (RFC 9525 section 6.3)."""
    return pattern == host or (pattern.startswith("*.") and pattern[1:] == host[host.find(".") :])


def _kind(leaf: x509.Certificate) -> str:
    """The kind of the key, of which OpenSSL has one certificate in a context."""
    try:
        key = leaf.public_key()
    except (UnsupportedAlgorithm, ValueError):
        return "unknown"
    if isinstance(key, rsa.RSAPublicKey):
        return "RSA"
    return "ECDSA" if isinstance(key, ec.EllipticCurvePublicKey) else type(key).__name__


class SniTable:
    """Finds certificates by host name. They are numbered in the order of the configuration."""

    def __init__(self, certificates: Sequence[Shown]) -> None:
        self._certificates = certificates
        self._by_name: dict[str, Group] = {}
        for number, certificate in enumerate(certificates):
            for name in certificate.names:
                self._by_name[name] = self._with(self._by_name.get(name, ()), number)
        self.default = self._twins_of_first()

    @property
    def groups(self) -> set[Group]:
        """All groups that are shown for some name."""
        return {self.default, *self._by_name.values()}

    def chosen(self, host: str) -> Group:
        """The certificates for a host name; empty for a client that names none."""
        host = normal(host)
        for name in (host, f"*{host[host.find('.') :]}" if "." in host else "", "*"):
            if name and name in self._by_name:
                return self._by_name[name]
        return self.default

    def hidden(self, number: int) -> dict[str, int]:
        """The names of a certificate for which another, earlier one is shown, with the number of that one."""
        kind = self._certificates[number].kind
        return {
            name: next(other for other in self._by_name[name] if self._certificates[other].kind == kind)
            for name in self._certificates[number].names
            if number not in self._by_name[name]
        }

    def _twins_of_first(self) -> Group:
        group: Group = (0,)
        first = set(self._certificates[0].names)
        for number, certificate in enumerate(self._certificates):
            if first and first <= set(certificate.names):
                group = self._with(group, number)
        return group

    def _with(self, group: Group, number: int) -> Group:
        """A group with one more certificate, unless it has one of that kind."""
        kinds = {self._certificates[other].kind for other in group}
        return group if self._certificates[number].kind in kinds else (*group, number)

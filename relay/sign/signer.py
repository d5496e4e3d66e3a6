"""Which of our keys sign a message: the author's domain signs as itself, everything else as the forwarder."""

from __future__ import annotations

from collections.abc import Sequence

from relay.authenticate.author import author_domains
from relay.message import Message
from relay.sign.dkim import FIELD_OCTETS, signature_fields
from relay.sign.keys import SigningKey


class Signer:
    """Signs with every key of the domain that fits.

    Args:
        keys: all that are configured.
        forwarder: the domain that signs for authors who are not ours; where it has no key, the first key's domain.
    """

    def __init__(self, keys: Sequence[SigningKey], forwarder: str) -> None:
        self._by_domain: dict[str, list[SigningKey]] = {}
        for key in keys:
            self._by_domain.setdefault(key.domain, []).append(key)
        if forwarder not in self._by_domain and keys:
            forwarder = keys[0].domain
        self._default = self._by_domain.get(forwarder, [])

    def fields(self, message: Message, now: float) -> bytes:
        """The DKIM-Signature fields for a message that leaves now; nothing without keys or without a From."""
        keys = self._keys_for(message)
        return signature_fields(message, keys, int(now)) if keys else b""

    def signs_as(self, domain: str) -> bool:
        """Whether mail of an author in that normal domain is signed in the author's own name."""
        return domain in self._by_domain

    @property
    def sealing_key(self) -> SigningKey | None:
        """The key for ARC sets: the forwarder's, which has to be RSA (RFC 8617 knows nothing else)."""
        return next((key for key in self._default if key.algorithm == "rsa-sha256"), None)

    def octets(self, message: Message) -> int:
        """How long `fields` may get, to announce a message's size (RFC 1870) before it is signed."""
        return sum(FIELD_OCTETS + key.signature_octets * 3 // 2 for key in self._keys_for(message))

    def _keys_for(self, message: Message) -> Sequence[SigningKey]:
        if len(self._by_domain) < 2:
            return self._default
        authors = author_domains(message)
        return self._by_domain.get(authors[0], self._default) if len(authors) == 1 else self._default

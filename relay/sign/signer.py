"""Which of our keys sign a message: the author's domain signs as itself, everything else as the forwarder."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from relay.authenticate.author import author_domains
from relay.message import Message
from relay.sign.dkim import FIELD_OCTETS, signature_fields
from relay.sign.keys import SigningKey


class Signer:
    """Signs with every key of the domain that fits.

    Args:
        keys: all that are configured.
        forwarder: the domain that signs for authors who are not ours; where it has no key, the first key's domain.
        clock: seconds since 1970.
    """

    def __init__(self, keys: Sequence[SigningKey], forwarder: str, clock: Callable[[], float] = time.time) -> None:
        self._by_domain: dict[str, list[SigningKey]] = {}
        for key in keys:
            self._by_domain.setdefault(key.domain, []).append(key)
        if forwarder not in self._by_domain and keys:
            forwarder = keys[0].domain
        self._default = self._by_domain.get(forwarder, [])
        self._clock = clock

    def fields(self, message: Message) -> bytes:
        """The DKIM-Signature fields for a message that leaves now; nothing without keys or without a From."""
        keys = self._keys_for(message)
        return signature_fields(message, keys, int(self._clock())) if keys else b""

    def octets(self, message: Message) -> int:
        """How long `fields` may get, to announce a message's size (RFC 1870) before it is signed."""
        return sum(FIELD_OCTETS + key.signature_octets * 3 // 2 for key in self._keys_for(message))

    def _keys_for(self, message: Message) -> Sequence[SigningKey]:
        if len(self._by_domain) < 2:
            return self._default
        authors = author_domains(message)
        return self._by_domain.get(authors[0], self._default) if len(authors) == 1 else self._default

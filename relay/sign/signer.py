"""Signs messages: with the keys of the author's domain where we have them, otherwise with the forwarder's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import structlog

from relay.authenticate.author import AUTHORS, author_domains, doubtful_domains, from_fields
from relay.mail.address import domain_of, split, unquote
from relay.mail.domains import share_two_labels
from relay.mail.message import Message
from relay.rewrite.from_field import author_addresses
from relay.sign.covered_fields import names_octets
from relay.sign.dkim_signature import signature_fields
from relay.sign.keys import SigningKey
from relay.sign.signature_field import field_octets
from relay.sign.signing_table import SigningTable

log = structlog.get_logger()


class Signatures(NamedTuple):
    """The DKIM-Signature fields of a message, and the keys that made them."""

    fields: bytes = b""
    keys: tuple[SigningKey, ...] = ()


class Signer:
    """Signs with the keys that the signing table has for the author at the time of signing.

    Args:
        sealing: the key for ARC sets, if they have one of their own.
    """

    def __init__(self, table: SigningTable, sealing: SigningKey | None = None) -> None:
        self.table = table
        self.sealing = sealing
        self._has_keys = bool(table.rules or table.forwarder)
        self._warned = False

    @property
    def keys(self) -> tuple[SigningKey, ...]:
        """Every key once."""
        table_keys = self.table.keys
        names = {key.record_name for key in table_keys}
        is_known = self.sealing is None or self.sealing.record_name in names
        return table_keys if self.sealing is None or is_known else (*table_keys, self.sealing)

    def signatures(self, message: Message, now: float, *, proven: bool = True, ours: bool = False) -> Signatures:
        """The signatures of a message that leaves now; none without keys or without a From.

        Args:
            proven: the author's domain is proven to be the true one.
            ours: we wrote the message.
        """
        if len(from_fields(message)) > 1:
            return Signatures()  # several fields that some reader takes for From, also under a malformed name
        author = self._author(message)
        keys = self.table.select(*author, now, proven=proven)
        if not keys and self._has_keys and not self._warned:
            self._warned = True
            forwarder = [key.record_name for key in self.table.forwarder]
            mend = "neither the author's domain nor the forwarder has an active DKIM key: see `srs-relay keys list`"
            log.warning("unsigned", from_domain=author[1], forwarder=forwarder, mend=mend)
        if keys and (doubtful := doubtful_domains(message)):
            usable = tuple(key for key in keys if not _may_align_with(key.domain, doubtful))
            if len(usable) < len(keys):
                log.info("unsigned", from_domain=author[1], reason="some readers of From see an author of ours")
            keys = usable
        return Signatures(signature_fields(message, keys, int(now), ours=ours), keys) if keys else Signatures()

    def signs_as(self, domain: str, now: float) -> bool:
        """Whether mail of authors in a normal domain is signed with that domain (`d=`), and so passes DMARC."""
        return self.table.signs_as(domain, now)

    def sealing_key(self, now: float) -> SigningKey | None:
        """The key for ARC sets: their own, or the forwarder's. It has to be RSA (RFC 8617 has no other kind)."""
        keys = self.table.select("", "", now) if self.sealing is None else (self.sealing,)
        return next((key for key in keys if key.algorithm == "rsa-sha256"), None)

    def estimate(self, message: Message, now: float, *, ours: bool = False) -> tuple[int, int]:
        """How many signatures are made, and their greatest length, to announce a message's size (RFC 1870) before it
        is signed."""
        keys = self.table.select(*self._author(message), now)
        names = names_octets(message.fields, ours=ours) if keys else 0
        return len(keys), sum(field_octets(key) + names for key in keys)

    def _author(self, message: Message) -> tuple[str, str]:
        """The local part, if the table needs it, and the normal domain of the one author; empty if there is not one."""
        domains = author_domains(message) if self.table.rules else []
        if len(domains) != 1:
            return "", ""
        addresses = author_addresses(message) if self.table.needs_users else ()
        if len(addresses) != 1 or domain_of(addresses[0]) != domains[0]:
            return "", domains[0]
        return unquote(split(addresses[0]).local).lower(), domains[0]


def _may_align_with(domain: str, doubtful: Sequence[str]) -> bool:
    """Whether a signature of a domain may be in alignment with an author that only some readers see.

    Without asking DNS for organizational domains, two labels in common are enough.
    """
    return len(doubtful) > AUTHORS or any(share_two_labels(author, domain) for author in doubtful)

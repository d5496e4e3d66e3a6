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
from relay.sign.covered_fields import CoveredFields, covered_fields
from relay.sign.dkim_signature import fields_over
from relay.sign.keys import SigningKey
from relay.sign.signature_field import field_octets
from relay.sign.signing_table import SigningTable

log = structlog.get_logger()


class Unsigned(NamedTuple):
    """A message that is to be signed, and what its signatures depend on besides the keys.

    Attributes:
        covered: what they cover; None where the message is not signed: there is no key, or not exactly one From.
        user, domain: the local part of the one author, if the signing table needs it, and the normal domain; empty if
            there is not one author.
        proven: the author's domain is proven to be the true one.
    """

    message: Message
    covered: CoveredFields | None
    user: str
    domain: str
    proven: bool


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

    def unsigned(self, message: Message, *, proven: bool = True, ours: bool = False) -> Unsigned:
        """What the signatures of a message depend on.

        Args:
            proven: the author's domain is proven to be the true one.
            ours: we wrote the message.
        """
        can_sign = self._has_keys or self.sealing is not None
        covered = covered_fields(message.fields, ours=ours) if can_sign else None
        return Unsigned(message, covered, *self._author(message), proven)

    def signatures(self, unsigned: Unsigned, now: float) -> Signatures:
        """The signatures of a message that leaves now; none without keys or without a From."""
        message, covered = unsigned.message, unsigned.covered
        if len(from_fields(message)) > 1:
            return Signatures()  # several fields that some reader takes for From, also under a malformed name
        keys = self._keys(unsigned, now)
        if not keys and self._has_keys and not self._warned:
            self._warned = True
            forwarder = [key.record_name for key in self.table.forwarder]
            mend = "neither the author's domain nor the forwarder has an active DKIM key: see `srs-relay keys list`"
            log.warning("unsigned", from_domain=unsigned.domain, forwarder=forwarder, mend=mend)
        if keys and (doubtful := doubtful_domains(message)):
            usable = tuple(key for key in keys if not _may_align_with(key.domain, doubtful))
            if len(usable) < len(keys):
                log.info("unsigned", from_domain=unsigned.domain, reason="some readers of From see an author of ours")
            keys = usable
        if not keys or covered is None:
            return Signatures()
        return Signatures(fields_over(covered, message, keys, int(now)), keys)

    def signs_as(self, domain: str, now: float) -> bool:
        """Whether mail of authors in a normal domain is signed with that domain (`d=`), and so passes DMARC."""
        return self.table.signs_as(domain, now)

    def sealing_key(self, now: float) -> SigningKey | None:
        """The key for ARC sets: their own, or the forwarder's. It has to be RSA (RFC 8617 has no other kind)."""
        keys = self.table.select("", "", now) if self.sealing is None else (self.sealing,)
        return next((key for key in keys if key.algorithm == "rsa-sha256"), None)

    def estimate(self, unsigned: Unsigned, now: float) -> tuple[int, int]:
        """How many signatures are made, and their greatest length, to announce a message's size (RFC 1870) before it
        is signed."""
        if unsigned.covered is None:
            return 0, 0
        keys, names = self._keys(unsigned, now), unsigned.covered.names_octets
        return len(keys), sum([field_octets(key) + names for key in keys])

    def _keys(self, unsigned: Unsigned, now: float) -> tuple[SigningKey, ...]:
        return self.table.select(unsigned.user, unsigned.domain, now, proven=unsigned.proven)

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

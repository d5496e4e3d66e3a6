"""Which of our keys sign a message: the author's domain signs as itself, everything else as the forwarder."""

from __future__ import annotations

from collections.abc import Sequence

import structlog

from relay.authenticate.author import AUTHORS, author_domains, doubtful_domains, from_fields
from relay.mail.address import domain_of, split, unquote
from relay.mail.domains import share_two_labels
from relay.mail.message import Message
from relay.rewrite.from_field import authors
from relay.sign.covered_fields import names_octets
from relay.sign.dkim_signature import signature_fields
from relay.sign.keys import SigningKey
from relay.sign.signature_field import field_octets
from relay.sign.signing_table import SigningTable

log = structlog.get_logger()


class Signer:
    """Signs with the keys that the table has for the author at the time of signing.

    Args:
        sealing: the key for ARC sets, where it has one of its own.
    """

    def __init__(self, table: SigningTable, sealing: SigningKey | None = None) -> None:
        self.table = table
        self.sealing = sealing
        self._has_keys = bool(table.rules or table.forwarder)
        self._warned = False

    @property
    def keys(self) -> tuple[SigningKey, ...]:
        """Every key, each once."""
        own = self.table.keys
        names = {key.record_name for key in own}
        return own if self.sealing is None or self.sealing.record_name in names else (*own, self.sealing)

    def fields(self, message: Message, now: float, *, proven: bool = True, ours: bool = False) -> bytes:
        """The DKIM-Signature fields for a message that leaves now; nothing without keys or without a From.

        Args:
            proven: it is certain that the author's domain is the true one.
            ours: we wrote the message.
        """
        if len(from_fields(message)) > 1:
            return b""  # of several that some reader takes for From, also under a name that is none
        author = self._author(message)
        keys = self.table.select(*author, now, proven=proven)
        if not keys and self._has_keys and not self._warned:
            self._warned = True
            forwarder = [key.record_name for key in self.table.forwarder]
            mend = "neither the author's domain nor the forwarder has an active DKIM key: see `srs-relay keys list`"
            log.warning("unsigned", from_domain=author[1], forwarder=forwarder, mend=mend)
        if keys and (doubtful := doubtful_domains(message)):
            found, keys = keys, tuple(key for key in keys if not _may_speak_for(key.domain, doubtful))
            if len(keys) < len(found):
                log.info("unsigned", from_domain=author[1], reason="some readers of From see an author of ours")
        return signature_fields(message, keys, int(now), ours=ours) if keys else b""

    def signs_as(self, domain: str, now: float) -> bool:
        """Whether mail of authors in that normal domain is signed with that domain (`d=`), and so passes DMARC."""
        return self.table.signs_as(domain, now)

    def sealing_key(self, now: float) -> SigningKey | None:
        """The key for ARC sets, which has to be RSA (RFC 8617 knows nothing else): its own, or the forwarder's."""
        keys = self.table.select("", "", now) if self.sealing is None else (self.sealing,)
        return next((key for key in keys if key.algorithm == "rsa-sha256"), None)

    def octets(self, message: Message, now: float, *, ours: bool = False) -> tuple[int, int]:
        """How many fields `fields` makes, and how long all of them may get, to announce a message's size (RFC 1870)
        before it is signed."""
        keys = self.table.select(*self._author(message), now)
        names = names_octets(message.fields, ours=ours) if keys else 0
        return len(keys), sum(field_octets(key) + names for key in keys)

    def _author(self, message: Message) -> tuple[str, str]:
        """The user, where the table needs to know, and the normal domain of the one author; otherwise nobody."""
        domains = author_domains(message) if self.table.rules else []
        if len(domains) != 1:
            return "", ""
        named = authors(message) if self.table.needs_users else ()
        if len(named) != 1 or domain_of(named[0]) != domains[0]:
            return "", domains[0]
        return unquote(split(named[0]).local).lower(), domains[0]


def _may_speak_for(domain: str, doubtful: Sequence[str]) -> bool:
    """Whether a signature of a domain may be in alignment with an author whom only some readers see.

    Which domains belong together is for DNS to say; without it two labels in common are enough.
    """
    return len(doubtful) > AUTHORS or any(share_two_labels(one, domain) for one in doubtful)

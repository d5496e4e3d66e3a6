"""Tells whether DNS has the public half of a key, as verifiers look it up (RFC 6376 section 3.6)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from relay.authenticate import public_key
from relay.dns import DnsFailure
from relay.mail.tag_list import Unverified, tag_list
from relay.sign.keys import SigningKey

State = Literal["matches", "missing", "differs", "revoked", "no answer"]


@dataclass(frozen=True, slots=True)
class Published:
    """The state of a key's record in DNS.

    Attributes:
        problem: why the record does not match, for a person; empty if the state says all.
    """

    state: State
    problem: str = ""


def compare(key: SigningKey, records: public_key.Records) -> Published:
    """Compares a key with all TXT records of its name. Never raises for what they say."""
    if isinstance(records, DnsFailure):
        return Published("no answer", str(records))
    if not records:
        return Published("missing")
    if len(records) > 1:
        return Published("differs", f"DNS has {len(records)} records under the name, and verifiers take any of them")
    try:
        if tag_list(records[0]).get("p") == "":
            return Published("revoked")
        published = public_key.parse_record(records[0], key.algorithm)
    except Unverified as error:
        return Published("differs", str(error))
    return Published("matches") if key.is_published_as(published.public) else Published("differs", "it is another key")

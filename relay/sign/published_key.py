"""Whether DNS has the public half of a key, as a verifier will look for it (RFC 6376 section 3.6)."""

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
    """What DNS has for a key.

    Attributes:
        problem: why it is no match, for a person; empty where the state says all.
    """

    state: State
    problem: str = ""


def compare(key: SigningKey, records: public_key.Records) -> Published:
    """The state of a key's record, of all the TXT records that its name has. Never raises for what they say."""
    if isinstance(records, DnsFailure):
        return Published("no answer", str(records))
    if not records:
        return Published("missing")
    if len(records) > 1:
        return Published("differs", f"DNS has {len(records)} records under the name, and verifiers take any of them")
    try:
        if tag_list(records[0]).get("p") == "":
            return Published("revoked")
        found = public_key.read(records[0], key.algorithm)
    except Unverified as error:
        return Published("differs", str(error))
    return Published("matches") if key.is_published_as(found.public) else Published("differs", "it is another key")

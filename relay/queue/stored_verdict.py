"""What the queue keeps of a message's examination, for the stages that come after it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class NextSeal:
    """The ARC set that we may add (RFC 8617 section 5.1).

    Attributes:
        cv: its chain validation status.
        instance: its number.
        useful: it tells the next hop what that cannot see by itself, see `Examination.seal_is_useful`.
    """

    cv: Literal["none", "pass"]
    instance: int
    useful: bool = True

    def to_json(self) -> dict[str, Any]:
        """The value as the queue stores it."""
        return {"cv": self.cv, "instance": self.instance, "useful": self.useful}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> NextSeal:
        """The value behind `to_json`. Without `useful`, which older versions do not store, it counts as useful."""
        return cls(stored["cv"], stored["instance"], stored.get("useful", True))


@dataclass(frozen=True, slots=True)
class StoredVerdict:
    """The part of an examination that is stored with the message.

    Attributes:
        trusted: the client was a trusted one.
        spf: the SPF result for the envelope sender; empty where nobody knows.
        dmarc: the DMARC result; empty where nobody knows.
        aligned: the methods, of `spf` and `dkim`, that passed in the name of the author's domain.
        sender_signed: a passing DKIM signature has the organizational domain of the envelope sender.
        unforwardable: DMARC would fail at the next hop unless From is rewritten.
        authors: the author domains that are proven.
        seal: the ARC set that we may add; None where the chain must not be extended.
        own: we wrote the message ourselves.
    """

    trusted: bool = False
    spf: str = ""
    dmarc: str = ""
    aligned: tuple[str, ...] = ()
    sender_signed: bool = False
    unforwardable: bool = False
    authors: tuple[str, ...] = ()
    seal: NextSeal | None = None
    own: bool = False

    @property
    def sender_allowed(self) -> bool:
        """Whether the client may use the envelope sender: by our trust, or by SPF."""
        return self.trusted or self.spf == "pass"

    @property
    def sender_proven(self) -> bool:
        """Whether the envelope sender is its owner's: by our trust, by SPF, or by a signature of its domain."""
        return self.sender_allowed or self.sender_signed

    @property
    def author_proven(self) -> bool:
        """Whether the author is known to be the true one: by our trust, or by DMARC."""
        return self.trusted or bool(self.authors)

    def to_json(self) -> dict[str, Any]:
        """The value as the queue stores it, and `srs-relay queue show` prints it."""
        if self.own:
            return {"trusted": True, "ours": True}
        return {
            "trusted": self.trusted,
            "spf": self.spf,
            "dmarc": self.dmarc,
            "aligned": list(self.aligned),
            "sender_aligned": self.sender_signed,
            "unforwardable": self.unforwardable,
            "authors": list(self.authors),
            "seal": None if self.seal is None else self.seal.to_json(),
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> StoredVerdict:
        """The value behind `to_json`. A key that is missing proves nothing."""
        seal = stored.get("seal")
        return cls(
            trusted=bool(stored.get("trusted")),
            spf=stored.get("spf", ""),
            dmarc=stored.get("dmarc", ""),
            aligned=tuple(stored.get("aligned", ())),
            sender_signed=bool(stored.get("sender_aligned")),
            unforwardable=bool(stored.get("unforwardable")),
            authors=tuple(stored.get("authors", ())),
            seal=NextSeal.from_json(seal) if seal else None,
            own=bool(stored.get("ours")),
        )


OWN_MESSAGE = StoredVerdict(trusted=True, own=True)
"""The verdict on a message that we wrote ourselves."""

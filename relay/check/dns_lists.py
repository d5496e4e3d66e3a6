"""The DNS lists (RFC 5782) that many receivers ask, and what their answers mean."""

from __future__ import annotations

from dataclasses import dataclass, field

from relay.check.finding import Level


@dataclass(frozen=True, slots=True)
class DnsList:
    """A list.

    Attributes:
        level: what a listing means: whether many receivers refuse mail for it.
        delist: where to ask for removal.
        ipv6: it has IPv6 addresses.
        never: what is never listed (RFC 5782 section 5); a list that has closed may list it, and everybody else.
        meanings: of its answers; others just mean that the subject is listed.
    """

    zone: str
    level: Level
    delist: str
    ipv6: bool = False
    never: str = "127.0.0.1"
    meanings: dict[str, str] = field(default_factory=dict)

    def meaning(self, answer: str) -> str:
        """What an answer says of the subject."""
        return self.meanings.get(answer, "listed")


_PBL = "listed by policy (PBL): its network says that no mail servers are there"
ADDRESS_LISTS = (
    DnsList(
        "zen.spamhaus.org",
        "error",
        "https://check.spamhaus.org/",
        ipv6=True,
        meanings={
            "127.0.0.2": "listed (SBL: spam comes from there)",
            "127.0.0.3": "listed (SBL CSS: mail from there looks like spam)",
            **{f"127.0.0.{last}": "listed (XBL: the host looks infected)" for last in (4, 5, 6, 7)},
            "127.0.0.9": "listed (SBL DROP: the network is hijacked or given to spammers)",
            "127.0.0.10": _PBL,
            "127.0.0.11": _PBL,
        },
    ),
    DnsList("bl.spamcop.net", "error", "https://www.spamcop.net/bl.shtml"),
    DnsList("b.barracudacentral.org", "error", "https://www.barracudacentral.org/rbl/removal-request"),
    DnsList("psbl.surriel.com", "warning", "https://psbl.org/remove"),
    DnsList("dnsbl-1.uceprotect.net", "warning", "https://www.uceprotect.net/en/rblcheck.php"),
)
DOMAIN_LISTS = (DnsList("dbl.spamhaus.org", "error", "https://check.spamhaus.org/", never="invalid"),)

"""What a trusted client's own MTA found out about the mail that it hands over: its Authentication-Results (RFC 8601).

The usual relayhost: Postfix takes mail in, its milters check it, and each of them writes a field under an authserv-id;
then Postfix hands the mail to us. MTAs have to remove forged fields (section 5), and not all of them do. So a field is
believed only where those of the MTA stand, and each method only in the topmost field that speaks of it: what a sender
wrote is always below what the MTA put on top.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from typing import cast, get_args

from relay.authenticate import dmarc, spf
from relay.authenticate.dkim import DkimVerdict
from relay.authenticate.dmarc import DmarcVerdict
from relay.authenticate.dmarc_record import POLICIES, Policy
from relay.authenticate.results_field import MethodResult, read, results_field
from relay.authenticate.spf import SpfVerdict
from relay.mail import tag_list as tags
from relay.mail.address import normal_domain, split
from relay.mail.message import HeaderField, Message
from relay.mail.reply import printable

SCANNED_OCTETS = 8192  # of Authentication-Results in one message; ten signatures and all else take 3000
RECEIVED_OCTETS = 2048  # of one Received field; who writes a longer one is not known to us

# RFC 5322 sections 3.6.1 to 3.6.5, RFC 2045: what every author's program writes. MTAs put theirs above.
_OF_THE_AUTHOR = frozenset(("date", "from", "sender", "reply-to", "to", "cc", "message-id", "subject", "mime-version"))
_POLICY = re.compile(r"\bp(?:olicy)?\s*+=\s*+(none|quarantine|reject)\b", re.IGNORECASE)
_BETWEEN_WORDS = re.compile(r"[][()<>,;=\s]+")


@dataclass(frozen=True, slots=True)
class Vouched:
    """What an MTA says.

    Attributes:
        authserv_id: the topmost of its names.
        results: that are believed, top to bottom.
        fields: in which they stand.
    """

    authserv_id: str
    results: tuple[MethodResult, ...]
    fields: tuple[HeaderField, ...]

    @property
    def value(self) -> bytes:
        """All of it as the value of one Authentication-Results field, unfolded, for an ARC set of ours."""
        return HeaderField("", results_field(self.authserv_id, self.results)).value

    def spf_verdict(self, sender: str) -> SpfVerdict | None:
        """SPF of MAIL FROM, or of the EHLO name for the null sender; None where it does not say."""
        for one in self._of("spf", spf.Result):
            mailfrom, helo = one.first("smtp.mailfrom", "smtp.mail"), one.first("smtp.helo")
            if not sender:
                return SpfVerdict(cast(spf.Result, one.result), "helo", _domain(helo or mailfrom))
            if mailfrom:
                return SpfVerdict(cast(spf.Result, one.result), "mailfrom", _domain(mailfrom))
        return None

    def dkim_verdicts(self) -> tuple[DkimVerdict, ...] | None:
        """The result of each signature that it says something of; None where it says nothing of DKIM."""
        if not any(one.method == "dkim" for one in self.results):
            return None
        return tuple(
            DkimVerdict(
                cast(tags.Result, one.result),
                _domain(one.first("header.d", "header.i")),
                printable(one.first("header.s")),
                printable(one.first("header.a")),
                problem=printable(one.comment) if one.result != "pass" else "",
            )
            for one in self._of("dkim", tags.Result)
        )

    def dmarc_verdict(self, ours: DmarcVerdict) -> DmarcVerdict:
        """What it says of DMARC for the same author; what it does not say stays as we found it.

        Args:
            ours: evaluated from its SPF and DKIM. Its policy goes before a stated one, which is often not the one for
                subdomains.
        """
        for one in self._of("dmarc", dmarc.Result):
            author = one.first("header.from")
            if not author or _domain(author) == ours.domain:
                stated = one.first("policy.dmarc").lower() or next(iter(_POLICY.findall(one.comment)), "").lower()
                policy = ours.policy or (cast(Policy, stated) if stated in POLICIES else "")
                return replace(ours, result=cast(dmarc.Result, one.result), policy=policy)
        return ours

    def result_of(self, method: str) -> str:
        """The first result of a method; empty where it does not say."""
        return next((one.result for one in self.results if one.method == method), "")

    def _of(self, method: str, registered: object) -> Iterator[MethodResult]:
        return (one for one in self.results if one.method == method and one.result in get_args(registered))


def vouched(message: Message, authserv_ids: Collection[str]) -> Vouched | None:
    """What the MTA with these ids says of a message; None where it says nothing. Never raises.

    Args:
        authserv_ids: normal domains.
    """
    if not authserv_ids:
        return None
    speaker, results, fields = "", list[MethodResult](), list[HeaderField]()
    for field in _where_it_writes(message):
        name, found = read(field.value.decode("utf-8", "replace"))
        said = {one.method for one in results}
        new = [one for one in found if one.method not in said]
        if new and name in authserv_ids:
            speaker = speaker or name
            results += new
            fields.append(field)
    return Vouched(speaker, tuple(results), tuple(fields)) if results else None


def passes_dmarc(value: str, author: str) -> bool:
    """Whether a value of Authentication-Results or ARC-Authentication-Results says that DMARC passed for an author.

    Args:
        author: a normal domain; another one in `header.from` does not count.
    """
    said = read(value)[1] if len(value) <= SCANNED_OCTETS else ()
    found = next((one for one in said if one.method == "dmarc"), None)
    if found is None or found.result != "pass":
        return False
    stated = found.first("header.from")
    return not stated or _domain(stated) == author


def _where_it_writes(message: Message) -> Iterator[HeaderField]:
    """The Authentication-Results that the MTA may have written itself.

    They stand above or right below the Received field that it wrote when it took the message from outside: milters put
    them below, policy services above. What came in with the message is below the next Received field, or at the latest
    among what the author wrote. A Received field that names no client but this host tells of a content filter, or of
    mail that a delivery agent sent on: the one that we look for is still to come.
    """
    from_outside, scanned = False, 0
    for field in message.fields:
        if field.name == "received":
            if from_outside:
                return
            from_outside = _names_a_client(field)
        elif field.name == "authentication-results":
            scanned += len(field.raw)
            if scanned > SCANNED_OCTETS:
                return
            yield field
        elif field.name in _OF_THE_AUTHOR:
            return


def _names_a_client(received: HeaderField) -> bool:
    """Whether a Received field has an address in its from clause that is not loopback (RFC 5321 section 4.4).

    A client chooses its EHLO name, which may look like an address or like the clauses that follow; so everything up to
    the last ` by ` is looked at, and one foreign address is enough.
    """
    if len(received.raw) > RECEIVED_OCTETS:
        return True
    value = " ".join(received.value.decode("ascii", "replace").split())
    origin, by, host = value.rpartition(" by ")
    for word in _BETWEEN_WORDS.split(origin if by else host):
        try:
            if not ipaddress.ip_address(word.lower().removeprefix("ipv6:")).is_loopback:
                return True
        except ValueError:
            continue
    return False


def _domain(address: str) -> str:
    """The normal domain of an address, or of what is a domain alone."""
    address = address.strip("<>")
    return printable(normal_domain(split(address).domain or address))

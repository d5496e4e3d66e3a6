"""Trusted results: the Authentication-Results (RFC 8601) that a trusted client's own MTA gives the mail it hands over.

On the usual relayhost Postfix takes mail in, its milters check it, each of them writes a field under an authserv-id,
and then Postfix hands the mail to us. MTAs have to remove forged fields (section 5), but not all of them do. So a field
is believed only where the MTA's own fields stand, and each method only in the topmost field that has it: what a sender
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
from relay.authenticate.results_field import MethodResult, read_results, results_field
from relay.authenticate.spf import SpfVerdict
from relay.mail import tag_list
from relay.mail.address import normal_domain, split
from relay.mail.message import HeaderField, Message
from relay.mail.reply import printable

SCANNED_OCTETS = 8192  # of Authentication-Results in one message; ten signatures and all else take 3000
RECEIVED_OCTETS = 2048  # of one Received field; a longer one counts as naming a client from outside

# RFC 5322 sections 3.6.1 to 3.6.5, RFC 2045: fields that every mail program writes. MTAs put theirs above.
_AUTHOR_FIELDS = frozenset(("date", "from", "sender", "reply-to", "to", "cc", "message-id", "subject", "mime-version"))
_POLICY = re.compile(r"\bp(?:olicy)?\s*+=\s*+(none|quarantine|reject)\b", re.IGNORECASE)
_BETWEEN_WORDS = re.compile(r"[][()<>,;=\s]+")


@dataclass(frozen=True, slots=True)
class TrustedResults:
    """The results of an MTA that are believed.

    Attributes:
        authserv_id: the topmost of its authserv-ids.
        results: top to bottom.
        fields: the fields that have them.
    """

    authserv_id: str
    results: tuple[MethodResult, ...]
    fields: tuple[HeaderField, ...]

    @property
    def value(self) -> bytes:
        """All results as the value of one Authentication-Results field, unfolded, for an ARC set of ours."""
        return HeaderField("", results_field(self.authserv_id, self.results)).value

    def spf_verdict(self, sender: str) -> SpfVerdict | None:
        """The SPF verdict for MAIL FROM, or for the EHLO name if the sender is null; None without such a result."""
        for result in self._of("spf", spf.Result):
            mailfrom, helo = result.first("smtp.mailfrom", "smtp.mail"), result.first("smtp.helo")
            if not sender:
                return SpfVerdict(cast(spf.Result, result.result), "helo", _domain(helo or mailfrom))
            if mailfrom:
                return SpfVerdict(cast(spf.Result, result.result), "mailfrom", _domain(mailfrom))
        return None

    def dkim_verdicts(self) -> tuple[DkimVerdict, ...] | None:
        """The verdict on each signature; None if there is no DKIM result at all."""
        if not any(result.method == "dkim" for result in self.results):
            return None
        return tuple(
            DkimVerdict(
                cast(tag_list.Result, result.result),
                _domain(result.first("header.d", "header.i")),
                printable(result.first("header.s")),
                printable(result.first("header.a")),
                problem=printable(result.comment) if result.result != "pass" else "",
            )
            for result in self._of("dkim", tag_list.Result)
        )

    def dmarc_verdict(self, ours: DmarcVerdict) -> DmarcVerdict:
        """Our DMARC verdict with the MTA's result for the same author, if it has one.

        Args:
            ours: evaluated from the MTA's SPF and DKIM results. Its policy takes precedence over the MTA's, which is
                often not the one for subdomains.
        """
        for result in self._of("dmarc", dmarc.Result):
            author = result.first("header.from")
            if not author or _domain(author) == ours.domain:
                stated = result.first("policy.dmarc").lower() or next(iter(_POLICY.findall(result.comment)), "").lower()
                policy = ours.policy or (cast(Policy, stated) if stated in POLICIES else "")
                return replace(ours, result=cast(dmarc.Result, result.result), policy=policy)
        return ours

    def result_of(self, method: str) -> str:
        """The first result of a method; empty without one."""
        return next((result.result for result in self.results if result.method == method), "")

    def _of(self, method: str, registered: object) -> Iterator[MethodResult]:
        return (result for result in self.results if result.method == method and result.result in get_args(registered))


def find_trusted_results(message: Message, authserv_ids: Collection[str]) -> TrustedResults | None:
    """The results of the MTA with these authserv-ids; None if it has none. Never raises.

    Args:
        authserv_ids: normal domains.
    """
    if not authserv_ids:
        return None
    topmost_id, results, fields = "", list[MethodResult](), list[HeaderField]()
    for field in _fields_of_the_mta(message):
        authserv_id, field_results = read_results(field.value.decode("utf-8", "replace"))
        known_methods = {result.method for result in results}
        new = [result for result in field_results if result.method not in known_methods]
        if new and authserv_id in authserv_ids:
            topmost_id = topmost_id or authserv_id
            results += new
            fields.append(field)
    return TrustedResults(topmost_id, tuple(results), tuple(fields)) if results else None


def passes_dmarc(value: str, author: str) -> bool:
    """Whether a value of Authentication-Results or ARC-Authentication-Results says that DMARC passed for an author.

    Args:
        author: a normal domain; a result for another one (`header.from`) does not count.
    """
    results = read_results(value)[1] if len(value) <= SCANNED_OCTETS else ()
    dmarc_result = next((result for result in results if result.method == "dmarc"), None)
    if dmarc_result is None or dmarc_result.result != "pass":
        return False
    stated = dmarc_result.first("header.from")
    return not stated or _domain(stated) == author


def _fields_of_the_mta(message: Message) -> Iterator[HeaderField]:
    """The Authentication-Results that the MTA may have written itself.

    They stand above or right below the Received field that it wrote when it took the message from outside: milters put
    them below it, policy services above it. What came in with the message is below the next Received field, or at the
    latest among the author's own fields. A Received field that names only this host is that of a content filter or of
    a delivery agent that sent the mail on; then the MTA's own is further below.
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
        elif field.name in _AUTHOR_FIELDS:
            return


def _names_a_client(received: HeaderField) -> bool:
    """Whether a Received field has an address in its from clause that is not loopback (RFC 5321 section 4.4).

    A client chooses its EHLO name, which may look like an address or like the clauses that follow. So everything up to
    the last ` by ` is searched, and one foreign address is enough.
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
    """The normal domain of an address, or of a text that is a domain alone."""
    address = address.strip("<>")
    return printable(normal_domain(split(address).domain or address))

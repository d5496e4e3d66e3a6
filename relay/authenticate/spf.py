"""SPF (RFC 7208): whether an address may send for a domain. pyspf stands behind this file and nowhere else.

pyspf evaluates a record as a plain function that wants its DNS answers at once. Each check runs it in a greenlet of its
own, which steps aside whenever it has a question, so that the answers come from our resolver and nothing ever blocks.
`_Query` also closes what pyspf 2.0.14 does otherwise than the RFC; each method says what.
"""

from __future__ import annotations

import asyncio
import re
import socket
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import quote

import spf
from greenlet import getcurrent, greenlet

from relay.dns import Answer, DnsFailure, Resolver, TooManyQuestions
from relay.mail.address import normal_domain, split, unquote
from relay.mail.reply import printable

Result = Literal["none", "neutral", "pass", "fail", "softfail", "temperror", "permerror"]
Identity = Literal["mailfrom", "helo"]

CHECK_SECONDS = 20.0  # RFC 7208 section 4.6.4: the whole evaluation, its DNS included
TURN = 0.005  # seconds of evaluation after which others get their turn: answers from the cache make no pause
VOID_LOOKUPS = 2  # RFC 7208 section 4.6.4: terms whose questions found nothing
PTR_NAMES = 10  # RFC 7208 section 4.6.4
NAME_OCTETS = 253  # RFC 7208 section 7.3: an expanded name is cut from the left to this
RECORD_OCTETS = 8192  # many times what RFC 7208 section 3.4 asks for (512); evaluating it stays below 20 ms
EXPLANATION_OCTETS = 300  # leaves room for our own words in a reply line of 512 (RFC 5321 section 4.5.3.1.5)

_MODIFIER = re.compile(r"([A-Za-z][A-Za-z0-9_.-]*)=")
_ALL = re.compile(r"[+?~-]?all\Z", re.IGNORECASE)
_TOPLABEL = re.compile(r"(?![0-9]+\Z)[0-9A-Za-z](?:[0-9A-Za-z-]*[0-9A-Za-z])?\Z")  # RFC 7208 section 7.1
_ENDS_IN_MACRO = re.compile(r"%(?:[%_-]|\{[^{}]*\})\Z")
# RFC 7208 section 7.1; the number of parts is not zero (section 7.3)
_MACRO = re.compile(r"%(?:([%_-])|\{([slodiphcrtv])((?:0{0,9}[1-9][0-9]{0,9})?)(r?)([.+,/_=-]*)\})", re.IGNORECASE)
_IP4 = re.compile(rf"([+?~-]?)ip4:({spf.PAT_IP4})(?:/(3[0-2]|[12][0-9]|[0-9]))?\Z", re.IGNORECASE)
_ESCAPES = {"%": "%", "_": " ", "-": "%20"}


@dataclass(frozen=True, slots=True)
class SpfVerdict:
    """What SPF says.

    Attributes:
        result: RFC 7208 section 2.6.
        identity: which name was checked (RFC 7208 sections 2.3, 2.4).
        domain: of that identity, in A-labels, as printable ASCII.
        explanation: on fail, what the domain's owner has to say (section 6.2), as printable ASCII; may be empty.
        problem: on temperror and permerror, what went wrong, and on none, why nothing was checked, as printable ASCII.
    """

    result: Result
    identity: Identity
    domain: str
    explanation: str = ""
    problem: str = ""


async def check(resolver: Resolver, *, ip: str, helo: str, sender: str, receiver: str) -> SpfVerdict:
    """check_host() of RFC 7208 section 4 for the sender, or for the EHLO name where the sender is null (section 2.4).

    Args:
        ip: of the client; an IPv4-mapped IPv6 address counts as IPv4 (section 5).
        helo: the argument of EHLO, as sent.
        sender: the address of MAIL FROM, empty for the null sender.
        receiver: the host that checks, for the macro `%{r}`.

    Raises:
        ValueError: `ip` is no address.
    """
    identity: Identity = "mailfrom" if sender else "helo"
    local, domain = split(sender) if sender else ("postmaster", helo)
    domain = normal_domain(domain)
    shown = printable(domain)
    if not _is_host_name(domain):
        return SpfVerdict("none", identity, shown)
    query = _Query(ip, helo, unquote(local) or "postmaster", domain, receiver)
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            problem = await _answered(query, resolver)
    except TimeoutError:
        # Without a result by now it is a temperror; a result that lacks its explanation stands.
        problem = f"no result within {CHECK_SECONDS:g} s, still waiting for {query.asking}"
    if query.result in ("temperror", "permerror"):
        return SpfVerdict(query.result, identity, shown, problem=printable(problem))
    return SpfVerdict(query.result, identity, shown, printable(query.explanation, EXPLANATION_OCTETS))


def unchecked(reason: str, *, helo: str, sender: str) -> SpfVerdict:
    """`none`, for a client whose address says nothing of the sender; `reason` goes into Authentication-Results."""
    domain = printable(normal_domain(split(sender).domain if sender else helo))
    return SpfVerdict("none", "mailfrom" if sender else "helo", domain, problem=f"not checked, {reason}")


def _is_host_name(domain: str) -> bool:
    """RFC 7208 section 4.3: a literal, a single label and what DNS cannot hold have no SPF."""
    labels = domain.split(".")
    return len(labels) > 1 and domain[0] != "[" and len(domain) <= NAME_OCTETS and all(0 < len(x) < 64 for x in labels)


async def _answered(query: _Query, resolver: Resolver) -> str:
    """Run the query in a greenlet and answer its questions; returns what is wrong, if anything is."""
    query.asking = query.d
    try:
        query.first = await resolver.query(query.d, "TXT")
    except DnsFailure as failure:
        query.result = "permerror" if isinstance(failure, TooManyQuestions) else "temperror"
        return str(failure)
    loop = asyncio.get_running_loop()
    evaluation = _idle.pop() if _idle else greenlet(_evaluate)
    done = False
    try:
        began = loop.time()
        step = evaluation.switch(query)
        while isinstance(step, tuple):
            if loop.time() - began > TURN:
                await asyncio.sleep(0)
                began = loop.time()
            query.asking = step[0]
            try:
                answer = await resolver.query(*step)
            except TooManyQuestions as failure:  # a processing limit (RFC 7208 section 4.6.4)
                step = evaluation.throw(spf.PermError(str(failure)))
            except DnsFailure as failure:
                step = evaluation.throw(spf.TempError(str(failure)))
            else:
                step = evaluation.switch(answer)
        done = True
        return str(step)
    finally:
        if done:
            _idle.append(evaluation)
        elif not evaluation.dead:
            evaluation.throw()  # the check was given up: unwind it


_idle: list[Any] = []  # greenlets, kept because making one takes as long as evaluating a short record


def _evaluate(query: _Query) -> None:
    """The life of a greenlet: one query after another, the outcome of each for whoever brought it."""
    while True:
        query = getcurrent().parent.switch(query.evaluate())


class _Query(spf.query):  # type: ignore[misc]
    """One check: pyspf's evaluation with our DNS, and nearer to the RFC.

    `first` is the answer to the first question, which is always for the domain's TXT: most records need no other, and
    the greenlet then never has to step aside. `asking` is the name that was asked for last.
    """

    result: Result = "temperror"
    asking = ""
    explanation = ""
    first: Answer | None = None

    def __init__(self, ip: str, helo: str, local: str, domain: str, receiver: str) -> None:
        try:
            super().__init__(i=ip, s=f"{local}@{domain}", h=helo, receiver=receiver)
        except spf.PermError as error:
            raise ValueError(str(error)) from None
        self.l, self.o, self.d = local, domain, domain  # pyspf splits at the first @, quoted or not
        self._number = int(self.ipaddr)
        self._names: list[str] | None = None
        self._exp: tuple[str, str] | None = None
        self._void = False

    def evaluate(self) -> str:
        """Set `result` and `explanation`; returns what is wrong, if anything is."""
        self.result, _, text = self.check()
        if self.result == "fail" and self._exp is not None:
            self.d, name = self._exp
            try:
                self.explanation = self.get_explanation(name) or ""
            except spf.TempError:
                pass  # RFC 7208 section 6.2: as if there were no exp=
        return str(text).partition(": ")[2]

    def dns(self, name: str, qtype: str, cnames: object = None, ignore_void: bool = False) -> list[Any]:
        """The records, CNAMEs followed by the resolver.

        A term counts as void once, however many questions it takes (section 4.6.4): an MX without AAAA is no error of
        the domain when the client comes by IPv6. pyspf counts every question, and every link of a CNAME chain.
        """
        if not name.isascii():  # it comes from a local part, and such a name matches nothing (RFC 8616 section 4)
            return []
        answer, self.first = self.first, None
        if answer is None:
            answer = getcurrent().parent.switch((name, qtype))
        if not (answer.records or ignore_void or self._void):
            self._void = True
            self.void_lookups += 1
            if self.void_lookups > VOID_LOOKUPS:
                raise spf.PermError(f"more than {VOID_LOOKUPS} terms found nothing in DNS")
        return list(answer.records)

    def check_lookups(self) -> None:
        """pyspf comes by here with each term that asks DNS."""
        self._void = False
        super().check_lookups()

    def check0(self, record: str | None, recursion: int) -> Any:
        """Evaluate one record.

        Modifiers are read here: their names in any case (section 4.6.1), unknown ones as often as they stand there
        (section 6), redirect= ignored beside `all` (section 6.1), exp= asked for at the end, and only on fail (section
        6.2). Anything but visible ASCII and spaces is an error (section 4.6.1), met or not.
        """
        if not record:
            return super().check0(record, recursion)
        if len(record) > RECORD_OCTETS or not record.isprintable():
            raise spf.PermError(f"the record of {self.d} is too long or has control characters")
        terms: list[str] = []
        modifiers: dict[str, str] = {}
        for term in record.split(" ")[1:]:
            modifier = _MODIFIER.match(term)
            if modifier is None:
                terms.append(term)
                continue
            name, value = modifier.group(1).lower(), term[modifier.end() :]
            if name not in ("exp", "redirect"):
                _require_macro_syntax(value)
            elif name in modifiers:
                raise spf.PermError(f"{name}= MUST NOT appear twice", self.d)
            else:
                modifiers[name] = value
        exp = self.expand_domain(modifiers["exp"]) if "exp" in modifiers else ""
        redirect = self.expand_domain(modifiers["redirect"]) if "redirect" in modifiers else ""
        if redirect and not any(_ALL.match(term) for term in terms):
            terms.append(f"redirect={modifiers['redirect']}")
        if recursion == 0:
            self._exp = (self.d, exp) if exp else None
        return super().check0(" ".join(["v=spf1", *terms]), recursion)

    def validate_mechanism(self, mech: str) -> Any:
        """Name, argument, prefix length and result of a term. ip4, which most terms are, is read by one expression."""
        ip4 = _IP4.match(mech)
        if ip4 is not None:
            qualifier, address, prefix = ip4.groups()
            return mech, "ip4", address, int(prefix or 32), spf.RESULTS[qualifier or "+"]
        try:
            return super().validate_mechanism(mech)
        except ValueError:  # a prefix length of thousands of digits
            raise spf.PermError("Invalid CIDR length", mech[:40]) from None

    def cidrmatch(self, ipaddrs: list[str], n: int) -> bool:
        """Whether the client shares the first `n` bits with one of them. pyspf builds two networks for each."""
        shift = self.cidrmax - n
        client = self._number >> shift
        try:
            return any(_number(address) >> shift == client for address in ipaddrs)
        except OSError as error:
            raise spf.PermError(str(error)) from None

    def validated_ptrs(self) -> list[str]:
        """The client's names (section 5.5), asked for once: what DNS does not tell is passed over."""
        if self._names is None:
            try:
                names = self.dns_ptr(self.i)[:PTR_NAMES]
            except spf.TempError:
                names = []
            self._names = [name for name in names if self._is_client(name)]
        return self._names

    def _is_client(self, name: str) -> bool:
        try:
            return bool(self.cidrmatch(self.dns(name, self.A, ignore_void=True), self.cidrmax))
        except spf.TempError:
            return False

    def expand_domain(self, spec: str) -> str:
        """The name that a domain-spec stands for (section 7.1). pyspf takes quadratic time for a long one."""
        if spec == self.d:
            return spec  # implied: a name already, and no domain-spec
        _, dot, toplabel = spec.removesuffix(".").rpartition(".")
        if not (_ENDS_IN_MACRO.search(spec) or (dot and _TOPLABEL.match(toplabel))):
            raise spf.PermError("Invalid domain found (use FQDN)", spec)
        return self.expand(spec)

    def expand(self, text: str, stripdot: bool = True) -> str:
        """Expand macros (section 7), in a name (`stripdot`) or in an explanation.

        pyspf passes over what is no macro, joins the parts with what split them instead of dots, and cuts one label
        off whatever is longer than a name, explanations included.
        """
        _require_macro_syntax(text)
        expanded = _MACRO.sub(lambda macro: self._value(macro, in_name=stripdot), text)
        if not stripdot:
            return expanded
        expanded = expanded.removesuffix(".")
        if len(expanded) > NAME_OCTETS:
            expanded = expanded[expanded.find(".", len(expanded) - NAME_OCTETS - 1) + 1 :]
        return expanded

    def _value(self, macro: re.Match[str], in_name: bool) -> str:
        escape, letter, digits, reverse, delimiters = macro.groups()
        if escape:
            return _ESCAPES[escape]
        if in_name and letter in "crtCRT":
            raise spf.PermError("c, r and t are for explanations only", macro.group())
        value: str = self._client_name() if letter in "pP" else getattr(self, letter.lower())
        if digits or reverse or delimiters:
            parts = re.split(f"[{re.escape(delimiters or '.')}]", value)
            if reverse:
                parts.reverse()
            value = ".".join(parts[-int(digits) :] if digits else parts)
        return quote(value.encode("utf-8", "surrogateescape"), safe="~") if letter.isupper() else value

    def _client_name(self) -> str:
        """`%{p}` (section 7.3): the domain itself before a name below it before any other."""
        domain = self.d.lower()
        names = self.validated_ptrs()
        return min(names, key=lambda name: (name != domain, not name.endswith(f".{domain}")), default="unknown")


def _number(address: str) -> int:
    return int.from_bytes(socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address), "big")


def _require_macro_syntax(text: str) -> None:
    if "%" in _MACRO.sub("", text):
        raise spf.PermError("Invalid macro", text)

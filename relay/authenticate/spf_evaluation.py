"""Evaluates SPF records (RFC 7208) with pyspf, which only this module uses.

pyspf is synchronous: it wants its DNS answers at once. Each check runs it in a greenlet of its own, which switches back
with every question, so that the answers come from our resolver and nothing blocks. `SpfQuery` also corrects what
pyspf 2.0.14 does otherwise than the RFC; each method says what.
"""

from __future__ import annotations

import asyncio
import re
import socket
from typing import Any, Literal
from urllib.parse import quote

import spf
from greenlet import getcurrent, greenlet

from relay.dns import Answer, DnsFailure, Resolver, TooManyQuestions

Result = Literal["none", "neutral", "pass", "fail", "softfail", "temperror", "permerror"]

TURN = 0.005  # seconds of evaluation after which other tasks get a turn: answers from the cache make no pause
VOID_LOOKUPS = 2  # RFC 7208 section 4.6.4: terms whose questions have no records as answer
FOUND_NOTHING = f"more than {VOID_LOOKUPS} terms found nothing in DNS"
PTR_NAMES = 10  # RFC 7208 section 4.6.4
NAME_OCTETS = 253  # RFC 7208 section 7.3: a longer expanded name is cut at its left
RECORD_OCTETS = 8192  # many times the 512 of RFC 7208 section 3.4; evaluating such a record stays below 20 ms

_MODIFIER = re.compile(r"([A-Za-z][A-Za-z0-9_.-]*)=")
_ALL = re.compile(r"[+?~-]?all\Z", re.IGNORECASE)
_TOPLABEL = re.compile(r"(?![0-9]+\Z)[0-9A-Za-z](?:[0-9A-Za-z-]*[0-9A-Za-z])?\Z")  # RFC 7208 section 7.1
_ENDS_IN_MACRO = re.compile(r"%(?:[%_-]|\{[^{}]*\})\Z")
# RFC 7208 section 7.1; the number of parts is not zero (section 7.3)
_MACRO = re.compile(r"%(?:([%_-])|\{([slodiphcrtv])((?:0{0,9}[1-9][0-9]{0,9})?)(r?)([.+,/_=-]*)\})", re.IGNORECASE)
_IP4 = re.compile(rf"([+?~-]?)ip4:({spf.PAT_IP4})(?:/(3[0-2]|[12][0-9]|[0-9]))?\Z", re.IGNORECASE)
_ESCAPES = {"%": "%", "_": " ", "-": "%20"}


async def evaluate(query: SpfQuery, resolver: Resolver) -> str:
    """Runs the query in a greenlet and answers its questions; returns the problem, if there is one."""
    query.asking = query.d
    try:
        query.first = await resolver.query(query.d, "TXT")
    except DnsFailure as failure:
        query.result = "permerror" if isinstance(failure, TooManyQuestions) else "temperror"
        return str(failure)
    loop = asyncio.get_running_loop()
    evaluation = _idle.pop() if _idle else greenlet(_evaluate_queries)
    completed = False
    try:
        turn_began = loop.time()
        step = evaluation.switch(query)
        while isinstance(step, tuple):
            if loop.time() - turn_began > TURN:
                await asyncio.sleep(0)
                turn_began = loop.time()
            query.asking = step[0]
            try:
                answer = await resolver.query(*step)
            except TooManyQuestions as failure:  # a processing limit (RFC 7208 section 4.6.4)
                step = evaluation.throw(spf.PermError(str(failure)))
            except DnsFailure as failure:
                step = evaluation.throw(spf.TempError(str(failure)))
            else:
                step = evaluation.switch(answer)
        completed = True
        return str(step)
    finally:
        if completed:
            _idle.append(evaluation)
        elif not evaluation.dead:
            evaluation.throw()  # the check was cancelled: unwind the greenlet


_idle: list[Any] = []  # greenlets for the next checks: making one takes as long as evaluating a short record


def _evaluate_queries(query: SpfQuery) -> None:
    """Runs in a greenlet: evaluates one query after another, and gives the problem of each to its caller."""
    while True:
        query = getcurrent().parent.switch(query.evaluate())


class SpfQuery(spf.query):  # type: ignore[misc]
    """One check: pyspf's evaluation with our resolver, and closer to the RFC.

    Attributes:
        asking: the name of the latest question.
        first: the answer to the first question, which is always for the domain's TXT; most records need no other.
        letters: of the macros that were expanded, in lower case.
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
        self.letters: set[str] = set()
        self._client_number = int(self.ipaddr)
        self._validated_names: list[str] | None = None
        self._exp: tuple[str, str] | None = None
        self._term_is_void = False

    def evaluate(self) -> str:
        """Sets `result` and `explanation`; returns the problem, if there is one."""
        self.result, _, text = self.check()
        if self.result == "fail" and self._exp is not None:
            self.d, name = self._exp
            try:
                self.explanation = self.get_explanation(name) or ""
            except spf.TempError:
                pass  # RFC 7208 section 6.2: as without exp=
        return str(text).partition(": ")[2]

    def dns(self, name: str, qtype: str, cnames: object = None, ignore_void: bool = False) -> list[Any]:
        """The records; the resolver follows CNAMEs.

        A term counts as void only once, however many questions it takes (section 4.6.4): an MX without AAAA is no error
        of the domain if the client uses IPv6. pyspf counts every question, and every CNAME of a chain.
        """
        if not name.isascii():  # from a local part: such a name matches nothing (RFC 8616 section 4)
            return []
        answer, self.first = self.first, None
        if answer is None:
            answer = getcurrent().parent.switch((name, qtype))
        if not (answer.records or ignore_void or self._term_is_void):
            self._term_is_void = True
            self.void_lookups += 1
            if self.void_lookups > VOID_LOOKUPS:
                raise spf.PermError(FOUND_NOTHING)
        return list(answer.records)

    def check_lookups(self) -> None:
        """Called by pyspf for each term that asks DNS."""
        self._term_is_void = False
        super().check_lookups()

    def check0(self, record: str | None, recursion: int) -> Any:
        """Evaluates one record.

        Modifiers are read here: names in any case (section 4.6.1), unknown ones any number of times (section 6),
        redirect= ignored beside `all` (section 6.1), exp= looked up at the end and only on fail (section 6.2). Anything
        but visible ASCII and spaces is an error (section 4.6.1), also in terms that are not reached.
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
        """Name, argument, prefix length and result of a term. Most terms are ip4, so that one is read faster here."""
        ip4 = _IP4.match(mech)
        if ip4 is not None:
            qualifier, address, prefix = ip4.groups()
            return mech, "ip4", address, int(prefix or 32), spf.RESULTS[qualifier or "+"]
        try:
            return super().validate_mechanism(mech)
        except ValueError:  # a prefix length of thousands of digits
            raise spf.PermError("Invalid CIDR length", mech[:40]) from None

    def cidrmatch(self, ipaddrs: list[str], n: int) -> bool:
        """Whether the client shares its first `n` bits with an address. pyspf builds two networks for each address."""
        shift = self.cidrmax - n
        client = self._client_number >> shift
        try:
            return any(_number_of(address) >> shift == client for address in ipaddrs)
        except OSError as error:
            raise spf.PermError(str(error)) from None

    def validated_ptrs(self) -> list[str]:
        """The client's validated names (section 5.5), looked up once; names without an answer from DNS are skipped."""
        if self._validated_names is None:
            try:
                names = self.dns_ptr(self.i)[:PTR_NAMES]
            except spf.TempError:
                names = []
            self._validated_names = [name for name in names if self._is_client(name)]
        return self._validated_names

    def _is_client(self, name: str) -> bool:
        try:
            return bool(self.cidrmatch(self.dns(name, self.A, ignore_void=True), self.cidrmax))
        except spf.TempError:
            return False

    def expand_domain(self, spec: str) -> str:
        """Expands a domain-spec to a name (section 7.1). pyspf takes quadratic time for a long one."""
        if spec == self.d:
            return spec  # no domain-spec in the term: already a name
        _, dot, toplabel = spec.removesuffix(".").rpartition(".")
        if not (_ENDS_IN_MACRO.search(spec) or (dot and _TOPLABEL.match(toplabel))):
            raise spf.PermError("Invalid domain found (use FQDN)", spec)
        return self.expand(spec)

    def expand(self, text: str, stripdot: bool = True) -> str:
        """Expands macros (section 7), in a name (`stripdot`) or in an explanation.

        pyspf accepts invalid macros, joins the parts with their delimiter instead of dots, and cuts one label off
        everything longer than a name, explanations included.
        """
        _require_macro_syntax(text)
        expanded = _MACRO.sub(lambda macro: self._macro_value(macro, in_name=stripdot), text)
        if not stripdot:
            return expanded
        expanded = expanded.removesuffix(".")
        if len(expanded) > NAME_OCTETS:
            expanded = expanded[expanded.find(".", len(expanded) - NAME_OCTETS - 1) + 1 :]
        return expanded

    def _macro_value(self, macro: re.Match[str], in_name: bool) -> str:
        escape, letter, digits, reverse, delimiters = macro.groups()
        if escape:
            return _ESCAPES[escape]
        self.letters.add(letter.lower())
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
        """The value of `%{p}` (section 7.3): the domain itself, else a name below it, else any validated name."""
        domain = self.d.lower()
        names = self.validated_ptrs()
        return min(names, key=lambda name: (name != domain, not name.endswith(f".{domain}")), default="unknown")


def _number_of(address: str) -> int:
    return int.from_bytes(socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address), "big")


def _require_macro_syntax(text: str) -> None:
    if "%" in _MACRO.sub("", text):
        raise spf.PermError("Invalid macro", text)

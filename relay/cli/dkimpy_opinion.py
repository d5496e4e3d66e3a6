"""What dkimpy, an implementation that shares no code with ours, makes of the DKIM signatures and the ARC chain.

Nothing else imports dkimpy. It is synchronous and asks DNS in the midst of its work, so it runs in a thread, and its
questions come back to our resolver. Whatever it raises ends in an opinion.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from typing import Any, Literal

import dkim

from relay.cli.asking_thread import Ask, in_thread
from relay.dns import DnsFailure, Resolver
from relay.mail.reply import printable

NAME = f"dkimpy {version('dkimpy')}"

SIGNATURES = 10  # of one message, as many as our own verification looks at
ARC_SETS = 50  # RFC 8617 section 4.2.1

# dkimpy cannot be stopped, so it is not given what would take it minutes. Honest messages have a hundredth of both.
SQUARES = 10**9  # sum over the runs of white space; its regular expressions take the square of each: a second
LOOKUPS = 2 * 10**7  # colons times lines of the header; it looks for each name of h= through all fields: a second
KEY_OCTETS = 2500  # of a key record; RSA of 8192 bits has 1400. Its arithmetic is in Python, and grows with the cube.

_WHITE_SPACE = re.compile(rb"\s++")

DkimResult = Literal["pass", "fail", "temperror"]
ArcResult = Literal["none", "pass", "fail", "temperror"]


@dataclass(frozen=True, slots=True)
class SignatureOpinion:
    """The opinion on one DKIM signature. All text is printable ASCII.

    Attributes:
        result: `temperror` where DNS gave no answer for its key.
        domain, selector, algorithm: `d=`, `s=` and `a=`; empty where unreadable.
        problem: why it does not pass.
    """

    result: DkimResult
    domain: str = ""
    selector: str = ""
    algorithm: str = ""
    problem: str = ""


@dataclass(frozen=True, slots=True)
class DkimpyOpinion:
    """The opinion on one message.

    Attributes:
        signatures: from top to bottom.
        arc: of the whole chain.
        problem: why dkimpy has no opinion at all; then there are no signatures, and `arc` is `fail`.
    """

    signatures: tuple[SignatureOpinion, ...] = ()
    arc: ArcResult = "none"
    arc_problem: str = ""
    problem: str = ""


async def ask_dkimpy(resolver: Resolver, content: bytes) -> DkimpyOpinion:
    """Have dkimpy verify a message. Never raises for what is in the message or in DNS."""
    if excess := _excess(content):
        return _unread(f"dkimpy was not asked: it would take too long for {excess}")
    return await in_thread(resolver, partial(_verify, content))


def _excess(content: bytes) -> str:
    """What dkimpy would take too long for; empty if there is nothing of that kind."""
    header = content.partition(b"\r\n\r\n")[0]
    if header.count(b":") * header.count(b"\n") > LOOKUPS:
        return "so large a header"
    if header.lower().count(b"\narc-seal:") > ARC_SETS:
        return f"more than {ARC_SETS} ARC sets"
    if sum(len(run) ** 2 for run in _WHITE_SPACE.findall(content)) > SQUARES:
        return "so much white space in one piece"
    return ""


def _unread(problem: str) -> DkimpyOpinion:
    return DkimpyOpinion(arc="fail", arc_problem=problem, problem=problem)


def _verify(content: bytes, ask: Ask) -> DkimpyOpinion:
    try:
        signer = dkim.DKIM(content, logger=_Silent())
        chain = dkim.ARC(content, logger=_Silent())
    except dkim.MessageFormatError as error:
        line = (str(error).partition(": ")[2] or str(error)).removeprefix("b")
        return _unread(printable(f"dkimpy cannot read this header: {line}", 200))
    except Exception as error:
        return _unread(f"dkimpy cannot read the message: {_why(error)}")
    count = sum(name.lower() == b"dkim-signature" for name, _ in signer.headers)
    signatures = tuple(_signature(signer, index, ask) for index in range(min(count, SIGNATURES)))
    keys = _Keys(ask)
    try:
        result, _, reason = chain.verify(dnsfunc=keys)
    except Exception as error:
        result, reason = dkim.CV_Fail, _why(error)
    if result == dkim.CV_None:
        return DkimpyOpinion(signatures)
    if result == dkim.CV_Pass:
        return DkimpyOpinion(signatures, "pass")
    return DkimpyOpinion(signatures, "temperror" if keys.problem else "fail", keys.problem or printable(str(reason)))


def _signature(signer: Any, index: int, ask: Ask) -> SignatureOpinion:
    keys = _Keys(ask)
    signer.signature_fields, signer.logger = {}, _Silent()
    try:
        valid, problem = signer.verify(idx=index, dnsfunc=keys), ""
    except Exception as error:
        valid, problem = False, _why(error)
    tags: dict[bytes, bytes] = signer.signature_fields
    domain, selector, algorithm = (printable(tags.get(tag, b"").decode("latin-1"), 253) for tag in (b"d", b"s", b"a"))
    if valid:
        return SignatureOpinion("pass", domain, selector, algorithm)
    problem = keys.problem or problem or signer.logger.reason or "the signature does not verify"
    return SignatureOpinion("temperror" if keys.problem else "fail", domain, selector, algorithm, problem)


class _Keys:
    """Finds key records for dkimpy. `problem` is why DNS had no answer for the latest."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self.problem = ""

    def __call__(self, name: bytes, timeout: float = 0) -> bytes | None:
        """The first TXT record of a name, as dkimpy's own look-up returns it; the resolver has its own timeout."""
        try:
            records = self._ask(name.decode("ascii").rstrip("."), "TXT").records
        except UnicodeDecodeError:
            return None
        except DnsFailure as failure:
            self.problem = printable(str(failure))
            raise dkim.DnsTimeoutError(self.problem) from failure
        record = b"".join(records[0]) if records else None
        if record is not None and len(record) > KEY_OCTETS:
            raise dkim.KeyFormatError(f"a key record of {len(record)} octets")
        return record


class _Silent(logging.Logger):
    """What dkimpy logs in the place of raising it; `reason` has the latest of it."""

    def __init__(self) -> None:
        super().__init__("dkimpy", logging.ERROR)
        self.reason = ""

    def handle(self, record: logging.LogRecord) -> None:
        self.reason = printable(record.getMessage(), 200)


def _why(error: Exception) -> str:
    text = str(error)
    return printable(text if isinstance(error, dkim.DKIMException) and text else f"{type(error).__name__}: {text}", 200)

"""An MTA-STS policy (RFC 8461 section 3.2): reads its text, and tells which mail hosts it allows."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from typing import Literal, get_args

from relay.mail.address import DOMAIN, normal_domain
from relay.mail.reply import printable

Mode = Literal["enforce", "testing", "none"]

MAX_AGE = 31557600  # seconds; RFC 8461 section 3.2
LONG = 4096  # octets from which reading a policy takes more than a millisecond

_CONTROL = re.compile("[\0-\x08\x0b\x0c\x0e-\x1f\x7f]")


class BadPolicy(ValueError):
    """Senders do not follow the policy; the text says why."""


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy.

    Attributes:
        max_age: seconds for which senders keep it.
        patterns: of the names of mail hosts, normal; `*.` stands for exactly one label.
    """

    mode: Mode
    max_age: int
    patterns: tuple[str, ...]

    def allows(self, host: str) -> bool:
        """Whether a normal host name matches a pattern (section 4.1)."""
        _, _, parent = host.partition(".")
        return host in self.patterns or f"*.{parent}" in self.patterns


def parse(text: str) -> Policy:
    """Read a policy. Keys that are not known are ignored, and of a key that is there twice the first counts.

    Raises:
        BadPolicy: it is none.
    """
    if _CONTROL.search(text):
        raise BadPolicy("it has a control character")
    values: dict[str, str] = {}
    patterns = []
    for line in text.replace("\r\n", "\n").split("\n"):
        key, colon, value = line.partition(":")
        key, value = key.strip(), value.strip()
        if not line.strip():
            continue
        if not colon:
            raise BadPolicy(f"a line without a colon: {printable(line, 60)}")
        if key == "mx":
            patterns.append(_pattern(value))
        values.setdefault(key, value)
    if values.get("version") != "STSv1":
        raise BadPolicy("it has no line `version: STSv1`")
    mode = next((mode for mode in get_args(Mode) if mode == values.get("mode")), None)
    if mode is None:
        raise BadPolicy("mode is none of enforce, testing and none")
    age = values.get("max_age", "")
    if not re.fullmatch("[0-9]{1,10}", age) or int(age) > MAX_AGE:
        raise BadPolicy(f"max_age is no number of seconds up to {MAX_AGE}")
    if not patterns and mode != "none":
        raise BadPolicy("it has no line with `mx:`")
    return Policy(mode, int(age), tuple(patterns))


async def parse_off_loop(text: str) -> Policy:
    """`parse`, in a thread where the text is long."""
    return await asyncio.to_thread(parse, text) if len(text) > LONG else parse(text)


def _pattern(value: str) -> str:
    wildcard = "*." if value.startswith("*.") else ""
    name = normal_domain(value.removeprefix("*."))
    if not (name.isascii() and DOMAIN.match(name)):
        raise BadPolicy(f"mx: {printable(value, 60)} is no host name")
    return wildcard + name

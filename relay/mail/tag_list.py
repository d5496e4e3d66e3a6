"""Tag lists (RFC 6376 section 3.2): the syntax of header fields and key records of DKIM and ARC.

Anybody may write them, so every error in them raises `Unverified` with a text for a person.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from typing import Literal

from relay.mail.address import DOMAIN, DOMAIN_OCTETS, normal_domain
from relay.mail.message import HeaderField
from relay.mail.reply import printable

Result = Literal["pass", "fail", "policy", "neutral", "temperror", "permerror"]  # RFC 8601 section 2.7.1

TAGS = 100  # the most of one list; usual ones have up to 15

_FWS = " \t\r\n"
_CONTROL = re.compile("[\0-\x08\x0b\x0c\x0e-\x1f\x7f]")
_TAG_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*\Z")
_DIGITS = re.compile(r"[0-9]{1,76}\Z")  # RFC 6376 section 3.5: the digits of `l=`


class Unverified(Exception):
    """A signature does not count. The message, in printable ASCII, tells a person why; `result` tells programs."""

    def __init__(self, result: Result, problem: str) -> None:
        self.result: Result = result
        super().__init__(printable(problem, 200))


def tag_list(text: str) -> dict[str, str]:
    """The tags and their values in the order of the list, without the white space around them.

    Raises:
        Unverified: the list is malformed, has a tag twice, or has more than `TAGS` tags.
    """
    if text.count(";") > TAGS:
        raise Unverified("permerror", f"more than {TAGS} tags")
    if _CONTROL.search(text):
        raise Unverified("permerror", "a control character among the tags")
    specs = text.split(";")
    if not specs[-1].strip(_FWS):
        specs.pop()
    tags: dict[str, str] = {}
    for spec in specs:
        name, equals, value = spec.partition("=")
        name = name.strip(_FWS)
        if not (equals and _TAG_NAME.match(name)):
            raise Unverified("permerror", f"no tag=value: {spec.strip(_FWS)[:40]!r}")
        if name in tags:
            raise Unverified("permerror", f"{name[:40]}= is there twice")
        tags[name] = value.strip(_FWS)
    return tags


def field_tags(field: HeaderField) -> dict[str, str]:
    """The tag list that is the value of a header field.

    Raises:
        Unverified: as `tag_list`.
    """
    return tag_list(field.raw.partition(b":")[2].decode("utf-8", "replace"))


def require(tags: Mapping[str, str], *names: str) -> None:
    """Checks that tags are there.

    Raises:
        Unverified: one of them is missing or empty.
    """
    for name in names:
        if not tags.get(name):
            raise Unverified("permerror", f"{name}= is missing")


def words(value: str) -> list[str]:
    """The elements of a colon-separated value, without the white space around them."""
    return [element.strip(_FWS) for element in value.split(":")]


def octets(tags: Mapping[str, str], name: str) -> bytes:
    """The octets of a tag in base64, which may be folded anywhere. The tag must be there.

    Raises:
        Unverified: the value is no base64.
    """
    try:
        return base64.b64decode(tags[name].encode().translate(None, _FWS.encode()), validate=True)
    except ValueError:
        raise Unverified("permerror", f"{name}= is no base64") from None


def number(tags: Mapping[str, str], name: str) -> int | None:
    """The number in a tag; None where the tag is missing.

    Raises:
        Unverified: the value is no number.
    """
    value = tags.get(name)
    if value is None:
        return None
    if not _DIGITS.match(value):
        raise Unverified("permerror", f"{name}= is no number")
    return int(value)


def domain(text: str) -> str:
    """The normal form of a selector or of a domain name in A- or U-labels (RFC 8616 section 5).

    Raises:
        Unverified: the text is neither.
    """
    normal = normal_domain(text) if len(text) <= DOMAIN_OCTETS and DOMAIN.match(text) else ""
    if not normal or not normal.isascii():
        raise Unverified("permerror", f"no domain name: {text[:40]!r}")
    return normal

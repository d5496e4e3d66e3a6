"""What a DKIM signature is worth, case by case: what passes, what does not, and what a person is told about it."""

from __future__ import annotations

import base64
import re
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from relay.authenticate import signature
from relay.authenticate.dkim import SIGNATURES, DkimVerdict, verify
from relay.dns import Answer
from relay.mail.message import Message
from relay.sign.keys import SigningKey
from tests.authenticate.signing import (
    ED25519,
    FROM,
    MESSAGE,
    NOW,
    RSA,
    canonical_body,
    canonical_header,
    relaxed_field,
    resolver,
    signature_field,
    signed,
    verdict,
    verdicts,
)

WAYS = [f"{header}/{body}" for header in ("simple", "relaxed") for body in ("simple", "relaxed")]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("key", [RSA, ED25519], ids=["rsa", "ed25519"])
async def test_both_algorithms_and_every_canonicalization(key: SigningKey, way: str) -> None:
    content = signed(key=key, c=way)
    assert (await verdict(content)).result == "pass"
    assert (await verdict(content.replace(b"another", b"one more"))).result == "fail"
    assert (await verdict(content.replace(b"A  message", b"No message"))).result == "fail"
    relaxed_header, relaxed_body = (word == "relaxed" for word in way.split("/"))
    respaced = await verdict(content.replace(b"A  message", b"A message"))
    assert respaced.result == ("pass" if relaxed_header else "fail")
    respaced = await verdict(content.replace(b"One  line, ", b"One line,\t "))
    assert respaced.result == ("pass" if relaxed_body else "fail")
    assert (await verdict(content + b"\r\n\r\n")).result == "pass"


async def test_canonicalization_is_simple_where_nothing_is_said() -> None:
    assert (await verdict(signed(c="simple/simple"))).result == "pass"
    assert (await verdict(signed(c="relaxed"))).result == "pass"
    assert (await verdict(signed(c="relaxed").replace(b"One  line", b"One line"))).result == "fail"
    unsaid = signed(c="simple", drop="c")
    assert (await verdict(unsaid)).result == "pass"
    assert (await verdict(unsaid.replace(b"A  message", b"A message"))).result == "fail"


async def test_what_a_verdict_says() -> None:
    content = signed(i="news@lists.author.example")
    found = await verdict(content)
    assert found == DkimVerdict(
        "pass",
        domain="author.example",
        selector="rsa",
        algorithm="rsa-sha256",
        identity="news@lists.author.example",
        signature=content.partition(b"; b=")[2][:8].decode(),
    )
    assert (await verdict(signed())).identity == "@author.example"
    assert await verdicts(MESSAGE) == ()


@pytest.mark.parametrize(
    ("tags", "problem"),
    [
        ({"v": "2"}, "unknown version: '2'"),
        ({"v": "1.0"}, "unknown version"),
        ({"a": "rsa-sha512"}, "unknown algorithm: 'rsa-sha512'"),
        ({"a": "RSA-SHA256"}, "unknown algorithm"),
        ({"c": "nofws"}, "unknown canonicalization"),
        ({"c": "relaxed/"}, "unknown canonicalization"),
        ({"bh": "not*base64"}, "bh= is no base64"),
        ({"bh": "AAA"}, "bh= is no base64"),
        ({"d": "example"}, "single label"),
        ({"d": "author.example."}, "no domain name"),
        ({"d": "author..example"}, "no domain name"),
        ({"d": "a" * 300 + ".example"}, "no domain name"),
        ({"d": "\ufffd.example"}, "no domain name"),
        ({"s": "a b"}, "no domain name"),
        ({"i": "ann@other.example"}, "not within author.example"),
        ({"i": "ann@notauthor.example"}, "not within author.example"),
        ({"i": "ann@example"}, "not within author.example"),
        ({"i": "author.example"}, "not within author.example"),
        ({"i": "ann@"}, "no domain name"),
        ({"q": "http"}, "q="),
        ({"t": "yesterday"}, "t= is no number"),
        ({"x": "-1"}, "x= is no number"),
        ({"x": "9" * 5000}, "x= is no number"),
        ({"l": "1e3"}, "l= is no number"),
        ({"t": str(NOW), "x": str(NOW)}, "before it was made"),
        ({"t": str(NOW - 10), "x": str(NOW - 5)}, "expired"),
        ({"x": str(NOW - 3 * 86400)}, "expired 3 d ago"),
        ({"h": "to:subject"}, "From is not signed"),
        ({"h": "x-from:from-x:to"}, "From is not signed"),
        ({"d": "author.example; d=author.example"}, "d= is there twice"),
        ({"z": "a; nonsense"}, "no tag=value: 'nonsense'"),
        ({"z": "a;;y=b"}, "no tag=value"),
        ({"z": "a; 1a=b"}, "no tag=value"),
        ({"z": "a\x07b"}, "control character"),
        ({"z": ";z".join(f"{n}=" for n in range(200))}, "more than 100 tags"),
    ],
)
async def test_a_signature_that_says_something_wrong(tags: dict[str, Any], problem: str) -> None:
    found = await verdict(signed(**tags))
    assert found.result == "permerror"
    assert problem in found.problem
    assert found.problem.isascii() and found.problem.isprintable()


@pytest.mark.parametrize("tag", ["v", "a", "bh", "d", "h", "s"])
async def test_a_tag_that_has_to_be_there(tag: str) -> None:
    missing = await verdict(signed(drop=tag))
    assert (missing.result, missing.problem) == ("permerror", f"{tag}= is missing")


async def test_a_signature_without_its_signature() -> None:
    head, _, _ = signature_field(MESSAGE).partition(b"; b=")
    for end, problem in ((b"", "b= is missing"), (b"; b=", "b= is missing"), (b"; b=?", "b= is no base64")):
        found = await verdict(head + end + b"\r\n" + MESSAGE)
        assert (found.result, found.problem) == ("permerror", problem)


@pytest.mark.parametrize(
    "tags",
    [
        {"i": "@author.example"},
        {"i": "a=40b@sub.author.example"},
        {"i": "ann@AUTHOR.example"},
        {"q": "dns/txt"},
        {"q": "http : dns/txt"},
        {"t": str(NOW - 5), "x": str(NOW + 5)},
        {"x": str(NOW)},
        {"t": str(NOW + 86400)},
        {"t": "9" * 76},
        {"h": "FROM : To:\r\n\tsubject"},
        {"h": "from:from:to:to:subject:subject:cc:x-not-there"},
        {"h": "from:to:subject:"},
        {"h": "from"},
        {"z": "From:ann=40author.example|To:x", "unknown_1": "", "y": "a=b"},
        {"d": "Author.EXAMPLE"},
    ],
)
async def test_a_signature_that_is_written_in_another_way(tags: dict[str, Any]) -> None:
    assert (await verdict(signed(**tags))).result == "pass"


@pytest.mark.parametrize("way", WAYS)
async def test_a_field_in_any_order_and_case_and_folded_wherever_it_may_be(way: str) -> None:
    hashed = re.search(rb"bh=([^;]+)", signature_field(MESSAGE, c=way))
    assert hashed
    head = b"dkim-SIGNATURE : a=rsa-sha256 ;b ="
    tail = b";\r\n\tc=%s; \r\n d = author.example ;s=\r\n rsa;v= 1; h=from:\r\n\t TO\t:subject; bh=%s;" % (
        way.encode(),
        hashed[1][:9] + b"\r\n \t" + hashed[1][9:],
    )
    header_way = way.partition("/")[0]
    unsigned = relaxed_field(head + tail) if header_way == "relaxed" else head + tail
    value = base64.b64encode(RSA.sign(canonical_header(MESSAGE, "from:to:subject", header_way) + unsigned))
    folded = b"\r\n\t " + value[:50] + b" \r\n " + value[50:] + b"\t\r\n "
    content = head + folded + tail + b"\r\n" + MESSAGE
    found = await verdict(content)
    assert (found.result, found.signature) == ("pass", value[:8].decode())


async def test_a_selector_of_several_labels_and_internationalized_names() -> None:
    key = replace(RSA, domain="xn--bcher-kva.example", selector="mai.2025.xn--s-0ga")
    records = {key.record_name: key.public_record()}
    for domain in ("xn--bcher-kva.example", "bücher.example", "BÜCHER.example"):
        found = await verdict(signed(key=key, d=domain, s="mai.2025.ös", i=f"@shop.{domain}"), records)
        assert (found.result, found.domain, found.selector) == ("pass", key.domain, key.selector)
        assert found.identity == "@shop.xn--bcher-kva.example"


# --- What is not counted, valid or not --------------------------------------------------------------------------------


async def test_sha1_never_passes() -> None:
    found = await verdict(signed(a="rsa-sha1"))
    assert (found.result, found.algorithm) == ("policy", "rsa-sha1")


@pytest.mark.parametrize("body", ["simple", "relaxed"])
async def test_a_signature_of_a_part_of_the_body_does_not_pass(body: str) -> None:
    whole = len(canonical_body(MESSAGE.partition(b"\r\n\r\n")[2], body))
    way = f"relaxed/{body}"
    assert (await verdict(signed(c=way, l=str(whole)))).result == "pass"
    assert (await verdict(signed(c=way, l=str(whole)) + b"\r\n\r\n")).result == "pass"
    more = await verdict(signed(c=way, l=str(whole)) + b"An advertisement.\r\n")
    assert more.result == "policy"
    assert more.problem == f"only {whole} of the {whole + 19} octets of the body are signed (l=)"
    assert (await verdict(signed(c=way, l="0"))).result == "policy"
    longer = await verdict(signed(c=way, l=str(whole + 1)))
    assert (longer.result, "l=" in longer.problem) == ("permerror", True)


async def test_an_empty_body_may_be_signed_by_its_length() -> None:
    assert (await verdict(signed(FROM + b"\r\n", l="0"))).result == "pass"
    assert (await verdict(signed(FROM + b"\r\n", c="simple/simple", l="2"))).result == "pass"


@pytest.mark.parametrize(
    "other",
    [
        b"From: Eve <eve@evil.example>\r\n",
        b"FROM: eve@evil.example\r\n",
        b"from : eve@evil.example\r\n",
        b"From\t: eve@evil.example\r\n",
        b"From\x0b: eve@evil.example\r\n",
        b"From\r\n : eve@evil.example\r\n",
        b"From:\r\n eve@evil.example\r\n",
        FROM,
    ],
)
@pytest.mark.parametrize("names", ["from:to:subject", "from:from:to:subject", "from:from:from"])
async def test_a_message_with_two_from_fields_passes_for_nobody(other: bytes, names: str) -> None:
    signed_before = signed(h=names)
    for content in (
        other + signed_before,
        signed_before.replace(b"Subject:", other + b"Subject:"),
        signed(other + MESSAGE, h=names),
        signed(MESSAGE.replace(b"Subject:", other + b"Subject:"), h=names),
    ):
        found = await verdict(content)
        assert (found.result, found.problem) == ("policy", "the message has 2 From fields")


async def test_a_message_without_from_passes_for_nobody() -> None:
    for content in (MESSAGE.removeprefix(FROM), MESSAGE.replace(b"From:", b"From\x0b:")):
        found = await verdict(signed(content))
        assert (found.result, found.problem) == ("policy", "the message has no From field")


async def test_a_from_that_was_exchanged_breaks_the_signature() -> None:
    assert (await verdict(signed().replace(FROM, b"From: eve@evil.example\r\n"))).result == "fail"


# --- What the header selection takes ----------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["simple/simple", "relaxed/relaxed"])
async def test_repeated_fields_are_taken_from_the_bottom(way: str) -> None:
    message = b"Received: 3\r\nReceived: 2\r\nX-A: x\r\nReceived: 1\r\n" + MESSAGE
    content = signed(message, h="from:received:received", c=way)
    assert (await verdict(b"Received: 4\r\n" + content)).result == "pass"
    assert (await verdict(content.replace(b"Received: 3", b"Received: x"))).result == "pass"
    assert (await verdict(content.replace(b"Received: 2", b"Received: x"))).result == "fail"
    moved = content.replace(b"Received: 2\r\nX-A: x\r\nReceived: 1", b"Received: 1\r\nX-A: x\r\nReceived: 2")
    assert (await verdict(moved)).result == "fail"


async def test_a_name_that_is_listed_though_not_there_forbids_to_add_it() -> None:
    content = signed(h="from:to:subject:subject:reply-to")
    assert (await verdict(content)).result == "pass"
    assert (await verdict(b"Reply-To: eve@evil.example\r\n" + content)).result == "fail"
    assert (await verdict(b"Subject: another\r\n" + content)).result == "fail"


async def test_a_signature_may_cover_others_but_never_itself() -> None:
    inner = signed()
    outer = signed(inner, key=ED25519, h="from:dkim-signature:dkim-signature")
    assert [one.result for one in await verdicts(outer)] == ["pass", "pass"]
    assert [one.result for one in await verdicts(outer.replace(b"v=1; a=rsa", b"v=1; z=; a=rsa"))] == ["fail", "fail"]
    assert [one.result for one in await verdicts(outer.replace(b"DKIM-Signature: v=1; a=rsa", b"X: v=1; a=rsa"))] == [
        "fail"
    ]


async def test_lines_that_are_no_fields_are_never_signed() -> None:
    content = signed(h="from::this is no field:subject")
    assert (await verdict(content.replace(b"Subject:", b"this is no field\r\n: nor this\r\nSubject:"))).result == "pass"


# --- Many signatures, long messages -----------------------------------------------------------------------------------


class Asked:
    """A resolver that remembers what it was asked."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self._resolver = resolver()

    async def query(self, name: str, rdtype: str) -> Answer:
        self.names.append(name)
        return await self._resolver.query(name, rdtype)


async def test_each_signature_has_its_own_verdict() -> None:
    field = signature_field(MESSAGE)
    content = b"".join(
        [
            signature_field(MESSAGE, key=ED25519),
            field.replace(b"; b=", b"; b=AAAA"),
            b"DKIM-Signature: nonsense\r\n",
            signature_field(MESSAGE, s="unknown"),
            field,
            MESSAGE,
        ]
    )
    found = await verdicts(content)
    assert [one.result for one in found] == ["pass", "fail", "permerror", "permerror", "pass"]
    assert [one.selector for one in found] == ["ed25519", "rsa", "", "unknown", "rsa"]


async def test_signatures_beyond_the_limit_are_not_looked_at() -> None:
    asked = Asked()
    message = Message(signature_field(MESSAGE) * (SIGNATURES + 2) + MESSAGE)
    *looked_at, rest = await verify(message, asked, NOW)
    assert [one.result for one in looked_at] == ["pass"] * SIGNATURES
    assert (rest.result, rest.problem) == ("policy", "2 more signatures than the 10 that are looked at")
    assert asked.names == [RSA.record_name]


async def test_dns_is_not_asked_for_what_cannot_pass() -> None:
    asked = Asked()
    for content in (
        signed(v="2"),
        signed(x="1"),
        signed(a="rsa-sha1"),
        signed(h="to"),
        signed(l="1"),
        signed() + b"more\r\n",
        FROM + signed(),
    ):
        (found,) = await verify(Message(content), asked, NOW)
        assert found.result != "pass"
    assert asked.names == []


async def test_a_header_field_is_canonicalized_once_for_all_signatures(monkeypatch: pytest.MonkeyPatch) -> None:
    fields: list[bytes] = []
    relaxed_one = signature.relaxed_field

    def watched(raw: bytes) -> bytes:
        fields.append(raw)
        return relaxed_one(raw)

    monkeypatch.setattr(signature, "relaxed_field", watched)
    found = await verdicts(signature_field(MESSAGE) * SIGNATURES + MESSAGE)
    assert {one.result for one in found} == {"pass"}
    assert fields.count(FROM) == 1


async def test_a_signature_that_names_thousands_of_fields_is_not_computed() -> None:
    found = await verdict(signed(h="from:" * 1000 + "to"))
    assert (found.result, found.problem) == ("policy", "more than 1000 fields are signed (h=)")


@pytest.mark.parametrize("tags", [{"c": "relaxed/simple"}, {"c": "relaxed/relaxed"}, {"l": "1638400"}])
async def test_the_body_of_a_long_message_is_hashed_in_a_thread(
    tags: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = []
    blocks = Message._blocks

    def watched(message: Message, start: int) -> Iterator[bytes]:
        threads.append(threading.current_thread())
        return blocks(message, start)

    monkeypatch.setattr(Message, "_blocks", watched)
    content = signed(FROM + b"\r\n" + b"0123456789 abcd\r\n" * 100_000, **tags)
    found = await verdict(content)
    assert found.result == ("policy" if "l" in tags else "pass")
    assert len(threads) == 1
    assert threads[0] is not threading.main_thread()

"""What an ARC chain is worth, step by step of RFC 8617 section 5.2."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from dataclasses import replace

import pytest

from relay.authenticate.arc import OLDER_SIGNATURES, ArcSet, ArcVerdict, verify
from relay.authenticate.public_key import RSA_MIN_BITS
from relay.dns import Answer, DnsFailure, StaticResolver
from relay.mail.message import Message
from tests.authenticate.sealing import arc_seal, chain, message_signature, result, sealed, verdict
from tests.authenticate.signing import ED25519, FROM, MESSAGE, NOW, RECORDS, RSA, resolver

ONE, TWO, THREE = chain(1), chain(2), chain(3)


def fields(content: bytes) -> list[bytes]:
    """The ARC fields of a message, top to bottom."""
    return re.findall(rb"^ARC-[^\r]*\r\n", content, re.MULTILINE)


def field(content: bytes, name: bytes, instance: int) -> bytes:
    (found,) = [one for one in fields(content) if re.match(rb"%s: i=%d;" % (name, instance), one)]
    return found


AAR, AMS, AS = b"ARC-Authentication-Results", b"ARC-Message-Signature", b"ARC-Seal"


async def problem(content: bytes) -> str:
    found = await verdict(content)
    assert found.result == "fail"
    assert not found.temporary
    assert found.oldest_pass == 0
    assert found.problem.isascii()
    return found.problem


# --- the chain as a whole ---------------------------------------------------------------------------------------------


async def test_a_message_without_a_chain() -> None:
    assert await verdict(MESSAGE) == ArcVerdict("none")
    assert await verdict(b"") == ArcVerdict("none")


@pytest.mark.parametrize("count", [1, 2, 3, 50])
async def test_a_whole_chain(count: int) -> None:
    found = await verdict(chain(count))
    assert (found.result, found.problem, found.temporary) == ("pass", "", False)
    assert [one.instance for one in found.sets] == list(range(count, 0, -1))
    assert [one.cv for one in found.sets] == ["pass"] * (count - 1) + ["none"]


async def test_what_a_verdict_tells_of_a_set() -> None:
    content = sealed(testimony="i={};\r\n\tmx.fwd.example;\r\n\t spf=pass (ok; \u00fc)")
    (one,) = (await verdict(content)).sets
    assert one == ArcSet(1, "author.example", "rsa", "none", "mx.fwd.example;  spf=pass (ok; ?)")


async def test_different_hosts_seal_and_sign_by_different_algorithms_and_canonicalizations() -> None:
    content = sealed(key=ED25519, signature={"c": "simple/simple"})
    content = sealed(content, 2, signature={"c": None})
    content = sealed(content, 3, signature={"c": "simple/relaxed", "d": "other.example", "s": "x"})
    records = RECORDS | {"x._domainkey.other.example": RSA.public_record()}
    found = await verdict(content, records)
    assert found.result == "pass"
    assert [one.selector for one in found.sets] == ["rsa", "rsa", "ed25519"]


async def test_the_fields_may_stand_anywhere_and_be_written_in_any_case() -> None:
    lines = fields(THREE)
    for seed in range(10):
        random.Random(seed).shuffle(lines)
        assert await result(b"".join(lines) + MESSAGE) == "pass"
        assert await result(FROM + b"".join(lines) + MESSAGE.removeprefix(FROM)) == "pass"
    shouting = b"".join(line.partition(b":")[0].upper() + b" :" + line.partition(b":")[2] for line in lines)
    assert await result(shouting + MESSAGE) == "pass"


@pytest.mark.parametrize("name", [AAR, AMS, AS])
@pytest.mark.parametrize("instance", [1, 2, 3])
async def test_a_field_that_is_missing_or_there_twice(name: bytes, instance: int) -> None:
    one = field(THREE, name, instance)
    shown = f"{name.decode()} with i={instance}"
    assert await problem(THREE.replace(one, b"")) == f"{shown} is missing"
    assert await problem(one + THREE) == f"{shown} is there twice"
    assert "is missing" in await problem(THREE.replace(one, one.replace(b"i=%d;" % instance, b"i=4;")))


async def test_a_set_that_is_missing() -> None:
    for instance in (1, 2):
        gone = [one for one in fields(THREE) if b"i=%d;" % instance in one]
        content = THREE
        for one in gone:
            content = content.replace(one, b"")
        assert "is missing" in await problem(content)
    assert "is missing" in await problem(b"".join(fields(sealed(MESSAGE, 2))) + MESSAGE)


async def test_without_its_newest_set_a_chain_is_the_one_before() -> None:
    content = THREE.removeprefix(b"".join(fields(THREE)[:3]))
    assert content == TWO
    assert (await verdict(content)).sets[0].instance == 2


NUMBERS = ["0", "51", "100", "-1", "", "1a", "1.0", "a", "001", "+1", "1 1", "\u0661", "1e0", "0x1", "9" * 5000]


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("name", [AAR, AMS, AS])
async def test_a_number_that_is_none(name: bytes, number: str) -> None:
    wrong = field(ONE, name, 1).replace(b"i=1;", f"i={number};".encode())
    assert f"{name.decode()} without a number" in await problem(ONE.replace(field(ONE, name, 1), wrong))


async def test_more_sets_than_there_may_be() -> None:
    content = chain(50)
    assert "without a number from 1 to 50" in await problem(sealed(content, 51))


async def test_a_number_with_a_zero_in_front() -> None:
    one = sealed(signature={"i": "01"}, seal={"i": "01"}, testimony="i=01; mx.example; none")
    assert await result(one) == "pass"


@pytest.mark.parametrize(
    "testimony",
    ["i=1;", "i=1 ; mx.example; none", " i = 1;mx.example", "\ti\r\n =\r\n\t1\r\n ;x", "(a \\) b) i=(c)1(d)(e);x"],
)
async def test_testimony_as_it_may_be_written(testimony: str) -> None:
    assert await result(sealed(testimony=testimony)) == "pass"


@pytest.mark.parametrize(
    "testimony",
    [
        "mx.example; i=1; none",
        "i=1",
        "i=1 mx.example;",
        "I=1; x",
        "mx.example; none",
        "",
        "(i=1); x",
        "(i=1; x",
        ";i=1;",
    ],
)
async def test_testimony_that_does_not_begin_with_its_number(testimony: str) -> None:
    assert "ARC-Authentication-Results without a number" in await problem(sealed(testimony=testimony))


async def test_testimony_need_not_make_sense() -> None:
    # RFC 8617 section 3.4: the syntax of the results does not matter to the chain
    assert await result(sealed(testimony="i=1; ;;; spf=( \u00e9 \x7f")) == "pass"


# --- what the sealers found (cv=) -------------------------------------------------------------------------------------


@pytest.mark.parametrize("cv", ["pass", "fail", "invalid", "nonepass", "\u00fc", "none pass"])
async def test_the_first_sealer_found_no_chain(cv: str) -> None:
    shown = cv if cv.isascii() else "?"
    assert await problem(sealed(seal={"cv": cv})) == f"ARC-Seal with i=1 says cv={shown}, not none"


@pytest.mark.parametrize("cv", ["none", "fail", "invalid"])
@pytest.mark.parametrize("instance", [2, 3])
async def test_later_sealers_found_a_whole_one(cv: str, instance: int) -> None:
    content = MESSAGE
    for number in (1, 2, 3):
        content = sealed(content, number, seal={"cv": cv} if number == instance else None)
    assert await problem(content) == f"ARC-Seal with i={instance} says cv={cv}, not pass"


async def test_a_chain_whose_newest_seal_says_fail_stays_broken() -> None:
    # RFC 8617 section 5.1.2: such a seal covers its own set only, and is valid
    ours = b"ARC-Authentication-Results: i=3; mx.example; arc=fail\r\n" + message_signature(TWO, 3)
    content = arc_seal(ours + b"\r\n", 3, tags={"cv": "fail"}) + ours + TWO
    assert await problem(content) == "ARC-Seal with i=3 says cv=fail, not pass"


async def test_cv_is_written_in_any_case() -> None:
    # RFC 8617 section 3.9: of "cv" the case matters (%s), of its values it does not (RFC 5234 section 2.3)
    found = await verdict(sealed(sealed(seal={"cv": "None"}), 2, seal={"cv": "PASS"}))
    assert found.result == "pass"
    assert [one.cv for one in found.sets] == ["pass", "none"]


# --- what a seal may say ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tag", ["a", "b", "cv", "d", "s"])
async def test_a_tag_that_a_seal_has_to_have(tag: str) -> None:
    assert await problem(sealed(seal={tag: None})) == f"ARC-Seal with i=1: {tag}= is missing"
    assert await problem(sealed(seal={tag: ""})) == f"ARC-Seal with i=1: {tag}= is missing"
    assert await problem(sealed(sealed(seal={tag: None}), 2)) == f"ARC-Seal with i=1: {tag}= is missing"


@pytest.mark.parametrize(
    ("tags", "why"),
    [
        ({"h": "from"}, "chooses what it seals"),
        ({"h": ""}, "chooses what it seals"),
        ({"a": "rsa-sha1"}, "rsa-sha1"),
        ({"a": "rsa-sha512"}, "unknown algorithm"),
        ({"a": "ed25519-sha256"}, "not for ed25519"),
        ({"d": "-"}, "no domain name"),
        ({"d": "author example"}, "no domain name"),
        ({"s": "a..b"}, "no domain name"),
        ({"s": "other"}, "no key"),
        ({"d": "other.example"}, "no key"),
        ({"b": "!"}, "no base64"),
        ({"b": "AAAA"}, "does not match"),
        ({"t": "yesterday"}, "t= is no number"),
        ({"t": ""}, "t= is no number"),
        ({"CV": "none", "cv": None}, "cv= is missing"),
    ],
)
async def test_a_seal_that_says_something_wrong(tags: Mapping[str, str | None], why: str) -> None:
    found = await problem(sealed(seal=tags))
    assert found.startswith("ARC-Seal with i=1: ")
    assert why in found
    assert await problem(sealed(sealed(seal=tags), 2)) == found


@pytest.mark.parametrize(
    "tags",
    [
        {"t": None},
        {"t": "9" * 12},
        {"v": "7"},
        {"c": "simple/simple"},
        {"bh": "nothing"},
        {"l": "0"},
        {"x": "1"},
        {"q": "carrier/pigeon"},
        {"unknown": "tag=with; another="},
    ],
)
async def test_what_else_a_seal_says_is_ignored(tags: Mapping[str, str | None]) -> None:
    # RFC 8617 section 4.1.3 has no more tags, RFC 6376 section 3.2 ignores others
    assert await result(sealed(seal=tags)) == "pass"


# --- what a message signature may say ---------------------------------------------------------------------------------


@pytest.mark.parametrize("tag", ["a", "b", "bh", "d", "h", "s"])
async def test_a_tag_that_a_message_signature_has_to_have(tag: str) -> None:
    assert await problem(sealed(signature={tag: None})) == f"ARC-Message-Signature with i=1: {tag}= is missing"
    if tag != "h":
        assert await problem(sealed(signature={tag: ""})) == f"ARC-Message-Signature with i=1: {tag}= is missing"


@pytest.mark.parametrize(
    ("tags", "why"),
    [
        ({"h": "from:arc-seal"}, "signs ARC-Seal"),
        ({"h": "ARC-Seal : from"}, "signs ARC-Seal"),
        ({"h": ":".join(["from"] * 1001)}, "more than 1000 fields"),
        ({"a": "rsa-sha1"}, "rsa-sha1"),
        ({"a": "rsa"}, "unknown algorithm"),
        ({"c": "relaxed/strict"}, "unknown canonicalization"),
        ({"c": "simple"}, "does not match"),  # it was signed relaxed
        ({"d": "@"}, "no domain name"),
        ({"s": "other"}, "no key"),
        ({"bh": "!"}, "no base64"),
        ({"bh": "AAAA"}, "body was changed"),
        ({"b": "AAAA"}, "does not match"),
        ({"q": "carrier/pigeon"}, "not in DNS"),
        ({"l": "0"}, "octets of the body are signed"),
        ({"l": "9999"}, "octets only"),
        ({"l": "many"}, "l= is no number"),
        ({"t": "yesterday"}, "t= is no number"),
        ({"t": ""}, "t= is no number"),
        ({"x": str(NOW - 3600)}, "expires (x=) before it was made"),
        ({"t": None, "x": str(NOW - 3600)}, "it expired 60 min ago"),
    ],
)
async def test_a_message_signature_that_says_something_wrong(tags: Mapping[str, str | None], why: str) -> None:
    content = sealed(signature=tags)
    if tags == {"c": "simple"}:
        content = seal_again(ONE, field(ONE, AMS, 1).replace(b"c=relaxed/relaxed", b"c=simple/relaxed"))
    found = await problem(content)
    assert found.startswith("ARC-Message-Signature with i=1: ")
    assert why in found


def seal_again(content: bytes, signature: bytes) -> bytes:
    """The one set of a message with another message signature, sealed as it is now."""
    unsealed = content.replace(field(content, AS, 1), b"").replace(field(content, AMS, 1), signature)
    return arc_seal(unsealed, 1) + unsealed


@pytest.mark.parametrize(
    "tags",
    [
        {"v": "1"},
        {"v": "7"},
        {"t": None},
        {"x": str(NOW + 1)},
        {"q": "dns/txt"},
        {"z": "from:x"},
        {"cv": "fail"},
        {"h": "From : Subject:to:subject:from:x-not-there"},
        {"h": "from:arc-authentication-results"},
        {"unknown": "tag"},
    ],
)
async def test_what_a_message_signature_may_say_as_well(tags: Mapping[str, str | None]) -> None:
    assert await result(sealed(signature=tags)) == "pass"


@pytest.mark.parametrize("name", [AMS, AS])
@pytest.mark.parametrize(
    ("before", "after", "problem_"),
    [
        (b"; d=", b"; a=rsa-sha256; d=", "a= is there twice"),
        (b"; d=", b"; nothing; d=", "no tag=value"),
        (b"; d=", b";; d=", "no tag=value"),
        (b"; d=", b"; \0=x; d=", "control character"),
        (b"; d=", b"; =x; d=", "no tag=value"),
        (b"i=1;", b"i=1; i=1;", "i= is there twice"),
        (b"; d=", b"; x=" * 101 + b"; d=", "more than 100 tags"),
    ],
)
async def test_a_list_of_tags_that_is_none(name: bytes, before: bytes, after: bytes, problem_: str) -> None:
    one = field(ONE, name, 1)
    found = await problem(ONE.replace(one, one.replace(before, after, 1)))
    assert found.startswith(f"{name.decode()} is malformed")
    assert problem_ in found


@pytest.mark.parametrize("name", [AMS, AS])
async def test_a_signature_folded_anywhere(name: bytes) -> None:
    one = field(ONE, name, 1)
    start, mark, signature = one.rstrip().rpartition(b"b=")
    value = b"\r\n \t".join(signature[at : at + 7] for at in range(0, len(signature), 7))
    again = start + mark + b" \r\n " + value + b" \r\n"
    assert await result(seal_again(ONE, again) if name == AMS else ONE.replace(one, again)) == "pass"


# --- what was changed on the way --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"Ann Author", b"Eve Author"),
        (b"To: alice", b"To: bob"),
        (b"A  message", b"A messagE"),
        (b"and another", b"and no other"),
        (FROM, b""),
    ],
)
async def test_a_message_that_was_changed_after_the_newest_set(before: bytes, after: bytes) -> None:
    for content in (ONE, THREE):
        assert before in content
        assert (await verdict(content.replace(before, after, 1))).result == "fail"


@pytest.mark.parametrize("name", [AAR, AMS, AS])
@pytest.mark.parametrize("instance", [1, 2, 3])
async def test_a_set_that_was_changed(name: bytes, instance: int) -> None:
    one = field(THREE, name, instance)
    for at in range(len(name) + 7, len(one) - 2):
        other = one[:at] + (b"x" if one[at : at + 1] != b"x" else b"y") + one[at + 1 :]
        found = await verdict(THREE.replace(one, other))
        assert found.result == "fail", other


async def test_sets_that_changed_places() -> None:
    content = sealed(ONE, 2, testimony="i={}; mx.other.example; none")
    first, second = (field(content, AAR, number) for number in (1, 2))
    swapped = content.replace(first, b"\0").replace(second, first.replace(b"i=1;", b"i=2;"))
    swapped = swapped.replace(b"\0", second.replace(b"i=2;", b"i=1;"))
    assert "ARC-Seal with i=2: " in await problem(swapped)


async def test_a_set_of_another_message() -> None:
    other = chain(1, MESSAGE.replace(b"Ann", b"Eve"))
    assert "ARC-Message-Signature" in await problem(b"".join(fields(other)) + MESSAGE)


@pytest.mark.parametrize(
    "other", [b"From: Eve <eve@evil.example>\r\n", b"from:x\r\n", b"From\x0b: eve@evil.example\r\n"]
)
async def test_a_second_from(other: bytes) -> None:
    for content in (other + ONE, ONE.replace(FROM, FROM + other)):
        assert "From" in await problem(content)


async def test_a_chain_on_a_message_without_from() -> None:
    assert await problem(chain(1, b"Subject: x\r\n\r\nHi.\r\n")) == "the message has no From field"


async def test_what_nobody_signed_may_change() -> None:
    assert await result(b"Received: from a by b\r\nX-Spam: no\r\n" + THREE) == "pass"
    assert await result(THREE.replace(b"A  message \r\n\twith", b"A message with")) == "pass"
    assert await result(THREE + b"\r\n\r\n") == "pass"


# --- keys -------------------------------------------------------------------------------------------------------------

OTHER = replace(RSA, domain="other.example")
KEY_NAME, OTHER_NAME = RSA.record_name, OTHER.record_name


@pytest.mark.parametrize(
    ("record", "why"),
    [
        ("", "no key"),
        ("v=DKIM1; p=", "revoked"),
        (RSA.public_record().replace("k=rsa", "k=ed25519"), "not for rsa"),
        (RSA.public_record() + "; h=sha1", "not for sha256"),
        (RSA.public_record() + "; s=web", "not for mail"),
        (RSA.public_record().replace("DKIM1", "DKIM2"), "none of DKIM1"),
        ("v=DKIM1; p=AAAA", "holds no rsa key"),
        (
            "p=MFwwDQYJKoZIhvcNAQEBBQADSwAwSAJBANmBe10IgY+u7h3enWTukkqtUD5PR52Tb/mPfjC0QJTocVBq6Za/PlzfV+Py92VaCak19F4WrbV"
            "TK5Gg5tW220MCAwEAAQ==",
            f"512 bits, not {RSA_MIN_BITS}",
        ),
    ],
)
async def test_a_key_that_is_not_good_for_it(record: str, why: str) -> None:
    records = {KEY_NAME: RSA.public_record(), OTHER_NAME: record}
    by_signature = sealed(signature={"d": "other.example"})
    by_seal = sealed(seal={"d": "other.example"})
    for content, name in ((by_signature, "Message-Signature"), (by_seal, "Seal"), (sealed(by_seal, 2), "Seal")):
        found = await verdict(content, records)
        assert (found.result, found.temporary) == ("fail", False)
        assert found.problem.startswith(f"ARC-{name} with i=1: ")
        assert why in found.problem


BY_OTHER_SIGNATURE, BY_OTHER_SEAL = sealed(signature={"d": "other.example"}), sealed(seal={"d": "other.example"})
SILENT = {KEY_NAME: RSA.public_record(), OTHER_NAME: DnsFailure("no answer")}


@pytest.mark.parametrize("content", [BY_OTHER_SIGNATURE, BY_OTHER_SEAL, sealed(BY_OTHER_SEAL, 2)])
async def test_dns_that_does_not_answer(content: bytes) -> None:
    found = await verdict(content, SILENT)
    assert (found.result, found.temporary) == ("fail", True)
    assert "no answer" in found.problem


async def test_dns_that_does_not_answer_for_an_older_message_signature() -> None:
    found = await verdict(sealed(BY_OTHER_SIGNATURE, 2), SILENT)
    assert (found.result, found.oldest_pass, found.temporary) == ("pass", 2, False)


async def test_a_chain_that_is_broken_anyway_is_not_excused_by_dns() -> None:
    records = {KEY_NAME: DnsFailure("no answer")}
    for content in (ONE.replace(b"cv=none", b"cv=fail"), ONE.replace(b"another", b"an other"), FROM + ONE):
        found = await verdict(content, records)
        assert (found.result, found.temporary) == ("fail", False)


class Counting:
    """A resolver that remembers what it was asked."""

    def __init__(self, answers: StaticResolver) -> None:
        self._answers = answers
        self.asked: list[str] = []

    async def query(self, name: str, rdtype: str) -> Answer:
        assert rdtype == "TXT"
        self.asked.append(name)
        return await self._answers.query(name, rdtype)


async def asked(content: bytes) -> list[str]:
    counting = Counting(resolver(RECORDS | {OTHER_NAME: RSA.public_record()}))
    await verify(Message(content), counting, NOW)
    return counting.asked


async def test_dns_is_asked_once_for_each_name() -> None:
    assert await asked(chain(50)) == [KEY_NAME]
    mixed = sealed(sealed(chain(1), 2, key=OTHER), 3, signature={"d": "other.example"})
    assert sorted(await asked(mixed)) == sorted([KEY_NAME, OTHER_NAME])


async def test_dns_is_not_asked_for_what_cannot_pass() -> None:
    for content in (MESSAGE, FROM + ONE, ONE.replace(b"another", b"x"), ONE.replace(b"cv=none", b"cv=fail")):
        assert await asked(content) == []


async def test_dns_is_not_asked_beyond_the_newest_set_unless_that_is_good() -> None:
    older = chain(9, key=OTHER)
    assert sorted(await asked(sealed(older, 10))) == sorted([KEY_NAME, OTHER_NAME])
    assert await asked(sealed(older, 10, seal={"b": "AAAA"})) == [KEY_NAME]
    assert await asked(sealed(older, 10, signature={"b": "AAAA"})) == [KEY_NAME]


# --- oldest-pass ------------------------------------------------------------------------------------------------------


def relayed(changes: int, count: int) -> bytes:
    """A chain of `count` sets over a message whose body was changed, and the chain broken thereby, before each of the
    first `changes` sets but the first. Each seal claims that the chain was whole."""
    content = MESSAGE
    for instance in range(1, count + 1):
        if 1 < instance <= changes:
            content += b"A footer.\r\n"
        content = sealed(content, instance)
    return content


@pytest.mark.parametrize(
    ("changes", "count", "oldest"), [(0, 1, 0), (0, 3, 0), (2, 2, 2), (2, 3, 2), (3, 3, 3), (2, 5, 2), (4, 5, 4)]
)
async def test_the_oldest_signature_that_still_holds(changes: int, count: int, oldest: int) -> None:
    found = await verdict(relayed(changes, count))
    assert (found.result, found.oldest_pass) == ("pass", oldest)


@pytest.mark.parametrize(
    "tags",
    [{"bh": None}, {"a": "rsa-sha1"}, {"h": "arc-seal"}, {"x": "1"}, {"s": "none"}, {"b": "AAAA"}, {"d": "", "h": ":"}],
)
async def test_an_older_signature_never_breaks_the_chain(tags: Mapping[str, str | None]) -> None:
    # RFC 8617 section 5.2 step 5.A: this does not affect the validity of the chain
    content = sealed(sealed(sealed(), 2, signature=tags), 3)
    found = await verdict(content)
    assert (found.result, found.oldest_pass) == ("pass", 3)


async def test_only_so_many_older_signatures_are_looked_at() -> None:
    found = await verdict(chain(OLDER_SIGNATURES + 1))
    assert (found.result, found.oldest_pass) == ("pass", 0)
    found = await verdict(chain(OLDER_SIGNATURES + 5))
    assert (found.result, found.oldest_pass) == ("pass", 5)


async def test_what_is_said_of_a_broken_chain_names_its_sealers() -> None:
    found = await verdict(TWO.replace(b"another", b"x"))
    assert [(one.instance, one.domain) for one in found.sets] == [(2, "author.example"), (1, "author.example")]


@pytest.mark.parametrize(("names", "signs"), [("", False), ("to:subject", False), ("fromage", False), ("From", True)])
async def test_whether_the_author_is_signed_is_said_and_is_no_matter_to_the_chain(names: str, signs: bool) -> None:
    found = await verdict(sealed(signature={"h": names}))
    assert (found.result, found.sets[0].signs_author) == ("pass", signs)

"""Which key signs which message, and that somebody hears of mail that leaves unsigned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from structlog.testing import capture_logs

from relay.mail.message import Message
from relay.sign.covered_fields import CLOSED_IN_OURS
from relay.sign.keys import SigningKey, generate, parse
from relay.sign.signer import Signer
from relay.sign.signing_table import AUTHORS_DOMAIN, Rule, SigningTable, forwarder_keys, rules_of

NOW = 1_790_000_000.0
PRIVATE = parse(generate("ed25519"))


def key(domain: str, selector: str) -> SigningKey:
    return SigningKey(domain, selector, PRIVATE)


def signer(*keys: SigningKey, forwarder: str = "fwd.example", sealing: SigningKey | None = None) -> Signer:
    rules = rules_of((one, (one.domain,)) for one in keys)
    return Signer(SigningTable(rules, forwarder_keys(keys, forwarder)), sealing)


def selectors(signer: Signer, author: str, now: float = NOW) -> list[str]:
    fields = signer.signatures(signer.unsigned(Message(f"From: {author}\r\n\r\n".encode())), now).fields.decode()
    return [field.partition("s=")[2].partition(";")[0] for field in fields.split("DKIM-Signature:")[1:]]


SIGNER = signer(key("brand.example", "b1"), key("fwd.example", "f1"), key("fwd.example", "f2"))


@pytest.mark.parametrize(
    ("author", "expected"),
    [
        ("a@brand.example", ["b1"]),
        ("a@BRAND.example", ["b1"]),
        ("a@fwd.example", ["f1", "f2"]),
        ("a@elsewhere.example", ["f1", "f2"]),
        ("a@below.brand.example", ["f1", "f2"]),
        ("a@brand.example, b@elsewhere.example", ["f1", "f2"]),
        ("nobody", ["f1", "f2"]),
    ],
)
def test_the_authors_domain_signs_as_itself_and_the_forwarder_for_the_rest(author: str, expected: list[str]) -> None:
    assert selectors(SIGNER, author) == expected


def test_without_a_key_of_the_forwarder_the_first_key_signs() -> None:
    assert selectors(signer(key("brand.example", "b1")), "a@x.example") == ["b1"]


def test_no_keys_no_signature_and_no_warning() -> None:
    with capture_logs() as logs:
        assert selectors(signer(), "a@x.example") == []
    assert logs == []


def test_a_key_signs_from_its_first_moment_to_before_its_last() -> None:
    turn = NOW + 60
    old, new = key("fwd.example", "f1"), key("fwd.example", "f2")
    changing = signer(replace(old, active_until=turn), replace(new, active_from=turn))
    assert [selectors(changing, "a@x.example", now) for now in (NOW, turn - 0.5, turn, turn + 60)] == [
        ["f1"],
        ["f1"],
        ["f2"],
        ["f2"],
    ]


def test_a_domain_without_an_active_key_is_signed_by_the_forwarder() -> None:
    retired = replace(key("brand.example", "b1"), active_until=NOW)
    assert selectors(signer(retired, key("fwd.example", "f1")), "a@brand.example") == ["f1"]


def test_mail_that_leaves_unsigned_since_no_key_is_active_is_one_warning() -> None:
    waiting = signer(replace(key("fwd.example", "f1"), active_from=NOW + 60))
    with capture_logs() as logs:
        assert selectors(waiting, "a@x.example") == selectors(waiting, "a@fwd.example") == []
    [line] = logs
    assert (line["event"], line["log_level"], line["from_domain"]) == ("unsigned", "warning", "x.example")
    assert line["forwarder"] == ["f1._domainkey.fwd.example"]


@pytest.mark.parametrize(
    ("author", "expected"),
    [
        ("news@brand.example", ["special"]),
        ('"NEWS" <News@brand.example>', ["special"]),
        ("bob@brand.example", ["general"]),
        ("news@brand.example, bob@brand.example", ["general"]),
    ],
)
def test_a_rule_for_one_user_is_not_for_the_others(author: str, expected: list[str]) -> None:
    rules = [
        Rule("news@brand.example", (key("brand.example", "special"),)),
        Rule("*@brand.example", (key("brand.example", "general"),)),
    ]
    assert selectors(Signer(SigningTable(rules, ())), author) == expected


@pytest.mark.parametrize(
    ("keys", "sealing", "expected"),
    [
        (("ed25519", "rsa2048"), None, "1"),
        (("ed25519",), None, None),
        (("rsa2048",), "rsa2048", "arc"),
        ((), "rsa2048", "arc"),
    ],
)
def test_arc_has_its_own_key_or_the_forwarders_rsa_key(
    keys: Sequence[str], sealing: str | None, expected: str | None
) -> None:
    made = {kind: parse(generate(kind)) for kind in ("ed25519", "rsa2048")}
    own = [SigningKey("fwd.example", str(n), made[kind]) for n, kind in enumerate(keys)]
    arc_key = SigningKey("fwd.example", "arc", made[sealing]) if sealing else None
    found = signer(*own, sealing=arc_key).sealing_key(NOW)
    assert (found.selector if found else None) == expected


def test_a_key_that_is_not_active_seals_nothing() -> None:
    rsa = SigningKey("fwd.example", "f1", parse(generate("rsa2048")), active_from=NOW + 60)
    assert signer(rsa).sealing_key(NOW) is None
    assert signer(rsa).sealing_key(NOW + 60) is not None


@pytest.mark.parametrize("ours", [False, True])
@pytest.mark.parametrize("extra", ["", "Subject: x\r\n" * 2000, "Content-A: x\r\nList-B: x\r\n" * 1000])
def test_a_size_that_is_announced_has_room_for_the_signatures(ours: bool, extra: str) -> None:
    long = ".".join(["label" * 10] * 5)
    keys = [key("fwd.example", "f1"), SigningKey(long, "s" * 60, parse(generate("rsa2048")))]
    header = "".join(f"{name}: x\r\n" for name in CLOSED_IN_OURS) + extra
    message = Message(header.encode() + b"\r\nHi.\r\n")
    for one in keys:
        unsigned = signer(one).unsigned(message, ours=ours)
        count, octets = signer(one).estimate(unsigned, NOW)
        made = len(signer(one).signatures(unsigned, NOW).fields)
        assert count == 1
        assert 0 < made <= octets < 2 * made + 1500


def test_an_author_who_is_not_proven_counts_in_the_size_too() -> None:
    anybodys = key(AUTHORS_DOMAIN, "brand")
    table = SigningTable(rules_of([(anybodys, ("*",))]), [key("fwd.example", "f1"), key("fwd.example", "f2")])
    message = Message(b"From: a@x.example\r\n\r\n")
    for proven, number in ((True, 1), (False, 2)):
        unsigned = Signer(table).unsigned(message, proven=proven)
        assert Signer(table).estimate(unsigned, NOW)[0] == len(Signer(table).signatures(unsigned, NOW).keys) == number


@pytest.mark.parametrize("header", [b"To: a@x.example\r\n", b"From: a@x.example\r\nFrom: b@x.example\r\n"])
def test_a_message_that_is_not_signed_is_signed_by_nobody(header: bytes) -> None:
    unsigned = SIGNER.unsigned(Message(header + b"\r\n"))
    assert SIGNER.estimate(unsigned, NOW) == (0, 0)
    assert SIGNER.signatures(unsigned, NOW) == (b"", ())

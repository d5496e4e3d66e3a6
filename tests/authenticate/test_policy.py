from __future__ import annotations

import time

import pytest

from relay.authenticate import author
from relay.authenticate.author import AUTHORS, author_domains
from relay.authenticate.policy import apply_spf, refuse_forged_author, refuse_forged_sender
from relay.authenticate.spf import SpfVerdict
from relay.config import Spf
from relay.message import Message
from relay.reply import Refused

OWN = frozenset({"fwd.example", "brand.example"})


def verdict(result: str, domain: str = "a.example", **more: str) -> SpfVerdict:
    return SpfVerdict(result, "mailfrom", domain, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("policy", "result", "reply"),
    [
        (Spf(), "fail", None),
        (Spf(), "pass", None),
        (Spf(), "temperror", "451 4.7.24"),
        (Spf(fail="reject"), "fail", "550 5.7.23"),
        (Spf(fail="reject"), "softfail", None),
        (Spf(fail="defer"), "fail", "451 4.7.24"),
        (Spf(softfail="reject"), "softfail", "550 5.7.23"),
        (Spf(permerror="reject"), "permerror", "550 5.7.24"),
        (Spf(temperror="reject"), "temperror", "451 4.7.24"),
        (Spf(temperror="tag"), "temperror", None),
    ],
)
def test_spf_policy(policy: Spf, result: str, reply: str | None) -> None:
    if reply is None:
        apply_spf(policy, verdict(result), "192.0.2.1")
        return
    with pytest.raises(Refused, match=f"^{reply} .*a\\.example"):
        apply_spf(policy, verdict(result), "192.0.2.1")


def test_the_refusal_gives_the_domains_own_explanation() -> None:
    with pytest.raises(Refused, match=r"see https://a\.example/why"):
        apply_spf(Spf(fail="reject"), verdict("fail", explanation="see https://a.example/why"), "192.0.2.1")


@pytest.mark.parametrize(
    ("sender", "found", "refused"),
    [
        ("x@fwd.example", verdict("pass", "fwd.example"), False),
        ("x@fwd.example", verdict("none", "fwd.example"), True),
        ("x@sub.FWD.example", verdict("softfail", "sub.fwd.example"), True),
        ("x@notfwd.example", verdict("fail", "notfwd.example"), False),
        ("", verdict("none", ""), False),
    ],
)
def test_our_domains_as_sender(sender: str, found: SpfVerdict, refused: bool) -> None:
    if refused:
        with pytest.raises(Refused, match=r"^550 5\.7\.1 "):
            refuse_forged_sender(OWN, found, sender, "192.0.2.1")
    else:
        refuse_forged_sender(OWN, found, sender, "192.0.2.1")


@pytest.mark.parametrize(
    ("header", "found", "refused"),
    [
        ("From: a@fwd.example", verdict("pass", "fwd.example"), False),
        ("From: a@fwd.example", verdict("pass", "mail.fwd.example"), False),
        ("From: a@fwd.example", verdict("pass", "evil.example"), True),
        ("From: a@fwd.example", verdict("fail", "fwd.example"), True),
        ("From: a@deep.brand.example", verdict("none"), True),
        ('From: "a@fwd.example" <x@other.example>', verdict("none"), False),
        ("From: x@other.example\r\nFrom: a@fwd.example", verdict("none"), True),
        ("From: Group: x@other.example, a@fwd.example;", verdict("none"), True),
        ("Subject: no author", verdict("none"), False),
        ("From: a@sender.example <ceo@fwd.example>", verdict("pass", "sender.example"), True),
        ("From: A (a@sender.example) <ceo@fwd.example> <", verdict("pass", "sender.example"), True),
        ("From: ceo@fwd.example (", verdict("pass", "sender.example"), True),
        ('From: "ceo"@fwd.example', verdict("none"), True),
        ("From: ceo@(x)fwd . example", verdict("none"), True),
        ("From: ceo @\r\n fwd.example", verdict("none"), True),
        ("From: 'ceo@fwd.example'", verdict("none"), True),
        ("From: ceo@\x00fwd.example\x00", verdict("none"), True),
        ("From: (ceo@fwd.example) <x@other.example>", verdict("none"), False),
        (r'From: "a\" ceo@fwd.example" <x@other.example>', verdict("none"), False),
        ("From: " + "(" * 5000 + "a@fwd.example", verdict("none"), True),
        ("From: " + "x@y.example, " * 5000 + "a@fwd.example", verdict("none"), True),
        ("From: " + ", ".join(f"x@y{n}.example" for n in range(100)), verdict("none"), False),
        ("From: " + ", ".join(f"x@y{n}.example" for n in range(99)) + ", a@fwd.example", verdict("none"), True),
        ("From: " + ", ".join(f"x@y{n}.example" for n in range(101)), verdict("none"), True),
        (
            "From: " + ", ".join("x@y.example" + "." * n for n in range(1, 150)) + ", a@fwd.example",
            verdict("none"),
            True,
        ),
    ],
)
def test_our_domains_as_author(header: str, found: SpfVerdict, refused: bool) -> None:
    message = Message(header.encode() + b"\r\n\r\n")
    if refused:
        with pytest.raises(Refused, match=r"^550 5\.7\.1 "):
            refuse_forged_author(OWN, found, message, "192.0.2.1")
    else:
        refuse_forged_author(OWN, found, message, "192.0.2.1")


@pytest.mark.parametrize("unit", ["(", "<", "a@b.example,", ":", '"', "[", "a@"])
def test_a_monstrous_author_costs_little(unit: str) -> None:
    message = Message(b"From: " + unit.encode() * (200_000 // len(unit)) + b"\r\n\r\n")
    started = time.process_time()
    author_domains(message)
    assert time.process_time() - started < 1.0  # seconds; a parser in trouble takes minutes or the whole stack


def test_of_authors_without_number_few_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at = []
    monkeypatch.setattr(author, "domain_of", lambda address: looked_at.append(address) or address)
    many = " ".join(f"@ü{number}.example" for number in range(20_000))
    assert len(author_domains(Message(f"From: {many}\r\n\r\n".encode()))) == AUTHORS + 1
    assert len(author_domains(Message(b"From: " + b"@a.example," * 20_000 + b"\r\n\r\n"))) == 1
    assert len(looked_at) == AUTHORS + 2


def test_white_space_in_an_author_costs_little() -> None:
    message = Message(b"From: a" + b" " * 100_000 + b"b@sender.example\r\n\r\n")
    started = time.process_time()
    assert author_domains(message) == ["sender.example"]
    assert time.process_time() - started < 1.0  # seconds; a search that goes back takes minutes


@pytest.mark.parametrize("header", ["From: ceo@fwd.example\u3002", "From: ceo@corp.example"])
def test_our_domain_in_disguise_and_the_one_above_it(header: str) -> None:
    own = frozenset({"fwd.example", "fwd.corp.example"})
    with pytest.raises(Refused, match=r"^550 5\.7\.1 "):
        refuse_forged_author(own, verdict("pass", "evil.example"), Message(header.encode() + b"\r\n\r\n"), "192.0.2.1")

"""Who the authors of a message are, however From is written, and that no From takes long to read."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.authenticate import author
from relay.authenticate.author import AUTHORS, author_domains, doubtful_domains, from_fields, possible_authors
from relay.mail.address import domain_of
from relay.mail.message import Message
from relay.rewrite.from_field import author_addresses


@pytest.mark.parametrize(
    ("value", "domains"),
    [
        ("ann@author.example", ["author.example"]),
        ("Ann <ann@Author.Example.>, bob@author.example", ["author.example"]),
        ("a@a.example, b@b.example", ["a.example", "b.example"]),
        ("a@b\u00fccher.example", ["xn--bcher-kva.example"]),
        ('"ceo@fwd.example" <a@sender.example>', ["sender.example"]),
        ("a@sender.example (ceo@fwd.example)", ["sender.example"]),
        ("a @ sender . example", ["sender.example"]),
        ("=?utf-8?q?ceo=40fwd.example?=", ["fwd.example"]),
        ("=?utf-8?b?Y2VvQGZ3ZC5leGFtcGxl?=", ["fwd.example"]),
        ("undisclosed", []),
        ("", []),
    ],
)
def test_the_domains_of_the_authors(value: str, domains: list[str]) -> None:
    assert author_domains(Message(f"From: {value}\r\n\r\n".encode())) == domains


def test_every_from_field_counts() -> None:
    message = Message(b"From: a@a.example\r\nTo: t@t.example\r\nfrom: b@b.example\r\n\r\n")
    assert author_domains(message) == ["a.example", "b.example"]
    assert [field.raw for field in from_fields(message)] == [b"From: a@a.example\r\n", b"from: b@b.example\r\n"]


def test_a_domain_that_only_some_readers_see_is_not_an_author() -> None:
    message = Message(b"From: ceo@fwd\0.example\r\n\r\n")
    assert "fwd.example" not in author_domains(message)
    assert doubtful_domains(message) == ["fwd.example"]


def test_nobody_is_doubtful_in_a_from_that_is_too_long_to_read() -> None:
    assert doubtful_domains(Message(b"From: " + b"a@b.example," * 1500 + b"\r\n\r\n")) == []


@pytest.mark.parametrize(
    "name",
    [
        b"From\0",
        b"Fr\0om",
        b"\0From",
        b"From\x0b",
        b"\x0cFrom",
        b"From\xa0",
        b"From\r\n ",
        b" From",
        b"\xef\xbb\xbfFrom",
    ],
)
def test_a_field_that_some_reader_takes_for_from_is_one(name: bytes) -> None:
    """rspamd and Dovecot do not see NUL in the name of a field, and mailparser no white space around it."""
    message = Message(b"%s: ceo@fwd.example\r\nFrom: x@evil.example\r\n\r\n" % name)
    assert author_domains(message) == ["fwd.example", "evil.example"]


@pytest.mark.parametrize("name", [b"Fr\xc3\xb6m", b"X-From", b"From x", b'"From"', b"From ann Thu Jan  1 00"])
def test_a_field_that_none_takes_for_from_is_none(name: bytes) -> None:
    assert len(from_fields(Message(b"%s: ceo@fwd.example\r\nFrom: x@evil.example\r\n\r\n" % name))) == 1


@pytest.mark.parametrize("unit", ["(", "<", "a@b.example,", ":", '"', "[", "a@"])
def test_a_monstrous_author_costs_little(unit: str) -> None:
    message = Message(b"From: " + unit.encode() * (200_000 // len(unit)) + b"\r\n\r\n")
    started = time.process_time()
    author_domains(message)
    assert time.process_time() - started < 1.0  # seconds; a parser in trouble takes minutes or the whole stack


def test_of_authors_without_number_few_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at: list[str] = []

    def watched(address: str) -> str:
        looked_at.append(address)
        return address

    monkeypatch.setattr(author, "domain_of", watched)
    many = " ".join(f"@ü{number}.example" for number in range(700))
    assert len(author_domains(Message(f"From: {many}\r\n\r\n".encode()))) == AUTHORS + 1
    assert len(author_domains(Message(b"From: " + b"@a.example," * 1000 + b"\r\n\r\n"))) == 1
    assert len(looked_at) == AUTHORS + 2


@pytest.mark.parametrize("header", [b"From: " + b"a@b.example," * 1500, b"From: a@b.example\r\n" * 101])
def test_what_is_no_list_of_authors_is_not_read(header: bytes) -> None:
    assert author_domains(Message(header + b"\r\n\r\n")) == [""] * (AUTHORS + 1)


def test_white_space_in_an_author_costs_little() -> None:
    message = Message(b"From: a" + b" " * 15_000 + b"b@sender.example\r\n\r\n")
    started = time.process_time()
    assert author_domains(message) == ["sender.example"]
    assert time.process_time() - started < 1.0  # seconds; a search that goes back takes minutes


@pytest.mark.parametrize(
    ("value", "domains"),
    [
        ('(") "The CEO" <ceo@fwd.example> (") <a@sender.example>', {"fwd.example", "sender.example"}),
        ("ceo@(c)fwd.example (", {"fwd.example"}),
        ("ceo@(c)fwd.example" + " " * 9000 + "<a@sender.example>", {"fwd.example", "sender.example"}),
        ("a@sender.example, victim@[192.0.2.1]", {"sender.example", "[192.0.2.1]"}),
        (r"(\) <ceo@fwd.example> (\") <a@sender.example>", {"sender.example"}),
        ("( ceo@(c)fwd.example", {"fwd.example"}),
        ("x" * 9000 + " <ceo@((c))fwd.example> (", {"fwd.example"}),
    ],
)
def test_an_author_hidden_from_some_readers_is_an_author(value: str, domains: set[str]) -> None:
    found = set(author_domains(Message(f"From: {value}\r\n\r\n".encode())))
    assert found >= domains


PIECES = ["(", ")", '"', "\\", "<", ">", "@", ",", ";", ":", ".", " ", "a", "b.example", "[1.2.3.4]"]


@given(st.lists(st.sampled_from(PIECES), max_size=40).map("".join))
def test_whoever_is_written_to_is_an_author(value: str) -> None:
    message = Message(f"From: {value}\r\n\r\n".encode())
    assert {domain_of(address) for address in author_addresses(message)} <= {*author_domains(message)}


@pytest.mark.parametrize(
    ("header", "addresses"),
    [
        ("From: ann@a.example", {"ann@a.example"}),
        ('From: "ceo@a.example" <ann@a.example> (boss@b.example)', {"ann@a.example"}),
        ("From: ann@a.example <ann@a.example>", {"ann@a.example"}),
        (
            "From: Ann <ann@a.example>, Team: bob@b.example, <cy@c.example>;",
            {"ann@a.example", "bob@b.example", "cy@c.example"},
        ),
        ('From: "odd name"@a.example', {'"odd name"@a.example'}),
        ("From: =?utf-8?q?J=C3=B6rg?= <j\u00f6rg@b\u00fccher.example>", {"j\u00f6rg@xn--bcher-kva.example"}),
        ("From: ann@a.example\r\nFrom: bob@b.example", {"ann@a.example", "bob@b.example"}),
        # what some readers show beside the one mailbox that RFC 5322 knows
        ("From: ceo@a.example ann@a.example", {"ceo@a.example", "ann@a.example"}),
        ("From: ceo@a.example <ann@a.example>", {"ceo@a.example", "ann@a.example"}),
        ("From: ann@a.example <ceo@a.example", {"ceo@a.example", "ann@a.example"}),
        ("Subject: no author", set()),
        ("Sender: ceo@a.example", set()),
        ("From:", None),
        ("From: undisclosed", None),
        ("From: =?utf-8?q?ceo=40a.example?=", None),
        ("From: ann@a.example, =?utf-8?q?ceo=40b.example?=", None),
        ("From: ann@a.example\r\nFrom\t: nobody", None),
        ("From: " + "x" * 5000 + " <ann@a.example>", None),
        ("From: " + ", ".join(["ann@a.example"] * 30), None),
        ("From: ann@a.example\r\n" * 200, None),
    ],
)
def test_whom_from_may_name(header: str, addresses: set[str] | None) -> None:
    assert possible_authors(Message(f"{header}\r\n\r\nFrom: ceo@body.example\r\n".encode())) == addresses

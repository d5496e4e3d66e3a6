"""Which certificate is for which host name."""

from __future__ import annotations

import pytest

from relay.receive.sni import Shown, SniTable, covers

A, B = "mx.a.example", "mx.b.example"


def table(*certificates: tuple[str, str]) -> SniTable:
    """Certificates by their names, with blanks between them, and the kind of the key."""
    return SniTable([Shown(tuple(names.split()), kind) for names, kind in certificates])


@pytest.mark.parametrize(
    ("host", "number"),
    [
        (A, 0),
        (B, 1),
        ("MX.B.Example", 1),
        ("mx.b.example.", 1),
        ("", 0),
        ("unknown.example", 0),
        ("x.b.example", 2),
        ("exact.b.example", 3),
        ("x.y.b.example", 0),
        ("b.example", 0),
        ("*.b.example", 2),
        ("192.0.2.1", 0),
        (".", 0),
        ("x." + "a" * 300, 0),
    ],
)
def test_the_certificate_of_a_name(host: str, number: int) -> None:
    chosen = table((A, "RSA"), (B, "RSA"), ("*.b.example", "RSA"), ("exact.b.example", "RSA")).chosen(host)
    assert chosen == (number,)


def test_the_exact_name_wins_wherever_it_stands() -> None:
    both = table(("*.b.example", "RSA"), (B, "ECDSA"))
    assert both.chosen(B) == (1,)
    assert both.chosen("x.b.example") == (0,)


def test_any_name() -> None:
    assert table((A, "RSA"), ("*", "RSA")).chosen("x.y.example") == (1,)


def test_keys_of_two_kinds_for_one_name_are_both_offered() -> None:
    both = table((A, "RSA"), (f"{A} {B}", "ECDSA"), (A, "RSA"), (A, "ECDSA"))
    assert both.chosen(A) == both.chosen("") == (0, 1)
    assert both.chosen(B) == (1,)
    assert both.hidden(2) == {A: 0}
    assert both.hidden(3) == {A: 1}
    assert both.hidden(0) == both.hidden(1) == {}


def test_the_first_alone_is_shown_where_the_other_is_not_for_all_of_its_names() -> None:
    assert table((f"{A} {B}", "RSA"), (A, "ECDSA")).default == (0,)
    assert table(("", "RSA"), ("", "ECDSA")).default == (0,), "no names are no reason to offer them together"


@pytest.mark.parametrize(
    ("pattern", "host", "does"),
    [(A, A, True), ("*.a.example", A, True), ("*.a.example", "a.example", False), ("*.example", A, False)],
)
def test_names_of_certificates(pattern: str, host: str, does: bool) -> None:
    assert covers(pattern, host) is does

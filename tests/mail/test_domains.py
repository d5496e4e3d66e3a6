"""Domains are compared label by label, never as text."""

from __future__ import annotations

import pytest

from relay.mail.domains import are_nested, is_ancestor, is_same_or_below, share_two_labels


@pytest.mark.parametrize(
    ("parent", "child", "above"),
    [
        ("example", "mail.example", True),
        ("example", "a.b.example", True),
        ("example", "example", False),
        ("mail.example", "example", False),
        ("bank.example", "notbank.example", False),
    ],
)
def test_ancestors(parent: str, child: str, above: bool) -> None:
    assert is_ancestor(parent, child) is above
    assert are_nested(parent, child) is are_nested(child, parent) is (above or parent != "bank.example")


def test_same_or_below_any_of_several() -> None:
    assert is_same_or_below(["a.example", "b.example"], "b.example")
    assert is_same_or_below(["a.example", "b.example"], "x.b.example")
    assert not is_same_or_below(["a.example", "b.example"], "example")
    assert not is_same_or_below([], "example")


@pytest.mark.parametrize(
    ("first", "second", "shared"),
    [
        ("mail.shop.example", "shop.example", True),
        ("a.shop.example", "b.shop.example", True),
        ("shop.example", "shop.test", False),
        ("myshop.example", "shop.example", False),
        ("example", "example", False),
        ("example", "shop.example", False),
    ],
)
def test_two_labels_in_common(first: str, second: str, shared: bool) -> None:
    assert share_two_labels(first, second) is share_two_labels(second, first) is shared

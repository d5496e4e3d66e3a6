"""How two domain names lie to each other in the tree of DNS; all of them in normal form."""

from __future__ import annotations

from collections.abc import Collection


def is_same_or_below(own: Collection[str], domain: str) -> bool:
    """Whether a normal domain is one of `own`, or below one."""
    return any(domain == one or is_ancestor(one, domain) for one in own)


def are_nested(one: str, other: str) -> bool:
    """Whether two normal domains are the same, or one is below the other."""
    return one == other or is_ancestor(one, other) or is_ancestor(other, one)


def is_ancestor(parent: str, child: str) -> bool:
    """Whether one normal domain is a parent of another, at any distance."""
    return child.endswith("." + parent)


def share_two_labels(one: str, other: str) -> bool:
    """Whether two domains may be one organization's by their names: none is a single label, for who could register
    below it."""
    return one.split(".")[-2:] == other.split(".")[-2:] and "." in one

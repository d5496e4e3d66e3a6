"""How two domain names are related in the DNS tree. All names are in normal form."""

from __future__ import annotations

from collections.abc import Collection


def is_same_or_below(parents: Collection[str], domain: str) -> bool:
    """Whether a domain is one of `parents`, or below one of them."""
    return any(domain == parent or is_ancestor(parent, domain) for parent in parents)


def are_nested(first: str, second: str) -> bool:
    """Whether two domains are the same, or one of them is below the other."""
    return first == second or is_ancestor(first, second) or is_ancestor(second, first)


def is_ancestor(parent: str, child: str) -> bool:
    """Whether `child` is below `parent`, at any depth."""
    return child.endswith("." + parent)


def share_two_labels(first: str, second: str) -> bool:
    """Whether the last two labels of two domains are the same, so that one organization may own both.

    A single label never counts: it is a top-level domain.
    """
    return first.split(".")[-2:] == second.split(".")[-2:] and "." in first

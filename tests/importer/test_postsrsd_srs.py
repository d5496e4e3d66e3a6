"""What both versions of PostSRSd configure: edges that no file of one version alone shows."""

from __future__ import annotations

import pytest

from relay.importer.draft import Draft, Origin
from relay.importer.postsrsd_srs import add_table, address, set_hash_lengths

HERE = Origin("name", "file:1")


@pytest.mark.parametrize(
    ("host", "expected"),
    [("", "127.0.0.1:1"), ("192.0.2.1", "192.0.2.1:1"), ("[2001:db8::1]", "[2001:db8::1]:1"), ("mx", ""), ("1.2", "")],
)
def test_addresses(host: str, expected: str) -> None:
    assert address(host, 1) == expected


@pytest.mark.parametrize(
    ("listening", "named"),
    [("127.0.0.1:1", False), ("10.0.0.1:1", False), ("0.0.0.0:1", True), ("[::]:1", True), ("192.0.3.1:1", True)],
)
def test_who_may_connect_is_named_where_strangers_could(listening: str, named: bool) -> None:
    draft = Draft("PostSRSd 1", "file")
    add_table(draft, listening, "tcp", "forward", HERE, "")
    assert ("clients" in draft.arrays["tables"][0].keys) is named


def test_one_address_is_one_table() -> None:
    draft = Draft("PostSRSd 1", "file")
    for direction in ("forward", "reverse"):
        add_table(draft, "127.0.0.1:1", "tcp", direction, HERE, "")
    assert len(draft.arrays["tables"]) == 1
    assert draft.unmapped[0].meaning == "127.0.0.1:1 is a table already."


def test_the_shortest_hash_is_never_longer_than_those_that_are_written() -> None:
    draft = Draft("PostSRSd 1", "file")
    set_hash_lengths(draft, None, (8, HERE))
    assert draft.value(("srs",), "hash_min") == 4

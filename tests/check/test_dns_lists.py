"""What the answers of the DNS lists mean that `check` asks."""

from __future__ import annotations

from relay.check.dns_lists import ADDRESS_LISTS

ZEN = ADDRESS_LISTS[0]


def test_what_a_listing_means() -> None:
    assert "PBL" in ZEN.meaning("127.0.0.11") and "SBL" in ZEN.meaning("127.0.0.2")
    assert ZEN.meaning("127.0.0.99") == "listed"

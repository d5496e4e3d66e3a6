"""What the protocols have in common fits what addresses and the metric need."""

from __future__ import annotations

from typing import get_args

from relay.mail.address import DOMAIN_OCTETS, LOCAL_PART_TAKEN
from relay.metrics import TABLE_LOOKUPS
from relay.postfix_tables.request import KEPT_OCTETS, MAPS, Result


def test_the_longest_address_is_kept_whole_in_any_encoding() -> None:
    assert len("reverse ") + 3 * (LOCAL_PART_TAKEN + len("@") + DOMAIN_OCTETS) <= KEPT_OCTETS


def test_each_result_of_each_map_is_counted() -> None:
    assert {(name, result) for name in MAPS for result in get_args(Result)} == set(TABLE_LOOKUPS)

"""The keys as the models have them."""

from __future__ import annotations

import json

import pytest

from relay.config import keys
from relay.config.model import Config


@pytest.mark.parametrize("name", list(Config.model_fields))
def test_what_a_variable_is_said_to_hold_is_json(name: str) -> None:
    shape = keys.in_environment([name])
    if shape:
        variable, _, value = shape.partition("=")
        assert variable == f"RELAY_{name.upper()}"
        json.loads(value.strip("'"))


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        (["listen", "0", "adress"], [("listen", "0", "address")]),
        (["routes", "domains", "queue", "recipient"], [("routes", "domains", "queue", "recipients")]),
        (["url"], [("queue", "url"), ("delivery", "smarthost", "url"), ("delivery", "smarthosts", "NAME", "url")]),
        (["next_hop"], [("delivery", "destinations", "next_hop"), ("routes", "domains", "NAME", "next_hop")]),
        (["nowhere", "zzz"], []),
    ],
)
def test_the_keys_that_are_meant(given: list[str], meant: list[tuple[str, ...]]) -> None:
    assert keys.meant(given) == meant


def test_arrays_of_tables() -> None:
    assert keys.is_array_of_tables(["listen"]) and keys.is_array_of_tables(["dkim"])
    assert not keys.is_array_of_tables(["clients", "trusted"]) and not keys.is_array_of_tables(["srs"])

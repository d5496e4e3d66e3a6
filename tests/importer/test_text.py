"""The text of an imported configuration: TOML whatever the source says, each key with its origin."""

from __future__ import annotations

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.importer.draft import Draft, Key, Origin
from relay.importer.text import comment, config_text, summary, toml
from tests.importer.loading import everything

HERE = Origin("myhostname", "/etc/postfix/main.cf:7")


def draft() -> Draft:
    return Draft("Postfix", "/etc/postfix/main.cf")


def test_each_key_has_its_origin_above_it() -> None:
    made = draft()
    made.set((), "hostname", "mx.a.example", HERE, "It has a PTR record.")
    assert (
        "\n# From myhostname (/etc/postfix/main.cf:7). It has a PTR record.\nhostname = "
        '"mx.a.example"\n' in config_text(made)
    )


def test_an_array_from_several_places_names_each_of_them() -> None:
    made = draft()
    made.add(("clients",), "trusted", ["10.0.0.0/8"], Origin("mynetworks", "main.cf:1"))
    made.add(("clients",), "trusted", ["::1/128"], "nets:3")
    text = config_text(made)
    assert '    "10.0.0.0/8",  # from mynetworks (main.cf:1)\n    "::1/128",  # from nets:3\n' in text
    assert tomllib.loads(text)["clients"]["trusted"] == ["10.0.0.0/8", "::1/128"]


def test_tables_and_keys_have_the_order_of_the_reference() -> None:
    made = draft()
    made.set(("queue",), "retry_for", "5d", HERE)
    made.set(("srs",), "hash", "compatible")
    made.set(("srs",), "domain", "a.example", HERE)
    made.set(("delivery", "smarthost"), "url", "smtp://h.example:25", HERE)
    made.set(("delivery",), "tls", "may", HERE)
    made.set((), "authserv_id", "b.example", HERE)
    made.set((), "hostname", "a.example", HERE)
    made.entry("listen", {"address": Key("0.0.0.0:25")})
    keys = [line.partition(" = ")[0] for line in config_text(made).split("\n") if line and not line.startswith("#")]
    assert keys == [
        *("hostname", "authserv_id", "[[listen]]", "address", "[srs]", "domain", "hash"),
        *("[delivery]", "tls", "[delivery.smarthost]", "url", "[queue]", "retry_for"),
    ]


def test_what_is_to_fill_in_is_a_comment_that_is_right_without_its_sign() -> None:
    made = draft()
    made.ask((), "hostname", "mx.example.org", "the name.")
    made.ask(("srs",), "domain", "example.org", "the domain.")
    made.ask(("routes", "domains", "a.example"), "next_hop", "lmtp://127.0.0.1:24", "the host.", "if wanted")
    made.entry("listen", {"address": Key("0.0.0.0:25")}, "where mail comes in.", "fill in")
    text = config_text(made)
    assert tomllib.loads(text) == {}
    assert "# To fill in: the name.\n#hostname = " in text
    assert "# If wanted: the host.\n#next_hop = " in text
    assert tomllib.loads(everything(text)) == {
        "hostname": "mx.example.org",
        "listen": [{"address": "0.0.0.0:25"}],
        "srs": {"domain": "example.org"},
        "routes": {"domains": {"a.example": {"next_hop": "lmtp://127.0.0.1:24"}}},
    }


def test_what_has_no_counterpart_stands_at_the_end_what_matters_first() -> None:
    made = draft()
    made.no_counterpart(Origin("biff", "main.cf:3"), "nobody is told.")
    made.no_counterpart(Origin("header_checks", "main.cf:4"), "no patterns.", matters=True)
    made.no_counterpart(Origin("soft_bounce", "main.cf:5"), "nobody is told.")
    end = config_text(made).partition("What has no counterpart -")[2]
    assert end.index("header_checks (main.cf:4): no patterns.") < end.index("biff (main.cf:3), soft_bounce (main.cf:5)")
    assert list(summary(made)) == [
        "no counterpart: header_checks (main.cf:4): no patterns.",
        "no counterpart, and no difference for mail: biff, soft_bounce",
    ]


def test_a_configuration_without_any_says_nothing_of_it() -> None:
    assert "no counterpart" not in config_text(draft())
    assert list(summary(draft())) == []


@given(st.text())
def test_any_text_is_a_string(value: str) -> None:
    if value.isascii() or value == value.encode(errors="ignore").decode():
        assert tomllib.loads(f"key = {toml(value)}") == {"key": value}


@pytest.mark.parametrize("value", [True, 7, ("a", 'b"\\')])
def test_other_values_are_toml(value: bool | int | tuple[str, ...]) -> None:
    found = tomllib.loads(f"key = {toml(value)}")["key"]
    assert found == (list(value) if isinstance(value, tuple) else value)


@given(st.text())
def test_a_comment_stays_one(text: str) -> None:
    lines = list(comment(text))
    assert all(line.startswith("#") for line in lines)
    assert tomllib.loads("\n".join(lines)) == {}

"""`[filter]`, and `max_score` of a destination: what is read, and what is refused in one clear line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from relay.config.model import ConfigError
from relay.config.values import Service
from tests.config.loading import loaded

BASE = """
hostname = "mx.fwd.example"
[[listen]]
address = "0.0.0.0:25"
[srs]
domain = "fwd.example"
secrets_file = "srs.secret"
"""
DESTINATION = '[[delivery.destinations]]\ndomains = ["gmail.com"]\n'


def read(folder: Path, text: str) -> Any:
    return loaded(folder, BASE + text)


@pytest.mark.parametrize(
    ("value", "service", "shown"),
    [
        ("http://127.0.0.1:11333", Service("127.0.0.1", 11333), "127.0.0.1:11333"),
        ("http://[2001:db8::5]:11333/", Service("2001:db8::5", 11333), "[2001:db8::5]:11333"),
        ("http://Rspamd:11333", Service("rspamd", 11333), "rspamd:11333"),
        ("/run/rspamd/normal.sock", Service("", 0, "/run/rspamd/normal.sock"), "/run/rspamd/normal.sock"),
    ],
)
def test_where_rspamd_is(folder: Path, value: str, service: Service, shown: str) -> None:
    found = read(folder, f'[filter]\nrspamd = "{value}"\n').filter.rspamd
    assert found == service and str(found) == shown


@pytest.mark.parametrize("value", ["127.0.0.1:3310", "clamav:3310", "[::1]:3310", "/run/clamav/clamd.ctl"])
def test_where_clamd_is(folder: Path, value: str) -> None:
    assert str(read(folder, f'[filter]\nclamav = "{value}"\n').filter.clamav) == value


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('rspamd = "127.0.0.1:11333"', "filter.rspamd: '127.0.0.1:11333': write \"http://127.0.0.1:11333\""),
        ('rspamd = "https://127.0.0.1:11333"', "filter.rspamd: "),
        ('rspamd = "http://127.0.0.1"', "filter.rspamd: '127.0.0.1' has no host and port"),
        ('rspamd = "http://127.0.0.1:11333/checkv2"', "filter.rspamd: "),
        ('rspamd = "http://user@host:11333"', "filter.rspamd: "),
        ("rspamd = 11333", "filter.rspamd: "),
        ('clamav = "127.0.0.1"', "filter.clamav: '127.0.0.1' has no host and port"),
        ('clamav = "clamd.ctl"', "filter.clamav: "),
        ('clamav = "127.0.0.1:99999"', "filter.clamav: "),
        (f'clamav = "/{"x" * 120}"', "at most 107 octets"),
        ('on_failure = "reject"', "filter.on_failure: "),
        ('timeout = "0s"', "filter.timeout: "),
        ("timeout = 10", "filter.timeout: a duration is written with its unit"),
        ('hold_for = "a week"', "filter.hold_for: "),
    ],
)
def test_what_is_no_filter(folder: Path, text: str, problem: str) -> None:
    with pytest.raises(ConfigError) as raised:
        read(folder, f"[filter]\n{text}\n")
    (line,) = str(raised.value).splitlines()
    assert problem in line


@pytest.mark.parametrize(("value", "score"), [("6", 6.0), ("7.5", 7.5), ("-1", -1.0)])
def test_a_score(folder: Path, value: str, score: float) -> None:
    config = read(folder, f'[filter]\nrspamd = "http://127.0.0.1:11333"\n{DESTINATION}max_score = {value}\n')
    destination = config.destinations.of("gmail.com")
    assert destination is not None and destination.max_score == score


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (DESTINATION + "max_score = 6", "delivery.destinations.0.max_score: it is rspamd that gives scores"),
        (DESTINATION + 'max_score = "high"', "delivery.destinations.0.max_score: a score is a number"),
        (DESTINATION + "max_score = true", "delivery.destinations.0.max_score: a score is a number"),
        (DESTINATION + "max_score = nan", "delivery.destinations.0.max_score: a score is a number"),
        (DESTINATION.replace("gmail.com", "mx:mx.gmail.com") + "max_score = 6", "max_score: a table with mx: cannot"),
    ],
)
def test_what_is_no_score(folder: Path, text: str, problem: str) -> None:
    with pytest.raises(ConfigError) as raised:
        read(folder, text + "\n")
    (line,) = str(raised.value).splitlines()
    assert problem in line

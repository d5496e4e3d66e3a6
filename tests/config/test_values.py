"""Durations, sizes, points in time and next hops, as they are written."""

from __future__ import annotations

import tomllib

import pytest

from relay.config.values import duration, point_in_time, sealing, size
from relay.network import endpoint


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("500ms", 0.5), ("30s", 30), ("5m", 300), ("5min", 300), ("4h", 14400), ("1.5d", 129600), ("2w", 1209600)],
)
def test_durations(text: str, seconds: float) -> None:
    assert duration(text) == seconds


@pytest.mark.parametrize(
    ("text", "octets"), [("25MB", 25_000_000), ("64KiB", 65536), ("1GB", 10**9), (4096, 4096), ("4096", 4096)]
)
def test_sizes(text: object, octets: int) -> None:
    assert size(text) == octets


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2026-07-01", 1782864000),
        ("2026-07-01T12:00:00Z", 1782907200),
        ("2026-07-01 14:00:00+02:00", 1782907200),
        ("2026-07-01T12:00:00", 1782907200),
    ],
)
def test_moments_are_in_utc_as_toml_or_as_text(text: str, seconds: int) -> None:
    assert point_in_time(text).timestamp() == point_in_time(tomllib.loads(f"at = {text}")["at"]).timestamp() == seconds


@pytest.mark.parametrize(
    ("url", "written"),
    [
        ("smtp://mail.example", "smtp://mail.example:25"),
        ("smtps://mail.example", "smtps://mail.example:465"),
        ("lmtp://10.0.0.5", "lmtp://10.0.0.5:24"),
        ("smtp://[2001:db8::1]:2525", "smtp://[2001:db8::1]:2525"),
    ],
)
def test_next_hops_have_the_schemes_own_port(url: str, written: str) -> None:
    assert str(endpoint(url)) == written


@pytest.mark.parametrize("url", ["mail.example", "smtp://", "smtp://user:pw@mail.example", "smtp://mail.example/path"])
def test_other_next_hops_are_refused(url: str) -> None:
    with pytest.raises(ValueError, match="a next hop is written"):
        endpoint(url)


@pytest.mark.parametrize(
    ("written", "value"),
    [(True, True), (False, False), ("useful", "useful"), ("true", True), ("false", False), ("0", False)],
)
def test_whether_to_seal_is_also_read_from_the_environment(written: object, value: object) -> None:
    assert sealing(written) is value


@pytest.mark.parametrize("written", ["usefull", "Useful", "", 2, None, ["useful"]])
def test_another_word_for_sealing_is_refused_in_one_sentence(written: object) -> None:
    with pytest.raises(ValueError, match=r'^must be true, false or "useful"$'):
        sealing(written)

"""The framed hash: what the compatible one lets through is forged under it, and a change-over loses no address."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from relay.srs.address import Expired, Forged, Scheme, Token, forward, forward_token, reverse

DAY = 86400
COMPATIBLE = Scheme("fwd.example", (b"tops3cr3t",))
FRAMED = replace(COMPATIBLE, framed=True)
SINCE = 18434  # 2020-06-21, two days after the counter of the time stamp has begun anew
CHANGING = replace(FRAMED, framed_since=SINCE)
BOTH = (b"fresh", b"tops3cr3t")


def at(day: int, hour: int = 12) -> float:
    return day * DAY + hour * 3600.0


@pytest.mark.parametrize(
    ("sender", "shift", "victim"),
    [
        ("joe@victim.com", ("victim.com=joe", "victim.co=mjoe"), "mjoe@victim.co"),
        ("joe@victim.co", ("victim.co=joe", "victim.coj=oe"), "oe@victim.coj"),
        ("m@victim.com", ("victim.com=m", "victim.comm="), '""@victim.comm'),
        ("a=b@victim.com", ("victim.com=a=b", "victim.coma==b"), "=b@victim.coma"),
        ("SRS0-aaaa=x=y=z@h.net", ("h.net=-aaaa=", "h.net-aaaa=="), "SRS0=x=y=z@h.net-aaaa"),
        ("SRS0+a@h.net", ("h.net=+a", "h.ne=t+a"), None),
    ],
)
def test_no_character_moves_from_one_field_to_another(sender: str, shift: tuple[str, str], victim: str | None) -> None:
    for scheme in (COMPATIBLE, FRAMED):
        address = forward(sender, scheme, at(SINCE))
        shifted = address.replace(*shift)
        assert shifted != address
        if victim is not None and scheme is COMPATIBLE:
            assert reverse(shifted, scheme, at(SINCE)) == victim
    with pytest.raises(Forged):
        reverse(shifted, FRAMED, at(SINCE))


def test_neither_kind_of_address_passes_for_the_other() -> None:
    for scheme in (COMPATIBLE, FRAMED):
        stamp = forward("x@y.example", scheme, at(SINCE)).split("=")[2]
        address = forward(f"SRS0=x@{stamp}victim.com", scheme, at(SINCE))
        other = address.replace("SRS1=", "SRS0=").replace(f"={stamp}victim.com==x", f"={stamp}=victim.com==x")
        if scheme is COMPATIBLE:
            assert reverse(other, scheme, at(SINCE)) == "=x@victim.com"
    with pytest.raises(Forged):
        reverse(other, FRAMED, at(SINCE))


def test_framed_addresses_look_as_others_do() -> None:
    for sender in ("joe@victim.com", "SRS0=a=b=c=d@h.net", '"a b"@victim.com'):
        for scheme in (FRAMED, replace(FRAMED, hash_length=8, alphabet="url", separator="+")):
            ours, theirs = (forward(sender, replace(scheme, framed=framed), at(1)) for framed in (True, False))
            assert ours != theirs
            cut = slice(5 + ours.startswith('"'), 5 + ours.startswith('"') + scheme.hash_length)
            assert ours[: cut.start] + ours[cut.stop :] == theirs[: cut.start] + theirs[cut.stop :]
            for folded in (ours.lower(), ours.upper()):
                assert str(reverse(folded, scheme, at(1))).lower() == str(reverse(ours, scheme, at(1))).lower()
            with pytest.raises(Forged):
                reverse(ours, COMPATIBLE, at(1))
            with pytest.raises(Forged):
                reverse(theirs, FRAMED, at(1))


@pytest.mark.parametrize("secret", BOTH)
@pytest.mark.parametrize("framed", [True, False])
def test_every_secret_verifies(secret: bytes, framed: bool) -> None:
    scheme = replace(CHANGING, secrets=BOTH)
    day = SINCE if framed else SINCE - 1
    for sender in ("joe@victim.com", "SRS0=a=b=c=d@h.net"):
        address = forward(sender, replace(scheme, secrets=(secret,)), at(day))
        assert address == forward(sender, replace(COMPATIBLE, framed=framed, secrets=(secret,)), at(day))
        assert reverse(address, scheme, at(SINCE)) == sender


def test_tokens_are_the_same_under_both() -> None:
    address = forward_token("7k2m", COMPATIBLE, at(SINCE))
    for scheme in (COMPATIBLE, FRAMED, CHANGING):
        assert forward_token("7k2m", scheme, at(SINCE)) == address
        assert reverse(address, scheme, at(SINCE)) == Token("7k2m")


def test_what_is_written_changes_with_the_day() -> None:
    for sender in ("joe@victim.com", "SRS0=a=b=c=d@h.net"):
        for day in (SINCE - 30, SINCE - 1):
            assert forward(sender, CHANGING, at(day, 23)) == forward(sender, COMPATIBLE, at(day))
        for day in (SINCE, SINCE + 1, SINCE + 2000):
            assert forward(sender, CHANGING, at(day, 0)) == forward(sender, FRAMED, at(day))


@pytest.mark.parametrize("age", [0, 1, 21])
@pytest.mark.parametrize("stamped", [SINCE - 22, SINCE - 3, SINCE - 2, SINCE - 1, SINCE, SINCE + 1, SINCE + 1024])
def test_an_srs0_address_is_read_by_the_hash_of_its_day(stamped: int, age: int) -> None:
    now = at(stamped + age)
    compatible, framed = (forward("joe@victim.com", scheme, at(stamped)) for scheme in (COMPATIBLE, FRAMED))
    assert reverse(framed, CHANGING, now) == "joe@victim.com"
    if stamped < SINCE:
        assert reverse(compatible, CHANGING, now) == "joe@victim.com"
    else:
        with pytest.raises(Forged):
            reverse(compatible, CHANGING, now)


def test_age_counts_before_and_after() -> None:
    for stamped in (SINCE - 1, SINCE):
        address = forward("joe@victim.com", CHANGING, at(stamped))
        with pytest.raises(Expired):
            reverse(address, CHANGING, at(stamped + 22))
        with pytest.raises(Expired):
            reverse(address, CHANGING, at(stamped - 1))


def test_an_srs1_address_with_the_compatible_hash_is_read_for_as_long_as_one_may_be_answered() -> None:
    compatible, framed = (forward("SRS0=a=b=c=d@h.net", scheme, at(1)) for scheme in (COMPATIBLE, FRAMED))
    for day in (SINCE - 1000, SINCE - 1, SINCE, SINCE + 21):
        assert reverse(compatible, CHANGING, at(day)) == reverse(framed, CHANGING, at(day)) == "SRS0=a=b=c=d@h.net"
    for day in (SINCE + 22, SINCE + 2000):
        assert reverse(framed, CHANGING, at(day)) == "SRS0=a=b=c=d@h.net"
        with pytest.raises(Forged):
            reverse(compatible, CHANGING, at(day))


def test_without_a_day_only_the_framed_hash_counts() -> None:
    for sender in ("joe@victim.com", "SRS0=a=b=c=d@h.net"):
        for day in (0, 21, SINCE):
            with pytest.raises(Forged):
                reverse(forward(sender, COMPATIBLE, at(day)), FRAMED, at(day))


def test_the_day_of_these_tests() -> None:
    assert datetime.fromtimestamp(SINCE * DAY, UTC).date().isoformat() == "2020-06-21"
    assert (SINCE - 2) % 1024 == 0

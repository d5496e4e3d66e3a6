"""Who has waited: the times of a greylist."""

from __future__ import annotations

from relay.rate.greylist import FORGOTTEN_AFTER, WAIT, Greylist

NOW = 1_800_000_000.0


def test_a_name_passes_once_it_has_waited_and_until_it_is_forgotten() -> None:
    greylist = Greylist()
    assert not greylist.passes("a", NOW)
    assert not greylist.passes("a", NOW + WAIT - 1)
    assert greylist.passes("a", NOW + WAIT) and greylist.passes("a", NOW + FORGOTTEN_AFTER - 1)
    assert not greylist.passes("a", NOW + FORGOTTEN_AFTER)
    assert greylist.passes("a", NOW + FORGOTTEN_AFTER + WAIT)


def test_names_wait_on_their_own_and_a_clock_may_jump_back() -> None:
    greylist = Greylist()
    assert not greylist.passes("a", NOW) and not greylist.passes("b\udcff", NOW + WAIT)
    assert not greylist.passes("a", NOW - 100)
    assert greylist.passes("a", NOW - 100 + WAIT)

"""How much of the room a client may take. tests/receive/test_limits.py has it over connections and workers."""

from __future__ import annotations

import pytest

from relay.receive.room import SPOOL_FROM, Reservation, Room
from relay.receive.shared_counts import MEMORY, SharedCounts

CAPACITY = 100 * SPOOL_FROM
ANN, BOB = 1, 2  # buckets


def room(capacity: int = CAPACITY, largest: int = 0) -> Room:
    return Room(SharedCounts(1), 0, MEMORY, lambda: capacity, largest)


def taken(of: Room, client: int, octets: int, *, trusted: bool = True) -> Reservation:
    reservation = Reservation(of, client, trusted=trusted)
    reservation.take(octets)
    return reservation


@pytest.mark.parametrize(
    ("trusted", "octets", "most"),
    [
        (True, SPOOL_FROM, CAPACITY),
        (False, SPOOL_FROM, CAPACITY * 9 // 10),
        (False, SPOOL_FROM + 1, CAPACITY * 3 // 4),
    ],
    ids=["trusted", "small", "large"],
)
def test_a_message_fits_up_to_its_part(trusted: bool, octets: int, most: int) -> None:
    full = room()
    others = taken(full, BOB, most - octets)
    mine = Reservation(full, ANN, trusted=trusted)
    assert mine.fits(octets)
    others.take(1)
    assert not mine.fits(octets)


def test_the_messages_of_one_stranger_take_a_quarter() -> None:
    shared = room()
    taken(shared, ANN, CAPACITY // 4 - 10)
    second = Reservation(shared, ANN, trusted=False)
    assert second.fits(10) and not second.fits(11)
    assert Reservation(shared, BOB, trusted=False).fits(11)


def test_a_largest_message_always_fits_alone() -> None:
    small = room(capacity=1000, largest=1000)
    assert Reservation(small, ANN, trusted=False).fits(1000)
    taken(small, BOB, 1)
    assert not Reservation(small, ANN, trusted=False).fits(1000)


def test_what_is_released_can_be_taken_and_everything_is_told() -> None:
    told: list[int] = []
    watched = Room(SharedCounts(1), 0, MEMORY, lambda: 1000, 0, told.append)
    reservation = taken(watched, ANN, 600)
    assert (watched.taken, watched.excess, reservation.held) == (600, 100, 600)
    reservation.release()
    assert (watched.taken, watched.excess, reservation.held) == (0, -500, 0)
    assert told == [600, -600]

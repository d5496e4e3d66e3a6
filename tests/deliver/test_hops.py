"""How many transactions a next hop may have, and what its silence does to that."""

from __future__ import annotations

from relay.deliver.hops import FIRST, REMEMBERED, Hops
from relay.deliver.reply import Outcome

OK = (Outcome("delivered", 250, "2.0.0", "Ok", remote=True),)
REFUSED = (Outcome("failed", 550, "5.1.1", "no", remote=True),)
LATER = (Outcome("deferred", 451, "4.3.0", "later", remote=True),)
SILENT = (Outcome("deferred", 451, "4.4.1", "connection refused", unreachable=True),)
OURS = (Outcome("deferred", 451, "4.3.0", "queue: locked"),)

HOP, NOW = "d.test", 1000.0


def hops(total: int = 200) -> Hops:
    return Hops(20, total, pause=10.0)


def one(known: Hops, outcomes: tuple[Outcome, ...], began: float = NOW, now: float = NOW, hop: str = HOP) -> None:
    known.started(hop)
    known.ended(hop, began, now, outcomes)


def test_every_answer_wins_a_place_until_all_are_won() -> None:
    known = hops()
    assert known.room(HOP, NOW) == FIRST
    for outcomes in (OK, REFUSED, LATER):
        one(known, outcomes)
    assert known.room(HOP, NOW) == FIRST + 3
    for _ in range(30):
        one(known, OK)
    assert known.room(HOP, NOW) == 40  # 20 at once, and as many that wait for their turn


def test_what_goes_wrong_on_our_side_says_nothing_of_the_next_hop() -> None:
    known = hops()
    one(known, OURS)
    one(known, ())
    assert known.room(HOP, NOW) == FIRST and known.failure(HOP) is None


def test_a_next_hop_out_of_reach_gets_one_try_after_a_pause() -> None:
    known = hops()
    one(known, SILENT, began=NOW - 30)
    failure = known.failure(HOP)
    assert failure is not None and failure.began == NOW - 30
    assert known.room(HOP, NOW + 9) == 0
    assert known.room(HOP, NOW + 11) == known.refill(HOP, NOW + 11) == 1
    known.started(HOP)
    assert known.room(HOP, NOW + 12) == 0
    known.ended(HOP, NOW + 11, NOW + 12, OK)
    assert known.failure(HOP) is None and known.room(HOP, NOW + 12) == FIRST


def test_a_clock_that_was_put_back_does_not_make_the_pause_longer() -> None:
    known = hops()
    one(known, SILENT)
    assert known.room(HOP, NOW - 3600) == 1


def test_a_server_that_takes_fewer_connections_than_we_have_gets_fewer() -> None:
    known = hops()
    for _ in range(30):
        one(known, OK)
    one(known, SILENT, began=NOW - 1)  # others were answered after it began
    assert known.failure(HOP) is None and known.room(HOP, NOW) == 10


def test_the_late_end_of_an_early_try_does_not_hide_a_later_one() -> None:
    known = hops()
    known.started(HOP)
    one(known, SILENT, began=NOW)
    known.ended(HOP, NOW - 60, NOW + 1, SILENT)
    failure = known.failure(HOP)
    assert failure is not None and failure.began == NOW


def test_those_that_never_answered_share_half_of_the_places() -> None:
    known = hops(total=20)
    for n in range(10):
        assert known.room(f"tarpit{n}.test", NOW) > 0
        known.started(f"tarpit{n}.test")
    assert known.room("tarpit0.test", NOW) == known.room("unknown.test", NOW) == 0
    known.ended("tarpit0.test", NOW, NOW, OK)
    assert known.room("tarpit0.test", NOW) == FIRST + 1 and known.room("unknown.test", NOW) == 1


def test_places_are_filled_in_one_go() -> None:
    known = hops()
    for _ in range(FIRST):
        known.started(HOP)
    known.ended(HOP, NOW, NOW, OURS)
    assert (known.room(HOP, NOW), known.refill(HOP, NOW)) == (1, 0)
    for _ in range(2):
        known.ended(HOP, NOW, NOW, OURS)
    assert known.refill(HOP, NOW) == 3


def test_what_is_remembered_is_bounded_and_never_what_is_under_way() -> None:
    known = hops(total=3 * REMEMBERED)
    known.started("busy.test")
    for n in range(REMEMBERED + 100):
        one(known, SILENT, hop=f"d{n}.test")
    known.ended("busy.test", NOW, NOW, OK)
    assert known.failure("d0.test") is None
    assert known.failure(f"d{REMEMBERED}.test") is not None
    assert known.active == 0 and known.room("busy.test", NOW) == FIRST + 1

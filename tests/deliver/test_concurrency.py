"""How many transactions a next hop may have, and what its silence does to that."""

from __future__ import annotations

from relay.deliver.concurrency import FIRST, LAGGING, REMEMBERED, SLOW, HopConcurrency
from relay.deliver.places import Place
from relay.mail.outcome import Outcome
from relay.queue.hop_keys import own_hop

OK = (Outcome("delivered", 250, "2.0.0", "Ok", remote=True),)
REFUSED = (Outcome("failed", 550, "5.1.1", "no", remote=True),)
LATER = (Outcome("deferred", 451, "4.3.0", "later", remote=True),)
SILENT = (Outcome("deferred", 451, "4.4.1", "connection refused", unreachable=True),)
OURS = (Outcome("deferred", 451, "4.3.0", "queue: locked"),)

HOP, NOW = "d.test", 1000.0


def hops(total: int = 200) -> HopConcurrency:
    return HopConcurrency(lambda hop: 20, total, pause=10.0)


def tried(
    known: HopConcurrency, outcomes: tuple[Outcome, ...], began: float = NOW, now: float = NOW, hop: str = HOP
) -> None:
    known.ended(known.started(hop, began), began, now, outcomes)


def test_every_answer_wins_a_place_until_all_are_won() -> None:
    known = hops()
    assert known.room(HOP, NOW) == FIRST
    for outcomes in (OK, REFUSED, LATER):
        tried(known, outcomes)
    assert known.room(HOP, NOW) == FIRST + 3
    for _ in range(30):
        tried(known, OK)
    assert known.room(HOP, NOW) == 40  # 20 at once, and as many that wait for their turn


def test_what_goes_wrong_on_our_side_says_nothing_of_the_next_hop() -> None:
    known = hops()
    tried(known, OURS)
    tried(known, ())
    assert known.room(HOP, NOW) == FIRST and known.failure(HOP) is None


def test_a_next_hop_out_of_reach_gets_one_try_after_a_pause() -> None:
    known = hops()
    tried(known, SILENT, began=NOW - 30)
    failure = known.failure(HOP)
    assert failure is not None and failure.began == NOW - 30
    assert known.room(HOP, NOW + 9) == 0
    assert known.room(HOP, NOW + 11) == known.refill(HOP, NOW + 11) == 1
    place = known.started(HOP, NOW + 11)
    assert known.room(HOP, NOW + 12) == 0
    known.ended(place, NOW + 11, NOW + 12, OK)
    assert known.failure(HOP) is None and known.room(HOP, NOW + 12) == FIRST


def test_a_clock_that_was_put_back_does_not_make_the_pause_longer() -> None:
    known = hops()
    tried(known, SILENT)
    assert known.room(HOP, NOW - 3600) == 1


def test_a_server_that_takes_fewer_connections_than_we_have_gets_fewer() -> None:
    known = hops()
    for _ in range(30):
        tried(known, OK)
    tried(known, SILENT, began=NOW - 1)  # others were answered after it began
    assert known.failure(HOP) is None and known.room(HOP, NOW) == 10


def test_the_late_end_of_an_early_try_does_not_hide_a_later_one() -> None:
    known = hops()
    place = known.started(HOP, NOW - 60)
    tried(known, SILENT, began=NOW)
    known.ended(place, NOW - 60, NOW + 1, SILENT)
    failure = known.failure(HOP)
    assert failure is not None and failure.began == NOW


def test_those_that_never_answered_share_half_of_the_places() -> None:
    known = hops(total=20)
    places = []
    for n in range(10):
        assert known.room(f"tarpit{n}.test", NOW) > 0
        places.append(known.started(f"tarpit{n}.test", NOW))
    assert known.room("tarpit0.test", NOW) == known.room("unknown.test", NOW) == 0
    known.ended(places[0], NOW, NOW, OK)
    assert known.room("tarpit0.test", NOW) > 1 and known.room("unknown.test", NOW) == 1


def test_places_are_filled_in_one_go() -> None:
    known = hops()
    places = [known.started(HOP, NOW) for _ in range(FIRST)]
    known.ended(places.pop(), NOW, NOW, OURS)
    assert (known.room(HOP, NOW), known.refill(HOP, NOW)) == (1, 0)
    for _ in range(2):
        known.ended(places.pop(), NOW, NOW, OURS)
    assert known.refill(HOP, NOW) == 3


def test_what_is_remembered_is_bounded_and_never_what_is_under_way() -> None:
    known = hops(total=3 * REMEMBERED)
    busy = known.started("busy.test", NOW)
    for n in range(REMEMBERED + 100):
        tried(known, SILENT, hop=f"d{n}.test")
    known.ended(busy, NOW, NOW, OK)
    assert known.failure("d0.test") is None
    assert known.failure(f"d{REMEMBERED}.test") is not None
    assert known.young == 0 and known.room("busy.test", NOW) == FIRST + 1


def proven(known: HopConcurrency, *names: str, answers: int = 40) -> None:
    for name in names:
        for _ in range(answers):
            tried(known, OK, hop=name)


def fill(known: HopConcurrency, hop: str, now: float = NOW) -> list[Place]:
    """Take every place that a next hop may have."""
    places = []
    while known.room(hop, now):
        places += [known.started(hop, now) for _ in range(known.room(hop, now))]
    return places


def slowed(known: HopConcurrency, places: list[Place], now: float = NOW + SLOW) -> list[Place]:
    """Those that are given up for these."""
    given_up = [victim for place in places for victim in known.slowed(place, now)]
    for victim in given_up:
        victim.bound.end("for others")
    return given_up


def test_a_next_hop_never_has_more_than_it_leaves_to_others() -> None:
    known = hops(total=400)
    names = [f"h{n}.test" for n in range(50)]
    proven(known, *names, "honest.test")
    for _ in range(3):
        for name in names:
            fill(known, name)
    assert known.free > 25
    assert known.room("honest.test", NOW) == known.refill("honest.test", NOW) == 1
    assert known.room("unknown.test", NOW) == 1
    assert sum(known.room(name, NOW) for name in names) == 0


def test_a_next_hop_of_the_configuration_may_have_all_of_its_places() -> None:
    known = hops(total=40)
    proven(known, "smtp://hub.test:25", HOP)
    assert len(fill(known, "smtp://hub.test:25")) == 30
    known = hops(total=40)
    proven(known, HOP)
    assert len(fill(known, HOP)) == 12


def test_three_quarters_belong_to_the_young_whatever_the_others_do() -> None:
    known = hops(total=40)
    names = [f"h{n}.test" for n in range(30)]
    proven(known, *names)
    for name in names:
        places = fill(known, name)
        slowed(known, places)
        for place in places:
            if place.bound.over:
                known.ended(place, NOW, NOW + SLOW, ())
    assert known.young == 0 and known.free == 30
    assert known.room("honest.test", NOW) > 0


def test_of_slow_transactions_the_oldest_of_the_next_hop_that_has_most_is_given_up() -> None:
    known = hops(total=40)  # ten for slow ones
    proven(known, "many.test", "few.test", "one.test")
    first, *many = fill(known, "many.test")[:8]
    few = fill(known, "few.test")[:2]
    (single,) = fill(known, "one.test")[:1]
    assert slowed(known, [first, *many, *few]) == []
    assert slowed(known, [single]) == [first]
    assert slowed(known, [single]) == [], "it is slow already"


def test_who_waits_for_the_reply_to_the_final_dot_is_never_given_up_and_takes_nothing_from_the_young() -> None:
    known = hops(total=40)
    names = [f"h{n}.test" for n in range(3)]
    proven(known, *names, "honest.test")
    for name in names:
        places = fill(known, name)
        for place in places:
            place.bound.final_dot()
        assert slowed(known, places) == []
    assert known.free == 30 and known.room("honest.test", NOW + SLOW) > 3
    waiting = known.started("honest.test", NOW)
    assert slowed(known, [waiting]) == [waiting], "the only one that may be"


def test_all_that_waits_for_final_replies_is_bounded() -> None:
    known = hops(total=8)
    places = []
    for n in range(100):
        proven(known, f"h{n}.test", answers=1)
        for place in fill(known, f"h{n}.test"):
            place.bound.final_dot()
            slowed(known, [place])
            places.append(place)
    assert len(places) == 16


def test_a_next_hop_that_lags_begins_in_the_slow_share_until_it_answers_quickly() -> None:
    known = hops(total=40)
    proven(known, HOP)
    (place,) = fill(known, HOP)[:1]
    slowed(known, [place])
    now = NOW + SLOW
    known = hops(total=40)
    proven(known, HOP)
    place = known.started(HOP, NOW)
    slowed(known, [place])
    assert known.room(HOP, now) == 0, "its window has fallen to the one that it has"
    known.ended(place, NOW, now + 1, OK)
    assert known.room(HOP, now + 1) == 2
    again = known.started(HOP, now + 1)
    assert again.slow and known.young == 0
    known.ended(again, now + 1, now + 2, OK)
    assert not known.started(HOP, now + 2).slow


def test_lagging_ends_by_itself() -> None:
    known = hops()
    place = known.started(HOP, NOW)
    slowed(known, [place])
    known.ended(place, NOW, NOW + 2 * SLOW, ())
    assert known.started(HOP, NOW + SLOW + 1).slow
    assert not known.started(HOP, NOW + SLOW + LAGGING + 1).slow
    assert not known.started(HOP, NOW - 3600).slow, "the clock was put back"


def test_one_slow_message_among_quick_ones_is_no_lagging() -> None:
    known = hops()
    proven(known, HOP)
    large = known.started(HOP, NOW)
    tried(known, OK)
    slowed(known, [large])
    assert not known.started(HOP, NOW + SLOW).slow
    assert known.room(HOP, NOW + SLOW) > 30


def test_a_next_hop_that_lags_waits_where_the_slow_share_is_full() -> None:
    known = hops(total=40)
    names = [f"h{n}.test" for n in range(10)]
    proven(known, *names, "late.test")
    late = known.started("late.test", NOW)
    slowed(known, [late])
    known.ended(late, NOW, NOW + SLOW, ())
    for name in names:
        slowed(known, [known.started(name, NOW)])
    assert known.room("late.test", NOW + SLOW) == 0
    assert known.room("honest.test", NOW + SLOW) > 0


def test_what_we_write_ourselves_has_a_tenth_of_the_places() -> None:
    known = hops(total=400)
    held: list[Place] = []
    for n in range(100):
        ours = own_hop(f"h{n}.test")
        proven(known, ours, answers=3)
        held += fill(known, ours)
    assert len(held) == 30, "three quarters of it are for the young"
    given_up = slowed(known, held)
    assert len(given_up) == 20 and known.room(own_hop("honest.test"), NOW) > 0
    for n in range(100, 200):
        ours = own_hop(f"h{n}.test")
        proven(known, ours, answers=1)
        held += fill(known, ours)
    assert len([place for place in held if not place.bound.over]) <= 40
    assert known.room("honest.test", NOW) > 0


def test_places_come_back_from_everything_that_may_happen_to_them() -> None:
    known = hops(total=40)
    places = [place for name in ("a.test", own_hop("a.test"), "b.test") for place in fill(known, name)]
    slowed(known, places[::2])
    for place in places:
        known.ended(place, NOW, NOW, ())
    assert known.young == 0 and known.free == 30
    assert known._all.left(slow=True) == 10 and known._ours.left(slow=True) == 1
    assert not known._all._slow_of and known._unproven == 0


def test_the_pause_begins_with_the_failure_and_ends_on_time() -> None:
    known = hops()
    tried(known, SILENT)
    assert known.room(HOP, NOW) == 0
    assert known.room(HOP, NOW + 10) == 1


def test_a_next_hop_that_answered_once_and_is_out_of_reach_now_counts_with_those_that_never_answered() -> None:
    known = hops(total=20)
    for n in range(10):
        tried(known, OK, hop=f"d{n}.test")
        tried(known, SILENT, began=NOW + 1, now=NOW + 1, hop=f"d{n}.test")
    for n in range(10):
        assert known.room("unknown.test", NOW + 20) > 0
        known.started(f"d{n}.test", NOW + 20)
    assert known.room("unknown.test", NOW + 20) == 0


def test_a_server_may_take_a_single_connection_at_once() -> None:
    known = hops()
    tried(known, OK)
    for _ in range(10):
        tried(known, SILENT, began=NOW - 1)
    assert known.room(HOP, NOW) == 1


def test_places_are_filled_as_soon_as_half_of_them_are_free() -> None:
    known = hops()
    tried(known, OK)
    places = [known.started(HOP, NOW) for _ in range(FIRST + 1)]
    for free in (1, 2, 3):
        known.ended(places.pop(), NOW, NOW, OURS)
        assert (known.room(HOP, NOW), known.refill(HOP, NOW)) == (free, free if free == 3 else 0)


def test_places_taken_one_after_the_other_are_as_many_as_in_one_go() -> None:
    known = hops(total=40)
    proven(known, HOP)
    taken = 0
    while known.room(HOP, NOW):
        known.started(HOP, NOW)
        taken += 1
    assert taken == 12

"""The places themselves: what is free, what is kept for others, and who is given up."""

from __future__ import annotations

from relay.deliver.deadline import Deadline
from relay.deliver.places import Place, Places


def place(hop: str = "a.test", *, slow: bool = False) -> Place:
    return Place(hop, Deadline(), slow, 0)


def turned_slow(places: Places, hop: str) -> Place:
    taken = place(hop)
    places.add(taken)
    places.turn_slow(taken)
    taken.slow = True
    return taken


def test_a_quarter_is_for_slow_transactions() -> None:
    places = Places(20, most=40)
    assert (places.left(slow=False), places.left(slow=True)) == (15, 5)
    assert (places.reserve(slow=False), places.reserve(slow=True)) == (3, 1)
    young, slow = place(), place(slow=True)
    places.add(young)
    places.add(slow)
    assert (places.young, places.left(slow=False), places.left(slow=True)) == (1, 14, 4)
    places.turn_slow(young)
    young.slow = True
    assert (places.young, places.left(slow=False), places.left(slow=True)) == (0, 15, 3)
    for taken in (young, slow):
        places.remove(taken)
    assert (places.left(slow=False), places.left(slow=True)) == (15, 5)


def test_even_the_smallest_number_has_a_place_for_each() -> None:
    places = Places(1, most=2)
    assert (places.left(slow=False), places.left(slow=True)) == (1, 1)


def test_there_are_never_more_than_the_most() -> None:
    places = Places(8, most=9)
    for _ in range(7):
        turned_slow(places, "a.test")
    assert (places.left(slow=False), places.left(slow=True)) == (2, -5)


def test_the_first_slow_transaction_of_the_next_hop_with_most_of_them_is_given_up() -> None:
    places = Places(8, most=16)  # two slow places
    turned_slow(places, "few.test")
    first = turned_slow(places, "many.test")
    assert places.excess() is None
    second = turned_slow(places, "many.test")
    assert places.excess() is first
    first.bound.final_dot()
    assert places.excess() is second
    second.bound.end("given up already")
    places.remove(first)
    places.remove(second)
    assert places.excess() is None


def test_nothing_is_given_up_where_all_wait_for_the_reply_to_their_final_dot() -> None:
    places = Places(4, most=16)
    for _ in range(3):
        turned_slow(places, "a.test").bound.final_dot()
    assert places.excess() is None


def test_a_place_that_was_given_up_is_removed_once() -> None:
    places = Places(8, most=16)
    slow = turned_slow(places, "a.test")
    places.remove(slow)
    places.remove(slow)  # by the transaction itself, when it ends
    assert (places.young, places.left(slow=True)) == (0, 2)

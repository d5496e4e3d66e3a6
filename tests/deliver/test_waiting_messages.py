"""The lines in memory: their shares, whose turn it is, and when they end."""

from __future__ import annotations

from relay.deliver.waiting_messages import BESIDE, RECIPIENT, WAIT, WAIT_SHARED, WaitingMessage, WaitingMessages
from relay.mail.message import Message
from relay.queue.store import Delivery, StoredMessage
from relay.queue.stored_verdict import StoredVerdict

NOW = 1_800_000_000.0
HEAVY = 100_000 - BESIDE  # octets of a content that takes 100,000 in memory


def message(number: int, octets: int = 100, since: float = NOW) -> WaitingMessage:
    return WaitingMessage(StoredMessage(number, NOW, "", b"", Message(b"x" * octets), StoredVerdict()), (), since)


def filled(lines: WaitingMessages, hop: str, octets: int = HEAVY) -> int:
    """How many messages a line takes."""
    count = 0
    while add(lines, hop, message(count, octets)):
        count += 1
    return count


def add(lines: WaitingMessages, hop: str, message: WaitingMessage) -> bool:
    """Let a message wait, where there is room for it."""
    has_room = lines.reserve(hop, message.octets)
    if has_room:
        lines.add(hop, message)
    return has_room


def numbers(lines: WaitingMessages, hop: str, now: float = NOW, *, queue_waits: bool = False) -> list[int]:
    """The messages that may begin now, taken out."""
    found = []
    while (some := lines.next(hop, now, queue_waits=queue_waits)) is not None:
        found.append(some.stored.id)
    return found


def test_the_oldest_goes_first() -> None:
    lines = WaitingMessages(10**6, 120)
    for number in (1, 2, 3):
        add(lines, "d.test", message(number))
    add(lines, "e.test", message(4))
    assert numbers(lines, "d.test") == [1, 2, 3]
    assert "d.test" not in lines and list(lines.hops) == ["e.test"]
    assert numbers(lines, "d.test") == [] and numbers(lines, "e.test") == [4]


def test_a_line_takes_as_much_as_it_leaves_to_the_others() -> None:
    lines = WaitingMessages(10**6, 120)
    assert filled(lines, "a.test") == 5
    assert filled(lines, "b.test") == 2
    assert filled(lines, "c.test") == 1
    assert filled(lines, "d.test") == 1
    assert filled(lines, "e.test") == 0, "all is used, and no more than all"
    assert lines.reserve("e.test", 100)
    lines.free("e.test", 100)
    assert numbers(lines, "a.test") == [0, 1, 2, 3, 4]
    assert filled(lines, "e.test") == 3


def test_no_single_message_takes_all_of_it() -> None:
    lines = WaitingMessages(10**6, 120)
    assert not lines.reserve("a.test", 10**6 // 2 + 1)


def test_what_is_being_stored_counts_already() -> None:
    lines = WaitingMessages(10**6, 120)
    assert [lines.reserve("a.test", 200_000) for _ in range(3)] == [True, True, False]
    assert [lines.reserve("b.test", 200_000) for _ in range(2)] == [True, False]
    lines.free("a.test", 200_000)
    assert lines.reserve("a.test", 200_000) and "a.test" not in lines


def test_every_recipient_counts() -> None:
    some = [Delivery(1, n, f"r{n}@d.test", "alias@fwd.test") for n in range(1000)]
    assert message(1)._replace(deliveries=some).octets - message(1).octets == 1000 * RECIPIENT


def test_many_small_messages_are_bounded_by_what_they_take_beside_their_content() -> None:
    assert filled(WaitingMessages(10**6, 120), "a.test", octets=1) < 10**6 / 2 / BESIDE + 1


def test_the_queue_and_the_line_take_turns() -> None:
    lines = WaitingMessages(10**6, 120)
    for number in range(5):
        add(lines, "d.test", message(number))
    assert numbers(lines, "d.test", queue_waits=True) == [], "the queue's turn comes first"
    lines.queue_had_turn("d.test", 2)
    assert numbers(lines, "d.test", queue_waits=True) == [0, 1]
    lines.queue_had_turn("d.test", 1)
    assert numbers(lines, "d.test", queue_waits=True) == [2]
    lines.queue_had_turn("d.test", 0)
    assert numbers(lines, "d.test", queue_waits=True) == []
    assert numbers(lines, "d.test") == [3, 4], "nothing waits in the queue any more"


def test_a_line_whose_oldest_message_has_waited_for_too_long_is_to_leave_whole() -> None:
    lines = WaitingMessages(10**6, 120)
    add(lines, "d.test", message(1, since=NOW))
    add(lines, "d.test", message(2, since=NOW + WAIT - 1))
    add(lines, "e.test", message(3, since=NOW + WAIT - 1))
    assert lines.leaving(NOW + WAIT - 0.1, lambda hop: True) == []
    assert lines.leaving(NOW + WAIT, lambda hop: True) == ["d.test"]
    assert numbers(lines, "d.test", NOW + WAIT) == [], "its lease may have run out"
    assert [each.stored.id for each in lines.remove("d.test")] == [1, 2]
    assert "d.test" not in lines and numbers(lines, "e.test", NOW + WAIT) == [3]
    assert filled(lines, "a.test") == 5, "its share was given back"


def test_a_line_does_not_outlast_half_of_a_lease() -> None:
    lines = WaitingMessages(10**6, 4)
    add(lines, "d.test", message(1))
    assert lines.leaving(NOW + 2, lambda hop: True) == ["d.test"]


def test_a_line_is_shorter_where_other_hosts_may_have_room() -> None:
    for shared, wait in ((False, WAIT), (True, WAIT_SHARED)):
        lines = WaitingMessages(10**6, 120, shared=shared)
        add(lines, "d.test", message(1))
        assert lines.leaving(NOW + wait - 0.1, lambda hop: True) == []
        assert lines.leaving(NOW + wait, lambda hop: True) == ["d.test"]


def test_a_clock_that_was_put_back_ends_the_wait() -> None:
    lines = WaitingMessages(10**6, 120)
    add(lines, "d.test", message(1))
    assert lines.leaving(NOW - 3600, lambda hop: True) == ["d.test"]


def test_a_line_that_may_not_be_any_more_is_to_leave() -> None:
    lines = WaitingMessages(10**6, 120)
    for hop in ("well.test", "ill.test"):
        add(lines, hop, message(1))
    assert lines.leaving(NOW, lambda hop: hop == "well.test") == ["ill.test"]

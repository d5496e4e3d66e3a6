"""Queue ids: twelve characters, unique over workers and hosts, in the order of arrival.

An id is a 60-bit integer, the primary key of a message. Its text is that integer in Crockford's base 32, which sorts
like the integers and has no letters that are easily confused.
"""

from __future__ import annotations

import os
import socket
import zlib
from collections.abc import Callable
from functools import lru_cache

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_PAIRS = [first + second for first in _ALPHABET for second in _ALPHABET]  # the text of each ten bits
_VALUE = {character: value for value, character in enumerate(_ALPHABET)}
_EPOCH = 1_577_836_800  # 2020-01-01T00:00:00Z
_LENGTH = 12
_NODE_BITS = 9


class QueueIds:
    """Makes ids from the time in microseconds and nine bits for this process. Ids never repeat and always grow.

    The nine bits are the process number plus a hash of the host's name: they differ between workers of one host, and
    nearly always between hosts.

    Args:
        clock: seconds since 1970, like `time.time`.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._node = (zlib.crc32(socket.gethostname().encode()) + os.getpid()) % (1 << _NODE_BITS)
        self._last = 0

    def new(self) -> int:
        """The next id."""
        self._last = max(self._last + 1, int((self._clock() - _EPOCH) * 1_000_000))
        return (self._last << _NODE_BITS | self._node) & ((1 << 60) - 1)


def first_at(now: float) -> int:
    """The smallest id of a time (seconds since 1970)."""
    return int((now - _EPOCH) * 1_000_000) << _NODE_BITS


def given_at(queue_id: int) -> float:
    """The time of an id (seconds since 1970), which is that of its message's MAIL command."""
    return _EPOCH + (queue_id >> _NODE_BITS) / 1_000_000


@lru_cache(maxsize=4096)  # each log line of a message asks for it
def id_text(queue_id: int) -> str:
    """The text of an id, as in the log, in Received fields and in the queue commands."""
    return "".join([_PAIRS[queue_id >> shift & 1023] for shift in (50, 40, 30, 20, 10, 0)])


def id_from_text(queue_id: str) -> int:
    """The id of a text, in upper or lower case.

    Raises:
        ValueError: the text is not twelve characters of the alphabet.
    """
    if len(queue_id) != _LENGTH or any(character not in _VALUE for character in queue_id.upper()):
        raise ValueError(f"{queue_id!r} is not a queue id")
    value = 0
    for character in queue_id.upper():
        value = value << 5 | _VALUE[character]
    return value

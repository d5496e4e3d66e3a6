"""SMTP smuggling: whatever somebody takes for the end of a message, one message comes out, or a refusal.

The ends are those that were published, by SEC Consult (smtpsmuggling.com and its scanner), Hanno Böck's smtpsmug and
its heirs, and those that the fixes of Postfix, Exim and Sendmail were about; and all that can be made of their parts.
The next hop takes each of them for an end, which the first test shows.
"""

from __future__ import annotations

import itertools
import re
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.journeys.clients import Dialogue
from tests.journeys.lenient_sink import LenientSink
from tests.journeys.relay_process import RelayProcess
from tests.journeys.world import MAILBOX, World, opened
from tests.peers import free_port, wait_until

pytestmark = pytest.mark.slow

TRUSTED, STRANGER = "127.0.0.99", "127.0.0.1"
ANN, ALICE, ADMIN = "ann@sender.example", "alice@fwd.example", "admin@sender.example"
TRUE_END = b"\r\n.\r\n"
PUBLISHED = [
    # the scanner of SEC Consult, and the article: GMX, Exchange Online, Cisco, Fastmail, Runbox
    *(b"\n.\n", b"\n.\r", b"\r.\n", b"\r.\r", b"\n.\r\n", b"\r.\r\n", b"\r\n.\r\r\n", b"\r\r\n.\r\r\n", b"\r\n\0.\r\n"),
    # smtpsmug, smtp_smuggling_checker
    *(b"\r\n.\n", b"\r\n.\r", b"\r\n.\0\r\n", b"\r\n\0.\r", b"\r\n\0.\n", b"\n\n.\r\n", b"\n\n.\n", b"\r\r.\r\r"),
    # Postfix (CVE-2023-51764), Exim (CVE-2023-51766), Sendmail (CVE-2023-51765), and what came after their fixes
    *(b"\r\0\n.\r\n", b"\r\n.\r\0\n", b"\r\0\n.\r\0\n", b"\0\r\n.\r\0\n", b"\r\n\0\0.\0\0\r\n"),
    *(b"\n.\0\n", b"\n\0.\n", b"\r\n.\0\0\r\n", b"\r\n\0.\0\r\n", b"\r\n.\0\n"),
]
_LINE_ENDS = [b"\n", b"\r", b"\r\n", b"\n\r", b"\r\r\n", b"\r\0\n"]
_DOTS = [b".", b"\0.", b".\0", b"\0.\0"]
MADE = [b"".join(parts) for parts in itertools.product(_LINE_ENDS, _DOTS, _LINE_ENDS)]
CHUNK_ENDS = [*dict.fromkeys([*PUBLISHED, *MADE])]
ENDS = [end for end in CHUNK_ENDS if TRUE_END not in end]  # which ends DATA, and is nothing special in a chunk

# What is laid over the configuration for each way of delivering. In all of them a message is whole before it leaves.
MODES: dict[str, dict[str, str]] = {"queue": {}, "in-session": {"mode": "in-session"}}


def lure(end: bytes, number: int) -> bytes:
    """A message that has another one behind the end."""
    return (
        b"From: ann@sender.example\r\nSubject: outer %d\r\n\r\nlure%bMAIL FROM:<%b>\r\n"
        b"RCPT TO:<carol@mailbox.example>\r\nDATA\r\nFrom: admin@sender.example\r\n"
        b"Subject: inner %d\r\n\r\nsmuggled\r\n"
    ) % (number, end, ADMIN.encode(), number)


def by_data(session: Dialogue, content: bytes) -> None:
    session("DATA")
    session.send(content + b".\r\n")


def by_data_in_segments(session: Dialogue, content: bytes) -> None:
    """Every octet around the end in a segment of its own."""
    session("DATA")
    session._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    start, end = content.index(b"lure") + 4, content.index(b"MAIL FROM")
    session.send(content[:start])
    for octet in content[start:end]:
        session.send(bytes([octet]))
    session.send(content[end:] + b".\r\n")


def by_one_chunk(session: Dialogue, content: bytes) -> None:
    session.send(b"BDAT %d LAST\r\n" % len(content) + content)


def by_chunks(session: Dialogue, content: bytes) -> None:
    """Every octet around the end in a chunk of its own, all sent ahead."""
    start, end = content.index(b"lure") + 4, content.index(b"MAIL FROM")
    chunks = [content[:start], *(bytes([octet]) for octet in content[start:end])]
    session.send(b"".join(b"BDAT %d\r\n" % len(chunk) + chunk for chunk in chunks))
    session.send(b"BDAT %d LAST\r\n" % len(content[end:]) + content[end:])
    refusals = [answer for answer in (session.reply() for _ in chunks) if answer.code != 250]
    assert not {answer.code for answer in refusals} - {550}


WAYS = [by_data, by_data_in_segments, by_one_chunk, by_chunks]


class House:
    """A relay before the lenient sink."""

    def __init__(self, world: World, mode: str, bare_newline: str, nul: str) -> None:
        self.sink = world.start(LenientSink(MAILBOX, world.port))
        self.relay: RelayProcess = world.relay(
            aliases=f"{ALICE} carol@mailbox.example\n",
            clients={"trusted": [f"{TRUSTED}/32"]},
            receive={"bare_newline": bare_newline, "nul": nul},
            limits={"connections_per_client": 100},
            delivery=MODES[mode],
            workers=1,
        )
        self.in_session = mode == "in-session"
        with Dialogue((self.relay.address, self.relay.port), source=STRANGER) as session:
            session.offer(ANN, ALICE)  # the next hop answers once, so that it is asked in the session from then on
            by_data(session, b"Subject: plain\r\n\r\nhello\r\n")
            assert session.reply().code == 250
        wait_until(lambda: self.sink.taken, "the first delivery")

    def tried(self, way: int, source: str, end: bytes, number: int) -> int:
        """The reply to a lure, after which the session must be where it was."""
        with Dialogue((self.relay.address, self.relay.port), source=source) as session:
            assert session.offer(ANN, ALICE).code == 250
            WAYS[way](session, lure(end, number))
            answer = session.reply()
            assert session("NOOP").code == 250, (end, answer)
            assert session("QUIT").code == 221, (end, answer)
            return answer.code


@pytest.fixture(
    scope="module",
    params=itertools.product(MODES, ["reject", "normalize"], ["pass", "reject"]),
    ids=lambda p: "-".join(p),
)
def house(request: pytest.FixtureRequest) -> Iterator[House]:
    with opened() as world:
        yield House(world, *request.param)


def test_the_sink_takes_each_of_them_for_an_end() -> None:
    sink = LenientSink(STRANGER, free_port()).start()
    try:
        for number, end in enumerate(CHUNK_ENDS):
            with Dialogue((sink.address, sink.port)) as session:
                session.offer(ANN, ALICE)
                by_data(session, lure(end, number))
                assert session.reply().code == 250
                wait_until(lambda: len(sink.taken) == 2, f"two messages by {end!r}")
            assert [sender for sender, _ in sink.taken] == [ANN, ADMIN]
            sink.taken.clear()
    finally:
        sink.stop()


@pytest.mark.timeout(600)
@pytest.mark.parametrize("source", [STRANGER, TRUSTED])
@pytest.mark.parametrize("way", range(len(WAYS)), ids=lambda way: WAYS[way].__name__)
def test_one_message_comes_out_or_none(house: House, way: int, source: str) -> None:
    ends = ENDS if way < 2 else CHUNK_ENDS
    house.sink.taken.clear()
    queued = len(house.relay.events("queued"))
    with ThreadPoolExecutor(8) as pool:
        codes = [*pool.map(lambda pair: house.tried(way, source, pair[1], pair[0]), enumerate(ends))]
    assert set(codes) <= {250, 550}
    accepted = [number for number, code in enumerate(codes) if code == 250]
    wait_until(lambda: len(house.sink.taken) >= len(accepted), "what was accepted", 60)
    house.relay.wait_for_empty_queue()
    outer = sorted(int(number) for _, content in house.sink.taken for number in re.findall(rb"outer (\d+)\r", content))
    assert outer == accepted
    assert len(house.sink.taken) == len(accepted), "nothing but what was accepted"
    for sender, content in house.sink.taken:
        assert sender != ADMIN
        assert content.count(b"\r\nSubject: inner ") == 1, "both are in one message"
    if source == TRUSTED:
        assert len(accepted) > 20, "bare line ends of trusted clients pass, as CRLF"
    if house.in_session:
        assert len(house.relay.events("queued")) - queued < max(1, len(accepted) // 2)

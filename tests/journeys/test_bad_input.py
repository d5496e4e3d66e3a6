"""What no good client sends: each gets a clear reply, and the session goes on to deliver a good message."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.journeys.clients import Dialogue
from tests.journeys.maildir import parse
from tests.journeys.sinks import RecordingSink
from tests.journeys.world import MAILBOX, SENDER, World, opened
from tests.peers import wait_until

pytestmark = pytest.mark.slow

TRUSTED = "127.0.0.99"
ANN, ALICE = "ann@sender.example", "alice@fwd.example"
GOOD = b"From: ann@sender.example\r\nSubject: good\r\n\r\ngood\r\n"


class House:
    """A relay before a recording sink, shared by the tests of this file."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.sink = world.start(RecordingSink(MAILBOX, world.port))
        self.relay = world.relay(aliases=f"{ALICE} carol@mailbox.example\n", clients={"trusted": [f"{TRUSTED}/32"]})

    def session(self) -> Dialogue:
        return Dialogue((self.relay.address, self.relay.port))

    def delivers(self, session: Dialogue) -> None:
        """The session still takes a good message, and it arrives."""
        already = len(self.sink.received)
        session("RSET")
        assert session.deliver(ANN, ALICE, GOOD).code == 250
        assert self.sink.wait(already + 1)[-1].content.endswith(GOOD)


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    with opened() as world:
        yield House(world)


@pytest.mark.parametrize(
    ("line", "codes"),
    [
        (b"", {500}),
        (b"FOO", {500}),
        (b"EHLO", {501}),
        (b"NOOP\x00", {500}),
        (b"MAIL\x00 FROM:<ann@sender.example>", {500}),
        (b"\x00\x01\x02\x03", {500}),
        (b"\xff\xfe\xfd", {500}),
        (b"EHLO m\xe4il.example", {500, 501}),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", {500}),
        (b"NOOP " + b"x" * 4000, {500}),
        (b"NOOP " + b"x" * 1_000_000, {500}),
        (b"NOOP\rNOOP", {500}),
        (b"MAIL", {501}),
        (b"MAIL FROM:", {501}),
        (b"MAIL FROM:<ann@sender.example", {501, 553}),
        (b"MAIL FROM:<ann@@sender.example>", {501, 553}),
        (b"MAIL FROM:<ann@sender..example>", {501, 553}),
        (b"MAIL FROM:<ann smith@sender.example>", {501, 553}),
        (b"MAIL FROM:<" + b"x" * 641 + b"@sender.example>", {501, 553}),
        (b"MAIL FROM:<j\xc3\xb6rg@sender.example>", {501, 553, 550}),
        (b"MAIL FROM:<ann@sender.example> FOO=BAR", {555}),
        (b"MAIL FROM:<ann@sender.example> SIZE=many", {501}),
        (b"MAIL FROM:<ann@sender.example> SIZE=99999999999999", {552}),
        (b"MAIL FROM:<ann@sender.example> BODY=BINARY", {501, 555}),
        (b"RCPT TO:<alice@fwd.example>", {503}),
        (b"DATA", {503}),
        (b"BDAT 12 LAST\r\nHELO hello", {503}),
        (b"STARTTLS", {502, 503}),
        (b"AUTH PLAIN AGEAYg==", {500, 502, 503}),
        (b"EXPN all", {500, 502}),
    ],
    ids=lambda value: repr(value[:40]) if isinstance(value, bytes) else None,
)
def test_a_bad_command_gets_its_reply_and_the_session_goes_on(house: House, line: bytes, codes: set[int]) -> None:
    with house.session() as session:
        session("EHLO mx.sender.example")
        answer = session(line)
        assert answer.code in codes
        assert answer.enhanced.startswith("5."), f"no enhanced code in {answer}"
        house.delivers(session)


def test_commands_out_of_order(house: House) -> None:
    with house.session() as session:
        assert session(f"MAIL FROM:<{ANN}>").code == 503, "before EHLO"
        assert session("EHLO mx.sender.example").code == 250
        assert session(f"MAIL FROM:<{ANN}>").code == 250
        assert session(f"MAIL FROM:<{ANN}>").code == 503, "nested"
        assert session("DATA").code == 503, "without a recipient"
        assert session("RCPT TO:<nobody@fwd.example>").code == 550
        assert session("DATA").code in (503, 554), "with no valid recipient"
        house.delivers(session)


def test_garbage_in_a_pipeline_gets_one_reply_a_line(house: House) -> None:
    with house.session() as session:
        session.send(b"EHLO mx.sender.example\r\nFOO\r\n\x00\r\nNOOP\r\n\xff\r\nRSET\r\n")
        assert [session.reply().code for _ in range(6)] == [250, 500, 500, 250, 500, 250]
        house.delivers(session)


def test_a_bare_line_feed_ends_no_good_command(house: House) -> None:
    with house.session() as session:
        session.send(b"EHLO mx.sender.example\nNOOP\r\n")
        assert [session.reply().code for _ in range(2)] == [500, 250]
        assert session(f"MAIL FROM:<{ANN}>").code == 503, "the EHLO before the bare LF must not count"
        house.delivers(session)


def test_a_whole_conversation_in_one_packet(house: House) -> None:
    already = len(house.sink.received)
    with house.session() as session:
        session.send(
            b"EHLO mx.sender.example\r\nMAIL FROM:<ann@sender.example>\r\nRCPT TO:<alice@fwd.example>\r\n"
            b"RCPT TO:<nobody@fwd.example>\r\nDATA\r\n" + GOOD + b".\r\nNOOP\r\nQUIT\r\n"
        )
        assert [session.reply().code for _ in range(8)] == [250, 250, 250, 550, 354, 250, 250, 221]
        assert session.closed()
    house.sink.wait(already + 1)


def test_a_client_that_only_makes_errors_is_sent_away(house: House) -> None:
    with house.session() as session:
        session("EHLO mx.sender.example")
        session.send(b"FOO\r\n" * 100)
        codes = [session.reply().code]
        while codes[-1] != 421:
            codes.append(session.reply().code)
        assert set(codes[:-1]) == {500} and len(codes) < 100
        assert session.closed()


def test_a_web_browser_is_sent_away(house: House) -> None:
    with house.session() as session:
        session.send(b"POST / HTTP/1.1\r\nHost: x\r\n\r\nMAIL FROM:<ann@sender.example>\r\n")
        assert session.reply().code in (421, 500, 521, 554)
        assert session.closed()


@pytest.mark.parametrize(
    "body",
    [
        b"one\ntwo\r\n",
        b"one\rtwo\r\n",
        b"one\r\n\n.\r\nMAIL FROM:<evil@fwd.example>\r\n",
        b"one\n.\r\nMAIL FROM:<evil@fwd.example>\r\nRCPT TO:<alice@fwd.example>\r\nDATA\r\nevil\r\n",
        b"one\r\n.\nMAIL FROM:<evil@fwd.example>\r\nRCPT TO:<alice@fwd.example>\r\nDATA\r\nevil\r\n",
        b"one\n.\nMAIL FROM:<evil@fwd.example>\r\nRCPT TO:<alice@fwd.example>\r\nDATA\r\nevil\r\n",
        b"one\r.\rMAIL FROM:<evil@fwd.example>\r\nRCPT TO:<alice@fwd.example>\r\nDATA\r\nevil\r\n",
        b"one\r\n.\rMAIL FROM:<evil@fwd.example>\r\nRCPT TO:<alice@fwd.example>\r\nDATA\r\nevil\r\n",
    ],
    ids=lambda value: repr(value[:12]),
)
def test_bare_line_ends_are_refused_and_smuggle_nothing(house: House, body: bytes) -> None:
    """Only CRLF.CRLF ends the data: one message goes in, one refusal comes out."""
    already = len(house.sink.received)
    with house.session() as session:
        assert session.deliver(ANN, ALICE, GOOD + body)[:2] == (550, "5.6.0")
        assert session("NOOP").code == 250, "a second reply would be of a smuggled message"
        house.delivers(session)
    assert len(house.sink.received) == already + 1


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\r\n",
        b"\r\nno header\r\n",
        b"no header, no colon\r\nat all\r\n",
        b"From: a@b.example\r\n",
        b"From: a@b.example\r\n\r\n",
        b": no name\r\nFrom: a@b.example\r\n\r\nbody\r\n",
        b"From : a@b.example\r\n\r\nspace before the colon\r\n",
        b"From : a@b.example\r\n\r\nFrom here it is text\r\n",
        b"From here it is text\r\n\r\nof a message without a header\r\n",
        b"Subject: s\r\nFrom ann Thu Jan  1 00:00:00 1970\r\nFrom: a@b.example\r\n\r\nmbox line within\r\n",
        b"From: a@b.example\r\nthis line is no field\r\nTo: two\r\n\r\nbody\r\n",
        b"From: a@b.example\r\nSubject: NUL \x00 here\r\n\r\nand \x00 here\r\n",
        b"From: a@b.example\r\nSubject: \xff\xfe\xe4\r\nFr\xc3\xb6m: x\r\n\r\n\x80\x81\r\n",
        b"From: a@b.example\r\nSubject: " + b"long " * 40_000 + b"\r\n\r\n" + b"x" * 300_000 + b"\r\n",
        b"X: y\r\n" * 9_000 + b"From: a@b.example\r\n\r\nbody\r\n",
        b"DKIM-Signature: rubbish\r\nDKIM-Signature: v=1; a=;;;\r\nFrom: a@b.example\r\n\r\nbody\r\n",
        b"From: a@b.example\r\nFrom: c@d.example\r\n\r\ntwo authors\r\n",
        b"Authentication-Results: ;;;(((\r\nReceived: \x01\r\nFrom: <<<>>>\r\n\r\nbody\r\n",
        b"From: a@b.example\r\n\r\n..\r\n...\r\n..x\r\n",
        b"From: a@b.example\r\n\r\nblank end  \t \r\n\r\n\r\n\r\n",
    ],
    ids=lambda value: repr(value[:36]),
)
def test_a_garbage_message_passes_octet_for_octet(house: House, content: bytes) -> None:
    """`content` is as on the wire, with dots stuffed. Without an author there is nothing to sign (RFC 6376, 5.4)."""
    already = len(house.sink.received)
    with house.session() as session:
        assert session.deliver(ANN, ALICE, content).code == 250
        arrived = house.sink.wait(already + 1)[-1].content
        assert arrived.endswith(content.replace(b"\r\n..", b"\r\n."))
        assert (b"\r\nDKIM-Signature: v=1;" in arrived) is (len(re.findall(rb"^From ?:", content, re.MULTILINE)) == 1)
        house.delivers(session)


FIELD_KINDS = [
    b"a:\r\n",
    b"To:\r\n",
    b"DKIM-Signature: x\r\n",
    b"ARC-Seal:\r\n",
    b"X-SRS-Relay: x\r\n",
    b"no field\r\n",
    b"Reply-To: \0\r\n",
]


@pytest.mark.parametrize("field", FIELD_KINDS)
@pytest.mark.parametrize("source", [SENDER, TRUSTED], ids=["stranger", "trusted"])
def test_tiny_fields_pass_up_to_a_number(house: House, source: str, field: bytes) -> None:
    already = len(house.sink.received)
    with Dialogue((house.relay.address, house.relay.port), source=source) as session:
        author, body = b"From: ann@sender.example\r\n", b"\r\nbody\r\n"
        content = author + field * 9_900 + body
        assert session.deliver(ANN, ALICE, content).code == 250
        assert house.sink.wait(already + 1)[-1].content.endswith(content)
        assert session.deliver(ANN, ALICE, author + field * 36_000 + body)[:2] == (552, "5.3.4")
        house.delivers(session)


@pytest.mark.parametrize("source", [SENDER, TRUSTED], ids=["stranger", "trusted"])
@pytest.mark.parametrize(
    "line", [b"From ann Thu Jan  1 00:00:00 1970\r\n", b">From ann@x.example\r\n", b"From x\r\n>From y\r\n"]
)
def test_a_line_of_a_mailbox_file_on_top_is_no_part_of_the_message(house: House, line: bytes, source: str) -> None:
    """Below our fields a reader would take it for the first line of the text, and the header for the rest."""
    already = len(house.sink.received)
    content = b"From: Ann <ann@sender.example>\r\nSubject: s\r\n\r\nFrom here it is text\r\n"
    with Dialogue((house.relay.address, house.relay.port), source=source) as session:
        answer = session.deliver(ANN, ALICE, line + content)
        assert answer.code == 250
    arrived = house.sink.wait(already + 1)[-1].content
    assert arrived.endswith(b"\r\n" + content) and line not in arrived
    assert parse(arrived)["From"] == "Ann <ann@sender.example>"
    assert house.world.signers(arrived) == ["fwd.example"]
    assert wait_until(lambda: house.relay.events("mbox_lines_removed"), "the log line")[-1]["octets"] == len(line)


def test_a_client_that_vanishes_in_the_middle_leaves_nothing(house: House) -> None:
    already = len(house.sink.received)
    for octets in (b"", GOOD, GOOD + b".", GOOD + b".\r"):
        with house.session() as session:
            assert session.offer(ANN, ALICE).code == 250
            assert session("DATA").code == 354
            session.send(octets)
    with house.session() as session:
        house.delivers(session)
    assert len(house.sink.received) == already + 1
    house.relay.wait_for_empty_queue()


def test_too_large_a_message_is_refused_before_or_after_data(house: House) -> None:
    with house.session() as session:
        offered = session("EHLO mx.sender.example")
        assert offered.code == 250
        session.send(b"MAIL FROM:<ann@sender.example> SIZE=50000001\r\n")
        assert session.reply()[:2] == (552, "5.3.4")
        line = b"x" * 998 + b"\r\n"
        assert session.deliver(ANN, ALICE, GOOD + line * 50_001)[:2] == (552, "5.3.4")
        house.delivers(session)


def test_the_log_has_a_line_a_step_and_none_of_the_content(house: House) -> None:
    with house.session() as session:
        assert session.deliver(ANN, ALICE, b"Subject: s3cret\r\n\r\ns3cret\r\n").code == 250
    queue_id = wait_until(lambda: house.relay.events("queued"), "the log of a queued message")[-1]["id"]
    wait_until(lambda: [e for e in house.relay.events("delivered") if e["id"] == queue_id], "its delivery in the log")
    steps = [line["event"] for line in house.relay.log if line.get("id") == queue_id]
    assert steps == ["mail", "rcpt", "data", "authenticated", "queued", "attempt", "delivered"]
    assert "s3cret" not in house.relay.log_text

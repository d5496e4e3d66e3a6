"""What the relay writes on top of a message and what it takes away, and the loops that it finds by what it wrote."""

from __future__ import annotations

import ipaddress
import re
import time
from collections.abc import Iterator, Sequence
from email.utils import parsedate_to_datetime
from typing import Any

import pytest

from tests.journeys.clients import Answer, Dialogue
from tests.journeys.sinks import Received, RecordingSink
from tests.journeys.world import FWD, MAILBOX, SENDER, World, opened
from tests.peers import free_port

pytestmark = pytest.mark.slow

ANN, ALICE, BOB = "ann@sender.example", "alice@fwd.example", "bob@fwd.example"
TRUSTED = "127.0.0.99"
MTA = "mta.fwd.example"
LOOPING, TAKEN = (554, "5.4.6"), (250, "2.0.0")
IPV6 = "2001:db8::25"
SEALED = ["arc-seal", "arc-message-signature", "arc-authentication-results"]
TRACE = ["authentication-results", "x-srs-relay", "received"]
OURS = [*SEALED, "dkim-signature", *TRACE]
MESSAGE = b"From: ann@sender.example\r\nSubject: as it came\r\n\r\ntext\r\n"


class House:
    """A relay before a sink; its second listener believes PROXY."""

    def __init__(self, world: World) -> None:
        world.zone[ipaddress.ip_address(SENDER).reverse_pointer, "PTR"] = ["mx.sender.example."]
        world.zone[ipaddress.ip_address(IPV6).reverse_pointer, "PTR"] = ["six.sender.example."]
        world.zone["six.sender.example", "AAAA"] = [IPV6]
        world.zone["sender.example", "TXT"] = [f'"v=spf1 ip4:{SENDER} ip4:127.0.0.66 ip6:{IPV6} -all"']
        self.proxied = free_port()
        self._taken = 0
        self.sink = world.start(RecordingSink(MAILBOX, world.port))
        self.relay = world.relay(
            aliases=f"""\
{ALICE} carol@mailbox.example
{BOB} dave@mailbox.example
boss@fwd.example chief@fwd.example
chief@fwd.example erin@mailbox.example
team@fwd.example chief@fwd.example, ann@mailbox.example
self@fwd.example self@fwd.example, frank@mailbox.example
@other.example @fwd.example
""",
            clients={"trusted": [f"{TRUSTED}/32"], "authserv_ids": [MTA]},
            listen=[
                {"address": f"{FWD}:{world.port}"},
                {"address": f"127.0.0.1:{self.proxied}", "proxy_protocol": True, "proxies": ["127.0.0.1/32"]},
            ],
            delivery={"smarthost": {"url": f"smtp://{MAILBOX}:{world.port}"}},
        )

    def client(self, source: str = SENDER) -> Dialogue:
        """A client at a loopback address, or at an IPv6 address that a proxy vouches for."""
        if ":" not in source:
            return Dialogue((self.relay.address, self.relay.port), source=source)
        return Dialogue(("127.0.0.1", self.proxied), proxy=f"PROXY TCP6 {source} ::1 40000 25\r\n".encode())

    def send(
        self,
        content: bytes,
        *recipients: str,
        source: str = SENDER,
        hello: bytes = b"EHLO mx.sender.example",
        mail: str = f"MAIL FROM:<{ANN}>",
    ) -> Answer:
        """A message as it is on the wire; the answer to the final dot. What was taken is waited for at the sink."""
        with self.client(source) as session:
            assert session(hello).code == 250
            assert session(mail).code == 250
            for recipient in recipients or (ALICE,):
                session(f"RCPT TO:<{recipient}>")
            assert session("DATA").code == 354
            session.send(content + b".\r\n")
            answer = session.reply()
        if answer[:2] == TAKEN:
            self._taken += 1
            self.sink.wait(self._taken)
        return answer

    def pass_on(self, content: bytes, *recipients: str, **options: Any) -> Received:
        """The same for a message that must be taken: what the sink got of it."""
        assert self.send(content, *recipients, **options)[:2] == TAKEN
        return self.sink.received[-1]


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    with opened() as world:
        yield House(world)


def field_names(content: bytes) -> list[str]:
    header = content.partition(b"\r\n\r\n")[0]
    return [name.decode().lower() for name in re.findall(rb"^([!-9;-~]+):", header, re.MULTILINE)]


def received(content: bytes) -> str:
    """Our Received field, unfolded."""
    field = re.search(rb"^Received: (from .*?)\r\n(?![ \t])", content, re.MULTILINE | re.DOTALL)
    assert field is not None
    return re.sub(r"\r\n\t", " ", field[1].decode("ascii"))


# on top


def test_our_fields_stand_on_top_newest_first(house: House) -> None:
    arrived = house.pass_on(b"Received: from x by y; z\r\n" + MESSAGE).content
    assert field_names(arrived) == [*OURS, "received", "from", "subject"]
    assert arrived.endswith(b"\r\nReceived: from x by y; z\r\n" + MESSAGE)


def test_each_alias_leaves_its_mark(house: House) -> None:
    arrived = house.pass_on(MESSAGE, ALICE, BOB).content
    marks = re.findall(rb"^X-SRS-Relay: (\S+)\r\n", arrived, re.MULTILINE)
    assert len(set(marks)) == 2
    assert ALICE.encode() not in arrived and b"mailbox.example" not in arrived


def test_a_message_without_a_header_gets_a_blank_line_below_ours(house: House) -> None:
    content = b"no header here\r\n\r\nX: and this is body as well\r\n"
    arrived = house.pass_on(content).content
    assert arrived.endswith(b"\r\n\r\n" + content)
    assert field_names(arrived) == TRACE, "without an author there is nothing to sign (RFC 6376 section 5.4)"


def test_octets_and_dots_pass_unchanged(house: House) -> None:
    body = b"\x80\xff\x00\t \r\n.\r\n..\r\n...\r\n.x\r\n" + b"." * 2000 + b"\r\n\r\n \r\n\r\n"
    content = "From: ann@sender.example\r\nSubject: Grüße\r\n".encode() + b"X: \xe4 \r\n\r\n" + body
    arrived = house.pass_on(re.sub(rb"^\.", b"..", content, flags=re.MULTILINE))
    assert arrived.content.endswith(content)
    assert field_names(arrived.content) == [*OURS, "from", "subject", "x"]
    assert "BODY=8BITMIME" in arrived.options


# Received


def test_received_says_who_came_how_and_for_whom(house: House) -> None:
    found = re.fullmatch(
        r"from mx\.sender\.example \(mx\.sender\.example \[127\.0\.0\.11\]\) by mx\.fwd\.example with ESMTP id (\w+)"
        r" for <alice@fwd\.example>; (.+)",
        received(house.pass_on(MESSAGE).content),
    )
    assert found is not None
    assert found[1] in {event["id"] for event in house.relay.events("queued")}
    assert abs(parsedate_to_datetime(found[2]).timestamp() - time.time()) < 60


@pytest.mark.parametrize(
    ("recipients", "shown"),
    [
        ([ALICE], ALICE),
        (["Alice@FWD.example"], "Alice@FWD.example"),
        (["nobody@fwd.example", ALICE], ALICE),
        ([ALICE, BOB], ""),
        ([ALICE, ALICE], ""),
    ],
)
def test_a_recipient_is_named_only_alone_and_as_it_was_given(
    house: House, recipients: Sequence[str], shown: str
) -> None:
    field = received(house.pass_on(MESSAGE, *recipients).content)
    assert re.findall(r"for <(.*)>;", field) == ([shown] if shown else [])


@pytest.mark.parametrize(
    ("hello", "source", "origin"),
    [
        (b"EHLO mx.sender.example", IPV6, f"mx.sender.example (six.sender.example [IPv6:{IPV6}])"),
        (b"EHLO [IPv6:2001:DB8::25]", IPV6, f"[IPv6:2001:DB8::25] (six.sender.example [IPv6:{IPV6}])"),
        (b"EHLO [127.0.0.11]", SENDER, "[127.0.0.11] (mx.sender.example [127.0.0.11])"),
        (b"EHLO mx.sender.example", "127.0.0.66", "mx.sender.example (unknown [127.0.0.66])"),
        (b'EHLO x(y)<z>;"\\@,=', SENDER, "x?y??z??????? (mx.sender.example [127.0.0.11])"),
        (b"EHLO localhost (trusted [10.0.0.1])", SENDER, "localhost (mx.sender.example [127.0.0.11])"),
        (b"EHLO " + b"x" * 1000, SENDER, "x" * 255 + " (mx.sender.example [127.0.0.11])"),
    ],
)
def test_what_a_client_says_of_itself_is_made_harmless(house: House, hello: bytes, source: str, origin: str) -> None:
    field = received(house.pass_on(MESSAGE, source=source, hello=hello).content)
    assert field.startswith(f"from {origin} by mx.fwd.example with ESMTP id ")


@pytest.mark.parametrize(
    ("hello", "mail", "protocol"),
    [
        (b"HELO mx.sender.example", f"MAIL FROM:<{ANN}>", "SMTP"),
        (b"EHLO mx.sender.example", f"MAIL FROM:<{ANN}>", "ESMTP"),
        (b"EHLO mx.sender.example", f"MAIL FROM:<{ANN}> SMTPUTF8", "UTF8SMTP"),
        (b"HELO mx.sender.example", f"MAIL FROM:<{ANN}> SMTPUTF8", "SMTP"),
    ],
)
def test_the_protocol_is_named(house: House, hello: bytes, mail: str, protocol: str) -> None:
    field = received(house.pass_on(MESSAGE, hello=hello, mail=mail).content)
    assert f" by mx.fwd.example with {protocol} id " in field


# Authentication-Results


FORGED = [
    b"Authentication-Results: mx.fwd.example; spf=pass smtp.mailfrom=ceo@bank.example\r\n",
    b"AUTHENTICATION-RESULTS: MX.FWD.EXAMPLE; none\r\n",
    b"Authentication-results :\r\n\t(a comment; really) mx.fwd.example 1 ; dkim=pass\r\n header.d=bank.example\r\n",
    b'Authentication-Results: "mx.fwd.example"; dkim=pass header.d=bank.example\r\n',
    b"Authentication-Results\r\n : mx.fwd.example; dkim=pass header.d=bank.example\r\n",
    b"Authentication-Results: =?utf-8?q?mx.fwd?= =?us-ascii?b?LmV4YW1wbGU=?=; dkim=pass header.d=bank.example\r\n",
    b"Authentication-Results: mx.fwd\0.example; dkim=pass header.d=bank.example\r\n",
    b"Authentication-Results: mx.fwd\x01.example\\; dkim=pass header.d=bank.example\r\n",
    b"Authentication-Results: mx.fwd\xff.example...; dkim=pass header.d=bank.example\r\n",
    "Authentication-Results: \u2039mx.fw\u200dd.example\u203a; dkim=pass header.d=bank.example\r\n".encode(),
]
OTHERS = [
    b"Authentication-Results: mx.sender.example; dkim=pass (says mx.fwd.example; spf=pass) header.d=bank.example\r\n",
    b"Authentication-Results: sub.mx.fwd.example; none\r\n",
    b"Authentication-Results: mx.fwd.example.evil.example; none\r\n",
    b"Authentication-Results: notmx.fwd.example; none\r\n",
    b"Authentication-Results: =?utf-8?q?other.example?=; dkim=none\r\n",
    b"Authentication-Results: spf=pass (sender IP is 192.0.2.1) smtp.mailfrom=mx.fwd.example; dkim=none\r\n",
    b"Authentication-Results\r\n : other.example; none\r\n",
    "Authentication-Results: mx.fwd\u00e9.example; none\r\n".encode(),
    b"X-Authentication-Results: mx.fwd.example; spf=pass\r\n",
    b"ARC-Authentication-Results: i=1; mx.fwd.example; spf=pass\r\n",
]


SIGNED = b"DKIM-Signature: v=1; h=From:To:\r\n\tAuthentication-Results : Subject;\r\n\tb=AAAA\r\n"
UNSIGNED = b"DKIM-Signature: v=1; h=From:To; bh=authentication-results; b=AAAA\r\n"


@pytest.mark.parametrize(("signature", "signed"), [(SIGNED, True), (UNSIGNED, False), (b"", False)])
@pytest.mark.parametrize("source", [SENDER, TRUSTED])
def test_results_in_our_name_are_removed_and_no_others(
    house: House, source: str, signature: bytes, signed: bool
) -> None:
    mixed = b"".join(forged + other for forged, other in zip(FORGED, OTHERS, strict=True))
    arrived = house.pass_on(mixed + signature + MESSAGE, source=source).content
    ours = arrived.removesuffix(b"".join(OTHERS) + signature + MESSAGE)
    assert ours != arrived, "the rest leaves as it came"
    assert [name for name in field_names(ours) if name == "authentication-results"] == (
        ["authentication-results"] if source == SENDER else []
    )
    assert b"bank.example" not in ours
    removed = house.relay.events("forged_results_removed")[-1]
    assert (removed["fields"], removed["signed"]) == (len(FORGED), signed)


@pytest.mark.parametrize(
    "field", [f"Authentication-Results: {MTA}; none", f"Authentication-Results: <{MTA.upper()}.>; x"]
)
def test_results_in_the_name_of_our_mta_are_believed_of_nobody_else(house: House, field: str) -> None:
    content = field.encode() + b"\r\n" + MESSAGE
    assert house.pass_on(content, source=TRUSTED).content.endswith(b"\r\n" + content)
    assert field.encode() not in house.pass_on(content).content


# loops


@pytest.mark.parametrize("source", [SENDER, TRUSTED])
def test_a_message_that_comes_back_to_the_same_alias_is_refused(house: House, source: str) -> None:
    content = b"Return-Path: <x@mailbox.example>\r\nReceived: by a mailbox\r\n" + house.pass_on(MESSAGE).content
    assert house.send(content, ALICE, source=source)[:2] == LOOPING
    assert house.send(content, "ALICE@FWD.example", source=source)[:2] == LOOPING
    assert house.send(content, BOB, ALICE, source=source)[:2] == LOOPING
    assert house.send(content, BOB, source=source)[:2] == TAKEN


def marked(house: House, *recipients: str) -> bytes:
    """A message as it comes back from where these recipients led."""
    return house.pass_on(MESSAGE, *recipients).content


@pytest.mark.parametrize(
    ("first", "then", "expected"),
    [
        ("boss@fwd.example", "chief@fwd.example", LOOPING),
        ("chief@fwd.example", "boss@fwd.example", LOOPING),
        ("boss@other.example", "chief@fwd.example", LOOPING),
        ("chief+x@fwd.example", "chief+y@fwd.example", LOOPING),
        ("self@fwd.example", "self@fwd.example", LOOPING),
        ("self@other.example", "self@fwd.example", LOOPING),
        ("team@fwd.example", "team@fwd.example", LOOPING),
        ("team@fwd.example", "chief@fwd.example", TAKEN),
        ("chief@fwd.example", "team@fwd.example", TAKEN),
        ("alice@other.example", BOB, TAKEN),
    ],
)
def test_an_alias_behind_an_alias_is_marked_where_every_copy_went_through_it(
    house: House, first: str, then: str, expected: tuple[int, str]
) -> None:
    """Of a team one member may forward to another: that copy never went through the other's alias."""
    assert house.send(marked(house, first), then)[:2] == expected


def test_two_aliases_that_lead_through_the_same_are_no_loop(house: House) -> None:
    arrived = house.pass_on(MESSAGE, "boss@fwd.example", "team@fwd.example", "self@fwd.example")
    assert house.send(arrived.content, ALICE)[:2] == TAKEN
    assert house.send(arrived.content, "chief@fwd.example")[:2] == LOOPING


def test_a_mark_that_is_not_ours_is_no_loop(house: House) -> None:
    mark = re.search(rb"^X-SRS-Relay: (\S+)\r\n", house.pass_on(MESSAGE).content, re.MULTILINE)
    assert mark is not None
    changed = mark[0].replace(mark[1][:1], b"1" if mark[1][:1] == b"0" else b"0")
    assert house.send(changed + MESSAGE)[:2] == TAKEN
    assert house.send(b"X-SRS-Relay: alice@fwd.example\r\n" + MESSAGE)[:2] == TAKEN
    assert house.send(MESSAGE + mark[0])[:2] == TAKEN, "it is in the body"
    assert house.send(mark[0] + MESSAGE)[:2] == LOOPING


def test_too_many_hops_are_a_loop(house: House) -> None:
    hop = b"Received: from x.example by y.example; Mon, 16 Jun 2025 10:00:00 +0200\r\n"
    assert house.send(hop * 50 + MESSAGE)[:2] == TAKEN
    assert house.send(hop * 51 + MESSAGE)[:2] == LOOPING


def test_two_forwarders_that_point_at_each_other_end_with_one_bounce(world: World) -> None:
    home = world.start(RecordingSink(SENDER, world.port))
    first = world.relay("fwd.example", aliases=f"{ALICE} alice@next.example\n")
    second = world.relay("next.example", aliases=f"alice@next.example {ALICE}\n")
    with Dialogue((first.address, first.port), source=SENDER) as session:
        assert session.deliver(ANN, ALICE, MESSAGE)[:2] == TAKEN
    [bounce] = home.wait()
    assert bounce.sender == "" and bounce.recipients == (ANN,)
    assert b"5.4.6" in bounce.content
    first.wait_for_empty_queue()
    second.wait_for_empty_queue()
    assert len(home.received) == 1
    assert len(first.events("delivered")) == 2, "the message to the other forwarder, and the bounce"

"""The settings of the door that other tests leave at their defaults: each does what config/relay.toml says of it."""

from __future__ import annotations

import re
import time
import urllib.request
from collections.abc import Iterator

import pytest

from relay.receive.proxy_protocol import SIGNATURE
from relay.srs import address as srs
from tests.journeys.clients import Answer, Dialogue
from tests.journeys.maildir import parse
from tests.journeys.sinks import Received, RecordingSink
from tests.journeys.world import FWD, MAILBOX, SECRET, SENDER, World, opened
from tests.peers import free_port, wait_until

pytestmark = pytest.mark.slow

ANN, ALICE = "ann@sender.example", "alice@fwd.example"
TAKEN, TOO_LARGE, NO_SUCH_USER = (250, "2.0.0"), (552, "5.3.4"), (550, "5.1.1")
HOP = b"Received: from x by y; Mon, 16 Jun 2025 10:00:00 +0200\r\n"
MESSAGE = b"From: ann@sender.example\r\nSubject: hello\r\n\r\nhello\r\n"
SCHEME = srs.Scheme("fwd.example", (SECRET.encode(),), separator="+", hash_length=27, alphabet="url")
DAY = 86400


class House:
    """A relay with every such setting changed, before a mailbox host that knows bob and not nobody."""

    def __init__(self, world: World) -> None:
        world.zone["corp.example", "MX"] = ["10 mx.mailbox.example."]
        world.zone["proxied.example", "TXT"] = ['"v=spf1 ip4:127.0.0.64/26 -all"']
        world.zone["fwd.example", "TXT"] = [f'"v=spf1 ip4:{FWD} ip4:127.0.0.64/26 -all"']
        self.sink = world.start(
            RecordingSink(
                MAILBOX,
                world.port,
                refused={
                    "nobody@asked.example": "550 5.1.1 no such user",
                    **{f"u{n}@unknown.example": "550 5.1.1 no such user" for n in range(200)},
                },
            )
        )
        self.proxied, self._http = free_port(), free_port()
        self.relay = world.relay(
            workers=1,
            http={"address": f"127.0.0.1:{self._http}"},
            authserv_id="auth.example",
            aliases=f"{ALICE} carol@mailbox.example\n",
            listen=[
                {"address": f"{FWD}:{world.port}"},
                {"address": f"127.0.0.1:{self.proxied}", "proxy_protocol": True, "proxies": ["127.0.0.64/26"]},
            ],
            receive={"bare_newline": "normalize", "max_message_size": "10KB", "max_header_size": "2KiB", "max_hops": 3},
            limits={"recipients": 100},
            srs={"separator": "+", "hash_length": 27, "hash_min": 6, "max_age": "2d", "alphabet": "url"},
            routes={
                "callout_cache": "1s",
                "domains": {
                    "asked.example": {"next_hop": f"smtp://{MAILBOX}:{world.port}", "recipients": "callout"},
                    "unknown.example": {"next_hop": f"smtp://{MAILBOX}:{world.port}", "recipients": "callout"},
                    "corp.example": {"recipients": "any"},
                },
            },
        )

    def session(self, source: str = SENDER) -> Dialogue:
        return Dialogue((self.relay.address, self.relay.port), source=source)

    def metric(self, name: str) -> float:
        """What /metrics says of a series."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self._http}/metrics", timeout=10) as page:
            found = re.search(rf"^{re.escape(name)} (\S+)$", page.read().decode(), re.MULTILINE)
        assert found is not None, name
        return float(found[1])

    def send(self, content: bytes, sender: str = ANN, recipient: str = ALICE) -> Answer:
        with self.session() as session:
            return session.deliver(sender, recipient, content)

    def passes_on(self, content: bytes, sender: str = ANN, recipient: str = ALICE) -> Received:
        already = len(self.sink.received)
        assert self.send(content, sender, recipient)[:2] == TAKEN
        return self.sink.wait(already + 1)[-1]


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    with opened() as world:
        yield House(world)


def test_authserv_id(house: House) -> None:
    forged, other = (
        b"Authentication-Results: auth.example; none\r\n",
        b"Authentication-Results: mx.fwd.example; none\r\n",
    )
    content = house.passes_on(forged + other + MESSAGE).content
    results = [value.partition(";")[0] for value in parse(content).get_all("Authentication-Results", [])]
    assert results == ["auth.example", "mx.fwd.example"]
    assert forged not in content and other in content


def test_bare_newlines_from_outside_may_be_normalized(house: House) -> None:
    content = house.passes_on(b"Subject: hello\n\r\none\ntwo\rthree\r\n\n.\nfour\r\n").content
    assert content.endswith(b"Subject: hello\r\n\r\none\r\ntwo\r\nthree\r\n\r\n.\r\nfour\r\n")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (MESSAGE + b"x" * 9000 + b"\r\n", TAKEN),
        (MESSAGE + b"x" * 10_000 + b"\r\n", TOO_LARGE),
        (b"X: " + b"x" * 1900 + b"\r\n" + MESSAGE, TAKEN),
        (b"X: " + b"x" * 2048 + b"\r\n" + MESSAGE, TOO_LARGE),
        (HOP * 3 + MESSAGE, TAKEN),
        (HOP * 4 + MESSAGE, (554, "5.4.6")),
    ],
    ids=["size", "max_message_size", "header", "max_header_size", "hops", "max_hops"],
)
def test_limits_of_a_message(house: House, content: bytes, expected: tuple[int, str]) -> None:
    assert house.send(content)[:2] == expected


def test_the_size_is_offered(house: House) -> None:
    with house.session() as session:
        session.send(b"EHLO mx.sender.example\r\n")
        assert session.reply().code == 250
        assert session(f"MAIL FROM:<{ANN}> SIZE=10001")[:2] == TOO_LARGE
        assert session(f"MAIL FROM:<{ANN}> SIZE=10000").code == 250


def test_recipients_of_a_transaction(house: House) -> None:
    already = len(house.sink.received)
    with house.session() as session:
        assert session.offer(ANN, "u0@corp.example").code == 250
        answers = [session(f"RCPT TO:<u{n}@corp.example>")[:2] for n in range(1, 102)]
        assert answers == [(250, "2.1.5")] * 99 + [(452, "4.5.3")] * 2
        assert session("DATA").code == 354
        session.send(MESSAGE + b".\r\n")
        assert session.reply()[:2] == TAKEN
    wait_until(lambda: sum(len(one.recipients) for one in house.sink.received[already:]) == 100, "all hundred")


def test_a_domain_without_a_next_hop_goes_to_its_mx(house: House) -> None:
    assert house.passes_on(MESSAGE, recipient="who@corp.example").recipients == ("who@corp.example",)


def test_the_form_of_srs_addresses(house: House) -> None:
    """Of ten hashes of 27 characters some have what base64 and its alphabet for URLs write differently."""
    senders = [house.passes_on(MESSAGE, f"u{n}@sender.example").sender for n in range(10)]
    hashes = [re.fullmatch(r"SRS0\+([\w-]{27})=..=sender\.example=u\d@fwd\.example", sender) for sender in senders]
    assert all(hashes), senders
    assert any(found and set(found[1]) & {"-", "_"} for found in hashes)


def cut(address: str, characters: int) -> str:
    """The SRS address with so many characters of its hash."""
    return re.sub(rf"(SRS0\+.{{{characters}}})[^=]*=", r"\1=", address)


@pytest.mark.parametrize(
    ("hash_length", "age_days", "expected"),
    [(27, 0, TAKEN), (6, 0, TAKEN), (5, 0, NO_SUCH_USER), (27, 2, TAKEN), (27, 3, NO_SUCH_USER)],
)
def test_hash_min_and_max_age(house: House, hash_length: int, age_days: int, expected: tuple[int, str]) -> None:
    address = srs.forward("ann@mailbox.example", SCHEME, time.time() - age_days * DAY)
    answer = house.send(MESSAGE, recipient=cut(address, hash_length))
    assert answer[:2] == expected
    if expected == NO_SUCH_USER:
        assert ("expired" if age_days else "forged") in answer.text


def test_callout_cache(house: House) -> None:
    def asks(user: str) -> int:
        """How often the mailbox host was asked so far, after one more RCPT from outside."""
        with house.session() as session:
            answer = session.offer(ANN, f"{user}@asked.example")
        assert answer.code == (550 if user == "nobody" else 250)
        return house.sink.asked.count(f"{user}@asked.example")

    assert asks("nobody") == asks("nobody") == 1
    assert asks("bob") == 1
    wait_until(lambda: asks("bob") == 2, "a second question after the answer has grown old")
    assert asks("nobody") == 1, "that a user is unknown holds for five minutes"


def test_who_tries_name_after_name_is_no_burden_to_the_mailbox_host(house: House) -> None:
    """Its own connections end after so many errors; the next one goes on where the last one stood."""
    answers: list[tuple[int, str]] = []
    already = len(house.sink.asked)
    while len(answers) < 110:
        with house.session("127.0.0.68") as session:
            session("EHLO harvester.example")
            session("MAIL FROM:<x@silent.example>")
            users = range(len(answers), len(answers) + 10)
            answers += [session(f"RCPT TO:<u{n}@unknown.example>")[:2] for n in users]
    assert answers == [NO_SUCH_USER] * 100 + [(450, "4.7.1")] * 10
    assert len(house.sink.asked) == already + 100


def test_messages_in_flight_are_measured(house: House) -> None:
    with house.session() as session:
        assert session.offer(ANN, ALICE).code == 250
        assert session("DATA").code == 354
        session.send(MESSAGE + b"x" * 5000)
        wait_until(lambda: 5000 <= house.metric("srs_relay_message_memory_bytes") < 6000, "the message to be counted")
        session.send(b"\r\n.\r\n")
        assert session.reply()[:2] == TAKEN
    assert house.metric("srs_relay_message_memory_bytes") == 0


def test_srs_addresses_that_are_refused_are_counted(house: House) -> None:
    name = 'srs_relay_srs_addresses_total{step="rejected"}'
    already = house.metric(name)
    assert house.send(MESSAGE, recipient="SRS0=AAAA=AA=sender.example=ann@fwd.example")[:2] == NO_SUCH_USER
    assert house.metric(name) == already + 1


def test_proxies_may_be_networks(house: House) -> None:
    header = b"PROXY TCP4 127.0.0.11 127.0.0.1 40000 25\r\n"
    with Dialogue(("127.0.0.1", house.proxied), source="127.0.0.127", proxy=header) as session:
        assert session.offer(ANN, ALICE).code == 250
    with pytest.raises((EOFError, ConnectionResetError)):
        Dialogue(("127.0.0.1", house.proxied), source="127.0.0.128", proxy=header)


@pytest.mark.parametrize("header", [b"PROXY UNKNOWN\r\n", SIGNATURE + b"\x20\x00\x00\x00"], ids=["UNKNOWN", "LOCAL"])
def test_a_client_that_the_proxy_does_not_name_has_no_spf(house: House, header: bytes) -> None:
    """Not even where the proxy may send for the sender, who may be one of ours."""

    def session() -> Dialogue:
        return Dialogue(("127.0.0.1", house.proxied), source="127.0.0.64", proxy=header)

    with session() as client:
        assert client.deliver(ALICE, ALICE, MESSAGE)[:2] == (550, "5.7.1")
    already = len(house.sink.received)
    with session() as client:
        assert client.deliver("x@proxied.example", ALICE, MESSAGE)[:2] == TAKEN
    results = parse(house.sink.wait(already + 1)[-1].content)["Authentication-Results"]
    assert "spf=none (not checked, the proxy does not name the client)" in " ".join(results.split())

"""Who may send to whom, as a table at the SMTP door: from which client, as which sender, to whom, and the reply.

The clients are given by PROXY. The proxy itself stands on an address that is trusted: what it does not vouch for must
not inherit that.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from relay.srs import address as srs
from tests.journeys.clients import Answer, Dialogue
from tests.journeys.relay_process import RelayProcess
from tests.journeys.sinks import RecordingSink
from tests.journeys.world import FWD, MAILBOX, SECRET, SENDER, World, opened
from tests.peers import free_port, wait_until

pytestmark = pytest.mark.slow

DAY = 86400
CLIENTS = {
    "stranger": b"PROXY TCP4 192.0.2.1 127.0.0.1 40000 25\r\n",
    "stranger over IPv6": b"PROXY TCP6 2001:db8::1 ::1 40000 25\r\n",
    "forger": b"PROXY TCP4 198.51.100.66 127.0.0.1 40000 25\r\n",
    "our own host": b"PROXY TCP4 127.0.0.12 127.0.0.1 40000 25\r\n",
    "trusted": b"PROXY TCP4 203.0.113.5 127.0.0.1 40000 25\r\n",
    "unknown": b"PROXY UNKNOWN\r\n",
    "local": b"\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00",
}
ANN = "ann@sender.example"
ALICE = "alice@fwd.example"
ACCEPTED, UNKNOWN_USER, DENIED = (250, "2.1.5"), (550, "5.1.1"), (550, "5.7.1")
TAKEN = (250, "2.0.0")


def forwarded(address: str, age_days: int = 0) -> str:
    return srs.forward(address, srs.Scheme("fwd.example", (SECRET.encode(),)), time.time() - age_days * DAY)


def forged(address: str) -> str:
    tag, _, rest = forwarded(address).partition("=")
    return f"{tag}=AAAA{rest[4:]}"


FRESH = forwarded(ANN)
TABLE = [
    # what we serve, for everyone
    ("stranger", ANN, ALICE, ACCEPTED),
    ("stranger", ANN, "Alice@FWD.Example", ACCEPTED),
    ("stranger", ANN, "bob@corp.example", ACCEPTED),
    ("stranger over IPv6", ANN, ALICE, ACCEPTED),
    ("forger", ANN, ALICE, ACCEPTED),
    ("unknown", ANN, ALICE, ACCEPTED),
    ("trusted", ANN, ALICE, ACCEPTED),
    ("stranger", "", ALICE, ACCEPTED),
    ("stranger", ANN, "postmaster", ACCEPTED),
    ("stranger", ANN, "PostMaster@fwd.example", ACCEPTED),
    ("stranger", ANN, "abuse@fwd.example", ACCEPTED),
    ("stranger", ANN, "postmaster@corp.example", ACCEPTED),
    # the author of our bounces, and the postmaster by an address of ours
    ("stranger", ANN, "MAILER-DAEMON@fwd.example", ACCEPTED),
    ("stranger", "", "mailer-daemon@mx.fwd.example", ACCEPTED),
    ("stranger", ANN, "mailer-daemon@corp.example", ACCEPTED),
    ("stranger", ANN, f"postmaster@[{FWD}]", ACCEPTED),
    ("stranger", ANN, "PostMaster@[127.0.0.1]", ACCEPTED),
    ("stranger", ANN, f"postmaster@[IPv6:::ffff:{FWD}]", ACCEPTED),
    ("stranger", ANN, "mailer-daemon@elsewhere.example", DENIED),
    ("stranger", ANN, "postmaster@[192.0.2.9]", DENIED),
    ("stranger", ANN, "postmaster@[IPv6:2001:db8::9]", DENIED),
    ("stranger", ANN, f"alice@[{FWD}]", DENIED),
    # users that we do not have, for nobody
    ("stranger", ANN, "nobody@fwd.example", UNKNOWN_USER),
    ("stranger", ANN, "nobody@corp.example", UNKNOWN_USER),
    ("stranger", "", "nobody@fwd.example", UNKNOWN_USER),
    ("trusted", ANN, "nobody@fwd.example", UNKNOWN_USER),
    ("trusted", ANN, "nobody@corp.example", UNKNOWN_USER),
    # other hosts' users, for trusted clients only
    ("trusted", ANN, "x@elsewhere.example", ACCEPTED),
    ("trusted", "", "x@elsewhere.example", ACCEPTED),
    ("trusted", ANN, "SRS0=AAAA=AA=sender.example=ann@elsewhere.example", ACCEPTED),
    ("stranger", ANN, "x@elsewhere.example", DENIED),
    ("stranger over IPv6", ANN, "x@elsewhere.example", DENIED),
    ("stranger", "", "x@elsewhere.example", DENIED),
    ("stranger", ANN, "SRS0=AAAA=AA=sender.example=ann@elsewhere.example", DENIED),
    ("stranger", ANN, "x@mailbox.example", DENIED),
    ("stranger", ANN, "x@[192.0.2.9]", DENIED),
    ("our own host", ALICE, "x@elsewhere.example", DENIED),
    ("unknown", ANN, "x@elsewhere.example", DENIED),
    ("local", ANN, "x@elsewhere.example", DENIED),
    # the old ways around it
    ("stranger", ANN, "x%elsewhere.example@fwd.example", DENIED),
    ("stranger", ANN, "elsewhere.example!x@fwd.example", DENIED),
    ("stranger", ANN, '"x@elsewhere.example"@fwd.example', DENIED),
    ("stranger", ANN, "@fwd.example:x@elsewhere.example", DENIED),
    # SRS addresses of ours: only what we wrote and is not too old, whoever asks
    ("stranger", "", FRESH, ACCEPTED),
    ("stranger", ANN, FRESH, ACCEPTED),
    ("stranger", "", FRESH.lower(), ACCEPTED),
    ("stranger", "", forwarded(ANN, age_days=20), ACCEPTED),
    ("stranger", "", forwarded(ANN, age_days=23), UNKNOWN_USER),
    ("stranger", "", forged(ANN), UNKNOWN_USER),
    ("stranger", "", "SRS0=junk@fwd.example", UNKNOWN_USER),
    ("stranger", "", "SRS1=AAAA=elsewhere.example==AAAA=AA=x.example=x@fwd.example", UNKNOWN_USER),
    ("trusted", "", forged(ANN), UNKNOWN_USER),
    ("trusted", ANN, forwarded(ANN, age_days=23), UNKNOWN_USER),
]
FORGERIES = [
    ("stranger", "ceo@fwd.example", ALICE, DENIED),
    ("forger", "ceo@fwd.example", FRESH, DENIED),
    ("stranger", FRESH, ALICE, DENIED),
    ("unknown", "ceo@fwd.example", ALICE, DENIED),
    ("our own host", "ceo@fwd.example", ALICE, TAKEN),
    ("trusted", "ceo@fwd.example", ALICE, TAKEN),
]


class Door:
    """A relay whose second listener believes PROXY."""

    def __init__(self, world: World) -> None:
        self.proxied = free_port()
        sender = '"v=spf1 ip4:127.0.0.11 ip4:192.0.2.1 ip6:2001:db8::1 -all"'
        world.zone["sender.example", "TXT"] = [sender]
        self.relay: RelayProcess = world.relay(
            aliases=f"{ALICE} carol@mailbox.example\n",
            listen=[
                {"address": f"{FWD}:{world.port}", "tls": "none"},
                {
                    "address": f"127.0.0.1:{self.proxied}",
                    "tls": "none",
                    "proxy_protocol": True,
                    "proxies": ["127.0.0.1/32"],
                },
            ],
            clients={"trusted": ["203.0.113.0/24", "127.0.0.1/32"]},
            routes={
                "postmaster": "admin@mailbox.example",
                "domains": {"corp.example": {"next_hop": f"smtp://127.0.0.1:{world.port}", "recipients": "users"}},
            },
            files={"users": "bob@corp.example\n"},
        )

    def client(self, name: str) -> Dialogue:
        return Dialogue(("127.0.0.1", self.proxied), proxy=CLIENTS[name])


@pytest.fixture(scope="module")
def door() -> Iterator[Door]:
    with opened() as world:
        yield Door(world)


@pytest.mark.parametrize(
    ("client", "sender", "recipient", "expected"),
    TABLE,
    ids=[f"{client}: <{sender}> to <{recipient}>" for client, sender, recipient, _ in TABLE],
)
def test_who_may_send_to_whom(door: Door, client: str, sender: str, recipient: str, expected: tuple[int, str]) -> None:
    with door.client(client) as session:
        assert session.offer(sender, recipient)[:2] == expected


@pytest.mark.parametrize(("client", "sender", "recipient", "expected"), FORGERIES)
def test_a_sender_in_our_name_is_refused_when_the_message_is_there(
    door: Door, client: str, sender: str, recipient: str, expected: tuple[int, str]
) -> None:
    """Not before: a signature of ours could prove it true."""
    with door.client(client) as session:
        content = b"From: ann@sender.example\r\nSubject: pay this\r\n\r\nnow\r\n"
        assert session.deliver(sender, recipient, content)[:2] == expected


@pytest.mark.parametrize(
    ("recipient", "word"),
    [
        (forged(ANN), "forged"),
        (forwarded(ANN, age_days=23), "expired"),
        ("SRS0=junk@fwd.example", "malformed"),
    ],
)
def test_the_refusal_of_an_srs_address_says_why(door: Door, recipient: str, word: str) -> None:
    with door.client("stranger") as session:
        assert word in session.offer("", recipient).text.lower()


@pytest.mark.parametrize(
    ("client", "author", "code"),
    [
        ("stranger", "From: CEO <ceo@fwd.example>", 550),
        ("stranger", "From: CEO <ceo@sub.fwd.example>", 550),
        ("stranger", 'From: "ann@sender.example" <ceo@FWD.example>', 550),
        ("stranger", "From: ann@sender.example, ceo@fwd.example", 550),
        ("stranger", "From: ann@sender.example <ceo@fwd.example>", 550),
        ("stranger", "From: ann@sender.example,, ceo@fwd.example", 550),
        ("stranger", "From: Ann (ann@sender.example) <ceo@fwd.example> <", 550),
        ("stranger", "From: ceo@fwd.example (", 550),
        ("stranger", "From: ann@sender.example\r\nFrom: ceo@fwd.example", 550),
        ("stranger", "From:\r\n =?utf-8?q?CEO?=\r\n <ceo@fwd.example>", 550),
        ("stranger", "From: Ann <ann@sender.example>", 250),
        ("stranger", 'From: "ceo@fwd.example, by a list" <ann@sender.example>', 250),
        ("trusted", "From: CEO <ceo@fwd.example>", 250),
    ],
)
def test_an_author_in_our_name_is_believed_from_trusted_clients_only(
    door: Door, client: str, author: str, code: int
) -> None:
    with door.client(client) as session:
        answer = session.deliver(ANN, ALICE, author.encode() + b"\r\nSubject: pay this\r\n\r\nnow\r\n")
        assert (answer.code, answer.enhanced) == ((550, "5.7.1") if code == 550 else (250, "2.0.0"))


@pytest.mark.parametrize("recipient", ["MAILER-DAEMON@fwd.example", f"postmaster@[{FWD}]", "postmaster@[IPv6:::1]"])
@pytest.mark.parametrize("sender", [ANN, ""])
def test_the_postmaster_reads_what_comes_for_him(recipient: str, sender: str) -> None:
    """Replies to our bounces, and mail to an address of ours: also that to which the client connected. What comes from
    the null sender ends where it cannot be delivered."""
    with opened() as world:
        admin = "admin@mailbox.example"
        sink = world.start(RecordingSink(MAILBOX, world.port, refused={} if sender else {admin: "550 5.1.1 gone"}))
        everywhere = [
            {"address": f"{FWD}:{world.port}", "tls": "none"},
            {"address": f"[::]:{world.port}", "tls": "none"},
        ]
        relay = world.relay(listen=everywhere, routes={"postmaster": admin}, spf={"skip": ["::1"]})
        server = ("::1" if "IPv6" in recipient else FWD, world.port)
        with Dialogue(server, source="::1" if "IPv6" in recipient else SENDER) as session:
            content = b"From: ann@sender.example\r\nSubject: your bounce\r\n\r\nwhat is it?\r\n"
            assert session.deliver(sender, recipient, content).code == 250
        if sender:
            assert sink.wait(1)[0].recipients == (admin,)
        else:
            wait_until(lambda: relay.events("dead"), "the end of it")
            assert sink.asked == [admin]


def test_only_named_proxies_may_say_who_the_client_is(door: Door) -> None:
    """PROXY sent to the ordinary listener is an unknown command of an ordinary client."""
    with Dialogue((door.relay.address, door.relay.port), source=SENDER) as session:
        answer: Answer = session(CLIENTS["trusted"].strip())
        assert answer.code == 500
        assert session.offer(ANN, "x@elsewhere.example")[:2] == (550, "5.7.1")


def test_a_connection_without_a_proxy_header_gets_no_greeting(door: Door) -> None:
    with pytest.raises((EOFError, ConnectionResetError)):
        Dialogue(("127.0.0.1", door.proxied), proxy=b"EHLO mx.sender.example\r\n")

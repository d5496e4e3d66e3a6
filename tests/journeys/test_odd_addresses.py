"""Addresses that may be written in several ways, or with dots where RFC 5321 has none: out in the normal form, and a
bounce home in whatever form the next hop sends it.
"""

from __future__ import annotations

import re
import time

import pytest

from relay.mail.address import split
from relay.srs import address as srs
from relay.srs.address_hash import make_hash
from tests.journeys.authors import publish
from tests.journeys.clients import Dialogue
from tests.journeys.sinks import RecordingSink
from tests.journeys.world import MAILBOX, SECRET, SENDER, World

pytestmark = pytest.mark.slow

ALIASES = r"""
alice@fwd.example         carol@mailbox.example
"taro..y."@fwd.example    ..hanako@mailbox.example
..jiro@fwd.example        "jiro\.s"@mailbox.example.
"\bob"@fwd.example        "bob b"@mailbox.example
"""
SENDERS = {
    "taro..y.@sender.example": '"taro..y."@sender.example',
    ".taro@sender.example": '".taro"@sender.example',
    '"ta...ro"@sender.example': '"ta...ro"@sender.example',
    r'"joe\.user"@sender.example': "joe.user@sender.example",
    '"joe.user"@sender.example': "joe.user@sender.example",
    '""@sender.example': '""@sender.example',
    '"a b"@sender.example': '"a b"@sender.example',
    r'"a\"b"@sender.example': r'"a\"b"@sender.example',
    r'"a\\b"@sender.example': r'"a\\b"@sender.example',
    '"a@b"@sender.example': '"a@b"@sender.example',
    r'"\a=\b"@sender.example': "a=b@sender.example",
    "joe@sender.example.": "joe@sender.example",
    f"{'x' * 40}..@sender.example": f'"{"x" * 40}.."@sender.example',  # stored under a token
}
CONTENT = b"From: ann@sender.example\r\nSubject: hello\r\n\r\nHi.\r\n"
SCHEME = srs.Scheme("fwd.example", (SECRET.encode(),))


def rewritten(path: str) -> list[str]:
    """The forms in which a bounce may come to an address: as we wrote it, in quotes, with quoted pairs, lowered."""
    local, domain = split(path)
    content = local[1:-1] if local.startswith('"') else local
    pairs = re.sub(r"(?<!\\)([a-z.=])", r"\\\1", content)
    return [path, f'"{content}"@{domain}', f'"{pairs}"@{domain}.', path.lower()]


@pytest.mark.parametrize("hashed", ["compatible", "framed"])
def test_every_sender_gets_his_bounces(world: World, hashed: str) -> None:
    relay = world.relay(aliases=ALIASES, srs={"hash": hashed})
    home, mailbox = world.start(RecordingSink(SENDER, world.port)), world.start(RecordingSink(MAILBOX, world.port))
    for sender in SENDERS:
        with Dialogue((relay.address, relay.port), source=SENDER) as client:
            assert client.deliver(sender, "alice@fwd.example", CONTENT).code == 250, sender
    mailbox.wait(len(SENDERS))
    paths = mailbox.paths("MAIL")
    assert len(paths) == len(SENDERS)
    for path in paths:
        for form in rewritten(path):
            with Dialogue((relay.address, relay.port), source=MAILBOX) as client:
                answer = client.deliver("", form, CONTENT, "mx.mailbox.example")
            assert answer.code == 250, (form, answer)
    expected = sorted(normal for normal in SENDERS.values() for _ in range(4))
    home.wait(len(expected))
    relay.wait_for_empty_queue()
    assert sorted(path.lower() for path in home.paths("RCPT")) == expected


def test_aliases_are_found_in_every_form_on_both_sides(world: World) -> None:
    relay = world.relay(aliases=ALIASES)
    mailbox = world.start(RecordingSink(MAILBOX, world.port))
    wanted = {
        "taro..y.@fwd.example": '"..hanako"@mailbox.example',
        '"taro..y."@fwd.example.': '"..hanako"@mailbox.example',
        '"..jiro"@fwd.example': "jiro.s@mailbox.example",
        "BOB@fwd.example.": '"bob b"@mailbox.example',
    }
    for recipient in wanted:
        with Dialogue((relay.address, relay.port), source=SENDER) as client:
            assert client.deliver("ann@sender.example", recipient, CONTENT).code == 250, recipient
    mailbox.wait(len(wanted))
    assert sorted(mailbox.paths("RCPT")) == sorted(wanted.values())
    with Dialogue((relay.address, relay.port), source=SENDER) as client:
        assert client.offer("ann@sender.example", "taro.y@fwd.example")[:2] == (550, "5.1.1")
        assert client("RCPT TO:<alice@fwd.example..>")[:2] == (553, "5.1.3")
        assert client("RCPT TO:<alice@fwd..example>")[:2] == (553, "5.1.3")
    with Dialogue((relay.address, relay.port), source=SENDER) as client:
        assert client.offer("ann@sender.example..", "alice@fwd.example")[:2] == (553, "5.1.7")


def test_recipients_that_are_the_same_get_one_copy(world: World) -> None:
    relay = world.relay(aliases=ALIASES)
    mailbox = world.start(RecordingSink(MAILBOX, world.port))
    with Dialogue((relay.address, relay.port), source=SENDER) as client:
        assert client.offer("ann@sender.example", "alice@fwd.example").code == 250
        for again in ('"alice"@fwd.example', r'"\alice"@fwd.example.', "ALICE@fwd.example"):
            assert client(f"RCPT TO:<{again}>").code == 250
        client("DATA")
        client.send(CONTENT + b".\r\n")
        assert client.reply().code == 250
    relay.wait_for_empty_queue()
    assert mailbox.paths("RCPT") == ["carol@mailbox.example"]


def test_an_address_hashed_over_its_quoted_pairs_leads_home_as_it_is_written(world: World) -> None:
    """pysrs, with which a secret may be shared, writes them so."""
    relay = world.relay()
    home = world.start(RecordingSink(SENDER, world.port))
    stamp = srs.forward("x@sender.example", SCHEME, time.time()).split("=")[2]
    hashed = make_hash(rf"{stamp}sender.examplejoe\.user", SCHEME.secrets[0], SCHEME.hash_length, url=False)
    address = rf'"SRS0={hashed}={stamp}=sender.example=joe\.user"@fwd.example'
    with Dialogue((relay.address, relay.port), source=MAILBOX) as client:
        assert client.deliver("", address, CONTENT, "mx.mailbox.example").code == 250
    home.wait()
    assert home.paths("RCPT") == ["joe.user@sender.example"]


def test_replies_reach_every_author(world: World) -> None:
    publish(world.zone, "docomo.example", SENDER, "p=reject")  # by SPF alone: From becomes an address of ours
    world.zone["docomo.example", "MX"] = ["10 mx.docomo.example."]
    world.zone["mx.docomo.example", "A"] = [SENDER]
    relay = world.relay(aliases=ALIASES)
    home, mailbox = world.start(RecordingSink(SENDER, world.port)), world.start(RecordingSink(MAILBOX, world.port))
    locals_ = {path.rpartition("@")[0]: normal.rpartition("@")[0] for path, normal in SENDERS.items()}
    for local in locals_:
        content = f"From: Joe <{local}@docomo.example>\r\nSubject: hello\r\n\r\nHi.\r\n".encode()
        with Dialogue((relay.address, relay.port), source=SENDER) as client:
            answer = client.deliver(f"{local}@docomo.example", "alice@fwd.example", content, "mx.docomo.example")
            assert answer.code == 250, (local, answer)
    reply = re.compile(rb"^(?:From:.*)? ?<(reply=\S+)>\r\n", re.MULTILINE)
    for one in mailbox.wait(len(locals_)):
        found = reply.search(one.content)
        assert found is not None, one.content
        for form in rewritten(found[1].decode()):
            with Dialogue((relay.address, relay.port), source=MAILBOX) as client:
                answer = client.deliver("carol@mailbox.example", form, CONTENT, "mx.mailbox.example")
            assert answer.code == 250, (form, answer)
    expected = sorted(f"{normal}@docomo.example" for normal in locals_.values() for _ in range(4))
    home.wait(len(expected))
    relay.wait_for_empty_queue()
    assert sorted(path.lower() for path in home.paths("RCPT")) == expected

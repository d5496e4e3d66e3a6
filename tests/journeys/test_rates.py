"""`[limits.rates]` at the SMTP door: two workers share a rate, and who is not meant is not slowed."""

from __future__ import annotations

import os
import signal
import smtplib
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from tests.journeys.sinks import RecordingSink
from tests.journeys.world import FWD, MAILBOX, SENDER, World
from tests.peers import wait_until

pytestmark = pytest.mark.slow

MESSAGE = "From: ann@sender.example\r\nTo: alice@fwd.example\r\nSubject: hello\r\n\r\nHi.\r\n"
ALIASES = "alice@fwd.example carol@mailbox.example\nbob@fwd.example dan@mailbox.example\n"
LIMIT, SENT = 10, 40
TRUSTED = "127.0.0.21"
# Who is not meant by a rate that is used up: recipient, client and sender.
OTHERS = {
    "client": ("alice@fwd.example", "127.0.0.15", "x@elsewhere.example"),
    "sender_domain": ("alice@fwd.example", SENDER, "x@elsewhere.example"),
    "alias": ("bob@fwd.example", SENDER, "ann@sender.example"),
}


def reply(port: int, recipient: str, source: str = SENDER, sender: str = "ann@sender.example") -> str:
    """What a client hears that sends one message in a session of its own: the first refusal, or the last reply."""
    with smtplib.SMTP(FWD, port, source_address=(source, 0), timeout=30) as client:
        client.ehlo("client.example")
        for code, text in (client.mail(sender), client.rcpt(recipient)):
            if code >= 300:
                return f"{code} {text.decode()}"
        code, text = client.data(MESSAGE)
        return f"{code} {text.decode()}"


def flood(port: int) -> tuple[list[str], float]:
    """What a client hears that sends `SENT` messages to alice over ten sessions at once, and the seconds it took."""
    started = time.monotonic()
    with ThreadPoolExecutor(10) as threads:
        replies = list(threads.map(partial(reply, port), ["alice@fwd.example"] * SENT))
    return replies, time.monotonic() - started


@pytest.mark.parametrize("mode", ["queue", "in-session"])
@pytest.mark.parametrize("rate", ["client", "sender_domain", "alias", "destination"])
def test_two_workers_share_a_rate(world: World, mode: str, rate: str) -> None:
    sink = world.start(RecordingSink(MAILBOX, world.port))
    world.relay(
        aliases=ALIASES,
        delivery={"mode": mode},
        limits={"rates": {rate: {"messages": LIMIT}}},
        clients={"trusted": [TRUSTED]},
    )
    replies, seconds = flood(world.port)
    taken = [text for text in replies if text.startswith("250 ")]
    refused = [text for text in replies if text.startswith("450 4.7.1 ") and "too much mail " in text]
    assert len(taken) + len(refused) == SENT
    # Workers take tokens without a lock, so two of them may now and then take the same one.
    assert LIMIT <= len(taken) <= LIMIT + 2 + seconds * LIMIT / 60
    if rate in OTHERS:
        recipient, source, sender = OTHERS[rate]
        assert reply(world.port, recipient, source, sender).startswith("250 ")
        taken.append(recipient)
    if rate in ("client", "sender_domain"):
        assert reply(world.port, "alice@fwd.example", TRUSTED).startswith("250 "), "a trusted client"
        taken.append("trusted")
    wait_until(lambda: len(sink.received) == len(taken), "what was taken")


def test_a_reload_begins_anew_with_the_new_rates(world: World) -> None:
    world.start(RecordingSink(MAILBOX, world.port))
    relay = world.relay(aliases=ALIASES, limits={"rates": {"client": {"messages": 1}}})
    assert [reply(world.port, "alice@fwd.example")[:3] for _ in range(2)] == ["250", "450"]
    text, workers = relay.config_file.read_text(), set(relay.workers())
    assert '"messages" = 1' in text
    relay.config_file.write_text(text.replace('"messages" = 1', '"messages" = 2'))
    os.kill(relay.pid, signal.SIGHUP)
    wait_until(lambda: relay.has_events("reloaded", 1) and not workers & set(relay.workers()), "the reload")
    assert [reply(world.port, "alice@fwd.example")[:3] for _ in range(3)] == ["250", "250", "450"]


def test_a_list_of_recipients_past_the_rate_comes_in_parts(world: World) -> None:
    """The recipients that are too many are no errors of the client, whose session goes on to DATA."""
    sink = world.start(RecordingSink(MAILBOX, world.port))
    people = "".join(f"p{n}@fwd.example p{n}@mailbox.example\n" for n in range(60))
    world.relay(aliases=people, limits={"rates": {"client": {"recipients": 30}}})
    with smtplib.SMTP(FWD, world.port, source_address=(SENDER, 0), timeout=30) as client:
        refused = client.sendmail("ann@sender.example", [f"p{n}@fwd.example" for n in range(60)], MESSAGE)
    assert len(refused) == 30 and {code for code, _ in refused.values()} == {450}
    wait_until(lambda: sum(len(each.recipients) for each in sink.received) == 30, "the first part")


def test_a_limit_that_is_none_is_named(world: World) -> None:
    relay = world.relay(aliases=ALIASES)
    relay.config_file.write_text(relay.config_file.read_text() + "\n[limits.rates]\nclient = { mails = 3 }\n")
    done = relay.command("check")
    assert done.returncode != 0
    assert "limits.rates.client: limits are written like { messages = 60" in done.stdout + done.stderr

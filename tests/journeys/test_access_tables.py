"""Access tables at the SMTP door: beside a real Postfix with the same tables, and changed while the relay runs."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from tests.journeys.clients import Answer, Dialogue
from tests.journeys.postfix import Postfix
from tests.journeys.relay_process import RelayProcess
from tests.journeys.sinks import RecordingSink
from tests.journeys.world import FWD, MAILBOX, SENDER, World, opened
from tests.peers import free_port, needs, wait_until

pytestmark = pytest.mark.slow

# The lines with keys and those with patterns are one file for us, and two tables for Postfix.
CLIENT_KEYS = """\
good.example         OK
bad.good.example     REJECT 5.7.0 not this one
dynamic.example      REJECT send through
  your provider
192.0.2.20           REJECT
198.51.100           DEFER come again
198.51.100.77        DUNNO
2001:db8:7           HOLD
2001:db8:7::9        450 4.2.0 nine
192.0.2.70           1234567
10.1                 DISCARD
"""
CLIENT_PATTERNS = r"""
/^(pool)-[0-9]+\./   REJECT no $1
/^192\.0\.2\.8[0-9]$/ DEFER eighties
!/[.:]|^unknown$/    REJECT never
"""
SENDER_KEYS = """\
spam.example         REJECT
friend@spam.example  OK
code.example         554 5.7.0 code
news@x.example       DISCARD
root@                DEFER 4.2.0 roots
boss+ceo@x.example   HOLD
boss@x.example       REJECT bosses
<>                   HOLD bounces
quiet.example        DUNNO
example.net          REJECT 5.1.8 nets
"""
SENDER_PATTERNS = r"""
/\.top$/             REJECT top
/^Case@/i            REJECT case
"""
RECIPIENT_KEYS = """\
bob@fwd.example      REJECT 5.2.0 moved
list@fwd.example     HOLD
postmaster@mx.fwd.example DEFER on holiday
nobody@fwd.example   OK
elsewhere.example    OK
trap@                DISCARD
"""
RECIPIENT_PATTERNS = r"""
/^eve@FWD\./         REJECT eve
"""


class Origin(NamedTuple):
    """A client, with the confirmed name of its address where it has one."""

    ip: str
    name: str = ""


CLIENTS = (
    Origin("192.0.2.10", "mail.good.example"),
    Origin("192.0.2.11", "bad.good.example"),
    Origin("192.0.2.12", "good.example"),
    Origin("192.0.2.20"),
    Origin("192.0.2.30", "a.b.dynamic.example"),
    Origin("192.0.2.31", "notdynamic.example"),
    Origin("198.51.100.5"),
    Origin("198.51.100.77"),
    Origin("2001:db8:7::25"),
    Origin("2001:db8:7::9"),
    Origin("2001:db8:8::9"),
    Origin("192.0.2.40", "pool-7.isp.example"),
    Origin("192.0.2.50"),
    Origin("192.0.2.70"),
    Origin("192.0.2.81"),
    Origin("10.1.2.3"),
    Origin("203.0.113.5", "own.example"),
)
TRUSTED = "203.0.113.5"
SENDERS = (
    "ann@sender.example",
    "joe@spam.example",
    "joe@sub.spam.example",
    "Friend@SPAM.example",
    "friend+tag@spam.example",
    "x@code.example",
    "news+4711@x.example",
    "root@any.example",
    "boss+ceo@x.example",
    "boss+x@x.example",
    "",
    "x@quiet.example",
    "x@mail.example.net",
    "x@some.TOP",
    "Case@y.example",
    "case@y.example",
)
RECIPIENTS = (
    "alice@fwd.example",
    "Bob@FWD.example",
    "list+x@fwd.example",
    "nobody@fwd.example",
    "x@elsewhere.example",
    "trap@fwd.example",
    "eve@fwd.example",
    "postmaster",
)
USERS = ("alice", "bob", "list", "trap", "eve")


class Seen(NamedTuple):
    """What a server made of a recipient: the first digit of its reply, its text, and what is to become of the mail."""

    digit: int
    text: str
    fate: frozenset[str]


Case = tuple[Origin, str, str]


def postfix_settings(folder: str) -> dict[str, str]:
    kinds = ("client", "sender", "recipient")
    checks = [f"check_{kind}_access {form}:{folder}/{kind}.{form}" for kind in kinds for form in ("texthash", "regexp")]
    return {
        "inet_protocols": "all",
        "mynetworks": TRUSTED,
        "mydestination": "mx.fwd.example",
        "smtpd_authorized_xclient_hosts": "127.0.0.0/8",
        "smtpd_relay_restrictions": "permit_mynetworks, reject_unauth_destination",
        "smtpd_recipient_restrictions": ", ".join(checks),
        "recipient_delimiter": "+",
        "smtpd_hard_error_limit": "100000",
        "smtpd_soft_error_limit": "100000",
        "smtpd_junk_command_limit": "100000",
        "smtpd_error_sleep_time": "0",
        "smtpd_client_connection_count_limit": "0",
    }


def open_postfix(world: World) -> Postfix:
    folder = world.base / "judge"
    tables = world.base / "tables"
    tables.mkdir(mode=0o755)
    texts = {
        "client": (CLIENT_KEYS, CLIENT_PATTERNS),
        "sender": (SENDER_KEYS, SENDER_PATTERNS),
        "recipient": (RECIPIENT_KEYS, RECIPIENT_PATTERNS),
    }
    for kind, (keys, patterns) in texts.items():
        (tables / f"{kind}.texthash").write_text(keys)
        (tables / f"{kind}.regexp").write_text(patterns)
    return world.start(
        Postfix(
            folder,
            "mx.fwd.example",
            MAILBOX,
            free_port(),
            mailboxes=[f"{user}@fwd.example" for user in USERS],
            settings=postfix_settings(str(tables)),
        )
    )


def open_relay(world: World) -> tuple[RelayProcess, int]:
    """A relay, and its port for clients that a proxy names."""
    proxied = free_port()
    for origin in CLIENTS:
        if origin.name:
            reverse = ".".join(reversed(origin.ip.split("."))) + ".in-addr.arpa"
            world.zone[reverse, "PTR"] = [f"{origin.name}."]
            world.zone[origin.name, "A"] = [origin.ip]
    world.zone["spam.example", "TXT"] = ['"v=spf1 +all"']
    relay = world.relay(
        aliases="".join(f"{user}@fwd.example {user}@mailbox.example\n" for user in USERS),
        listen=[
            {"address": f"{FWD}:{world.port}", "tls": "none"},
            {"address": f"127.0.0.1:{proxied}", "tls": "none", "proxy_protocol": True, "proxies": ["127.0.0.1/32"]},
        ],
        clients={"trusted": [TRUSTED], "access": "clients.access"},
        senders={"access": "senders.access"},
        routes={"postmaster": "admin@mailbox.example", "access": "recipients.access"},
        spf={"fail": "tag"},
        limits={"errors": 100000},
        files={
            "clients.access": CLIENT_KEYS + CLIENT_PATTERNS,
            "senders.access": SENDER_KEYS + SENDER_PATTERNS,
            "recipients.access": RECIPIENT_KEYS + RECIPIENT_PATTERNS,
        },
    )
    return relay, proxied


def ask(session: Dialogue, origin: Origin) -> Iterator[tuple[Case, Answer]]:
    """The answers to every sender and recipient, each in a transaction of its own."""
    for sender, recipient in itertools.product(SENDERS, RECIPIENTS):
        assert session(f"MAIL FROM:<{sender}>").code == 250
        yield (origin, sender, recipient), session(f"RCPT TO:<{recipient}>")
        assert session("RSET").code == 250


def seen_by_postfix(postfix: Postfix) -> dict[Case, Seen]:
    answers = dict[Case, Answer]()
    for origin in CLIENTS:
        address = f"IPv6:{origin.ip}" if ":" in origin.ip else origin.ip
        with Dialogue((postfix.address, postfix.port)) as session:
            session("EHLO proxy.example")
            assert session(f"XCLIENT NAME={origin.name or '[UNAVAILABLE]'} ADDR={address}").code == 220
            assert session("EHLO client.example").code == 250
            answers.update(ask(session, origin))
    line = re.compile(r": (hold|discard): RCPT from (\S+)\[([^\]]+)\]: .* from=<(.*?)> to=<(.*?)> proto=")
    wait_until(
        lambda: f"[{CLIENTS[-1].ip}]" in postfix.log.rpartition("disconnect from")[2], "the end of Postfix's log"
    )
    fates: dict[tuple[str, str, str], set[str]] = {}
    for action, _, ip, sender, recipient in line.findall(postfix.log):
        fates.setdefault((ip, sender, recipient), set()).add(action.upper())
    return {case: _seen(answer, fates.get((case[0].ip, case[1], case[2]), set())) for case, answer in answers.items()}


def seen_by_relay(relay: RelayProcess, port: int) -> dict[Case, Seen]:
    answers = dict[Case, Answer]()
    for origin in CLIENTS:
        family, ours = ("TCP6", "::1") if ":" in origin.ip else ("TCP4", "127.0.0.1")
        proxy = f"PROXY {family} {origin.ip} {ours} 40000 25\r\n".encode()
        with Dialogue(("127.0.0.1", port), proxy=proxy) as session:
            assert session("EHLO client.example").code == 250
            answers.update(ask(session, origin))
    fates: dict[tuple[str, str, str], set[str]] = {}
    transactions: dict[str, tuple[str, str]] = {}
    said: dict[str, set[str]] = {}
    for line in relay.log:
        if line["event"] == "mail":
            transactions[line["id"]] = line["ip"], line["from"]
        elif line["event"] == "access" and line["action"] in ("HOLD", "DISCARD"):
            said.setdefault(line["id"], set()).add(line["action"])
        elif line["event"] == "rcpt":
            fates[*transactions[line["id"]], line["rcpt"]] = said.get(line["id"], set())
    return {case: _seen(answer, fates[case[0].ip, case[1], case[2]]) for case, answer in answers.items()}


def _seen(answer: Answer, fate: set[str]) -> Seen:
    taken = answer.code < 300
    text = "" if taken else f"{answer.enhanced} {answer.text}"
    return Seen(answer.code // 100, text, frozenset(fate) if taken else frozenset())


def why_different(case: Case) -> str:
    """Why the relay means something else; empty where it means the same."""
    origin, sender, recipient = case
    if recipient == "nobody@fwd.example":
        return "an unknown user is unknown before any table is asked"
    if origin.ip == TRUSTED and sender.lower().startswith("friend") and recipient != "x@elsewhere.example":
        return "a sender's OK needs SPF, which a trusted client's mail does not have"
    return ""


@needs("postfix", root=True)
def test_the_tables_mean_what_they_mean_to_postfix() -> None:
    with opened() as world:
        postfix = open_postfix(world)
        relay, port = open_relay(world)
        theirs, ours = seen_by_postfix(postfix), seen_by_relay(relay, port)
    different = {
        f"{case[0].ip} {case[0].name} <{case[1]}> <{case[2]}>": (theirs[case], ours[case])
        for case in theirs
        if not _same(theirs[case], ours[case]) and not why_different(case)
    }
    assert not different, "\n".join(f"{case}: Postfix {a}, relay {b}" for case, (a, b) in different.items())
    verdicts = {(seen.digit, seen.fate) for seen in ours.values()}
    assert {digit for digit, _ in verdicts} == {2, 4, 5}
    assert {fate for _, fate in verdicts} >= {frozenset(), frozenset({"HOLD"}), frozenset({"DISCARD"})}


def _same(theirs: Seen, ours: Seen) -> bool:
    """Whether both mean the same. Postfix says before the text what was refused."""
    if theirs[::2] != ours[::2]:
        return False
    code, _, text = ours.text.partition(" ")
    text = text.removesuffix(", try again later")
    denied = " ".join(theirs.text.split())  # the line goes on in the next one
    return denied.startswith(code) and (denied.endswith(text) or "relaying denied" in text)


MESSAGE = b"From: ann@sender.example\r\nSubject: %s\r\n\r\nHi.\r\n"


def send(relay: RelayProcess, subject: str, sender: str = "ann@sender.example") -> Answer:
    with Dialogue((relay.address, relay.port), source=SENDER) as session:
        return session.deliver(sender, "alice@fwd.example", MESSAGE % subject.encode())


@pytest.mark.parametrize("mode", ["queue", "in-session"])
def test_a_table_that_changes_holds_at_once_and_in_every_process(mode: str) -> None:
    with opened() as world:
        sink = world.start(RecordingSink(MAILBOX, world.port))
        relay = world.relay(
            aliases="alice@fwd.example carol@mailbox.example\n",
            files={"senders.access": ""},
            senders={"access": "senders.access"},
            delivery={"mode": mode},
            http={"address": f"127.0.0.1:{free_port()}"},
        )
        table = relay.folder / "senders.access"

        def change(text: str) -> None:
            before = len(relay.events("file_reloaded"))
            table.write_text(text)
            wait_until(lambda: relay.has_events("file_reloaded", before + 1), "the table to be read again")

        def settles(code: int, enhanced: str) -> None:
            """Until eight sessions in a row, over two processes, hear the same."""
            wait_until(
                lambda: all(send(relay, "settles")[:2] == (code, enhanced) for _ in range(8)), f"{code} {enhanced}"
            )

        def arrived() -> list[str]:
            return [re.findall(rb"Subject: (\S+)", each.content)[0].decode() for each in sink.received]

        assert send(relay, "first").code == 250
        change("sender.example REJECT\n")
        settles(550, "5.7.1")
        change("sender.example REJEKT\nother.example OK\n")
        settles(451, "4.3.5")
        assert 'table_bad_lines{file="' in relay.http("/metrics")[1]
        change("/^ann@/ DEFER\n")
        settles(450, "4.7.1")
        before = len(sink.received)
        change("sender.example DISCARD\n")
        settles(250, "2.0.0")
        discarded = relay.events("discarded")
        assert len(discarded) >= 8 and discarded[-1]["from"] == "ann@sender.example"
        assert relay.queue() == []
        change("ann@sender.example HOLD look\n")
        wait_until(lambda: send(relay, "held").code == 250 and relay.events("held"), "a message to be held")
        assert relay.queue()[0]["state"] == "held"
        table.unlink()
        wait_until(lambda: relay.events("file_gone"), "the loss of the table to be said")
        send(relay, "held")
        change("# nothing\n")
        wait_until(lambda: send(relay, "last").code == 250 and "last" in arrived(), "mail to go on")
        assert {"first", "last"} <= set(arrived()) and not {"held", "settles"} & set(arrived()[before:])

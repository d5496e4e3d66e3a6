"""What we sign cannot be made to say something else: our own notifications, taken from the wire, and mail of others.

A stranger who has a bounce of ours puts fields above it that readers show in the place of ours. Our signature has to
break then, and only then: what hosts and mailing lists on the way add to honest mail does not matter.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from relay.srs import address as srs
from tests.bounce import samples
from tests.journeys.clients import Dialogue
from tests.journeys.maildir import parse
from tests.journeys.relay_process import RelayProcess
from tests.journeys.sinks import RecordingSink
from tests.journeys.world import MAILBOX, SECRET, SENDER, World
from tests.judges import MailDkim, dkimpy, dkimpy_arc
from tests.peers import needs
from tests.sign.test_dkim_signature import BY_LISTS_AND_PEOPLE, DECEPTIONS, HONEST

pytestmark = pytest.mark.slow

EVE, ALIAS = "eve@sender.example", "alice@fwd.example"
ALIASES = f"{ALIAS} carol@mailbox.example\nbob@fwd.example bob@mailbox.example\n"
BODY = "--mine\r\nContent-Type: text/html\r\n\r\n<h1>Your account is closed</h1>\r\n--mine--\r\n"
MESSAGE = (
    f"From: {EVE}\r\nTo: {ALIAS}\r\nSubject: hello\r\nMessage-ID: <1@sender.example>\r\nMIME-Version: 1.0\r\n"
    f'Content-Type: multipart/mixed; boundary="mine"\r\n\r\n{BODY}'
)
REFUSED = {"carol@mailbox.example": "550 5.1.1 no such user"}
READ_BY_ALL = [field for field in DECEPTIONS if b" :" not in field]  # dkimpy reads no message with such a field
TRUSTED = {"trusted": [SENDER]}


@pytest.fixture
def perl(world: World) -> Iterator[MailDkim]:
    with MailDkim(world.keys) as judge:
        yield judge


def sent(relay: RelayProcess, message: str = MESSAGE, mail: str = "", rcpt: str = "", to: str = ALIAS) -> None:
    """The message, with these parameters of MAIL and RCPT."""
    with Dialogue((relay.address, relay.port), source=SENDER) as client:
        client("EHLO mx.sender.example")
        assert client(f"MAIL FROM:<{EVE}>{mail}").code == 250
        assert client(f"RCPT TO:<{to}>{rcpt}").code == 250
        assert client("DATA").code == 354
        client.send(message.encode() + b".\r\n")
        assert client.reply().code == 250


def judged(world: World, content: bytes, perl: MailDkim) -> set[str]:
    """What both verifiers say of our signature."""
    found = [*dkimpy(content, world.keys), *perl.verify(content)]
    assert {one.domain for one in found} >= {"fwd.example"}
    return {"pass" if one.result == "pass" else "fail" for one in found if one.domain == "fwd.example"}


def returned(content: bytes) -> tuple[str, str]:
    """What comes back of a message: its media type, and its text."""
    part = list(parse(content).iter_parts())[2]
    return part.get_content_type(), str(part)


@needs("perl:Mail::DKIM")
@pytest.mark.parametrize("ret", ["", " RET=FULL", " RET=HDRS"])
def test_a_bounce_cannot_be_dressed_up(world: World, perl: MailDkim, ret: str) -> None:
    relay = world.relay(aliases=ALIASES)
    world.start(RecordingSink(MAILBOX, world.port, refused=REFUSED))
    home = world.start(RecordingSink(SENDER, world.port))
    sent(relay, mail=ret)
    [told] = home.wait()
    kind, text = returned(told.content)
    assert kind == "text/rfc822-headers" and "Subject: hello" in text
    assert b"account" not in told.content and b"\r\n--mine" not in told.content
    assert b"details and its header follow" in b" ".join(told.content.split())
    assert judged(world, told.content, perl) == {"pass"}
    for field in [*READ_BY_ALL, *BY_LISTS_AND_PEOPLE, b"Date: Mon, 1 Jan 2024 00:00:00 +0000\r\n", b"Sender: a@b\r\n"]:
        assert judged(world, field + told.content, perl) == {"fail"}, field
    for field in HONEST[:5]:
        assert judged(world, field + told.content, perl) == {"pass"}, field


@needs("perl:Mail::DKIM")
def test_a_bounce_that_was_rebuilt_cannot_be_dressed_up(world: World, perl: MailDkim) -> None:
    relay = world.relay(aliases=ALIASES, srs={"bounces": "rebuild"})
    home = world.start(RecordingSink(SENDER, world.port))
    address = srs.forward(EVE, srs.Scheme("fwd.example", (SECRET.encode(),)), time.time())
    with Dialogue((relay.address, relay.port), source=MAILBOX) as client:
        assert client.deliver("", address, samples.postfix(), "mx.mailbox.example").code == 250
    [told] = home.wait()
    assert judged(world, told.content, perl) == {"pass"}
    for field in [*READ_BY_ALL, *BY_LISTS_AND_PEOPLE]:
        assert judged(world, field + told.content, perl) == {"fail"}, field


@pytest.mark.parametrize("ret", ["", " RET=FULL", " RET=HDRS"])
@pytest.mark.parametrize("to", ["verified", "all"])
@pytest.mark.parametrize("trusted", [True, False])
def test_who_is_trusted_gets_what_he_asked_for(world: World, ret: str, to: str, trusted: bool) -> None:
    relay = world.relay(aliases=ALIASES, bounces={"to": to}, clients=TRUSTED if trusted else {})
    world.start(RecordingSink(MAILBOX, world.port, refused=REFUSED))
    home = world.start(RecordingSink(SENDER, world.port))
    sent(relay, mail=ret)
    [told] = home.wait()
    whole = trusted and ret != " RET=HDRS"
    kind, text = returned(told.content)
    assert kind == ("message/rfc822" if whole else "text/rfc822-headers")
    assert ("account is closed" in text) is whole
    assert (b"details and your message follow" in b" ".join(told.content.split())) is whole


WORDS = "550 5.1.1 <bob@mailbox.example>: <carol@mailbox.example> was here, gr\u00fc\u00dfe \x1b[31m" + "x" * 300
TO_CAROL, TO_BOB = "carol@mailbox.example", "bob@fwd.example"


@pytest.mark.parametrize(
    ("trusted", "recipients", "orcpt", "shown"),
    [
        (True, [TO_CAROL], "", True),
        (True, [TO_CAROL], " ORCPT=rfc822;carol@mailbox.example", True),
        (True, [TO_CAROL], " ORCPT=rfc822;team@elsewhere.example", False),
        (True, [ALIAS], "", False),
        (True, [TO_CAROL, TO_BOB], "", False),
        (False, [ALIAS], "", False),
    ],
)
def test_our_own_users_read_what_the_next_hop_said_of_an_address_that_they_gave(
    world: World, trusted: bool, recipients: list[str], orcpt: str, shown: bool
) -> None:
    relay = world.relay(aliases=ALIASES, clients=TRUSTED if trusted else {})
    refused = dict.fromkeys(["carol@mailbox.example", "bob@mailbox.example"], WORDS)
    world.start(RecordingSink(MAILBOX, world.port, refused=refused))
    home = world.start(RecordingSink(SENDER, world.port))
    with Dialogue((relay.address, relay.port), source=SENDER) as client:
        client("EHLO mx.sender.example")
        assert client(f"MAIL FROM:<{EVE}>").code == 250
        for recipient in recipients:
            assert client(f"RCPT TO:<{recipient}>{orcpt}").code == 250
        assert client("DATA").code == 354
        client.send(MESSAGE.encode() + b".\r\n")
        assert client.reply().code == 250
    [told] = home.wait()
    report = told.content[: told.content.find(b"Content-Description: Undelivered message")]
    assert (b"was here" in report.replace(b"\r\n        ", b" ")) is shown
    diagnosis = [line for line in told.content.split(b"\r\n") if line.startswith(b"Diagnostic-Code:")]
    assert len(diagnosis) == len(recipients)
    for line in diagnosis:
        assert line.startswith(b"Diagnostic-Code: smtp; 550 5.1.1") and line.isascii() and len(line) < 500
        assert (b"was here, gr" in line) is shown
    if not shown:
        assert b"bob@mailbox.example" not in told.content
        assert (b"carol@mailbox.example" in told.content) is (TO_CAROL in recipients)


@pytest.mark.parametrize("trusted", [True, False])
def test_what_could_not_be_delivered_in_time(world: World, trusted: bool) -> None:
    relay = world.relay(aliases=ALIASES, clients=TRUSTED if trusted else {}, queue={"retry_for": "3s"})
    world.start(RecordingSink(MAILBOX, world.port, refused={"carol@mailbox.example": "451 4.3.0 later"}))
    home = world.start(RecordingSink(SENDER, world.port))
    sent(relay, mail=" RET=FULL")
    [told] = home.wait()
    assert b"is now given up" in b" ".join(told.content.split())
    assert returned(told.content)[0] == ("message/rfc822" if trusted else "text/rfc822-headers")


def test_a_header_in_utf8_comes_back_as_one(world: World) -> None:
    relay = world.relay(aliases=ALIASES)
    world.start(RecordingSink(MAILBOX, world.port, refused=REFUSED))
    home = world.start(RecordingSink(SENDER, world.port))
    sent(relay, MESSAGE.replace("hello", "gr\u00fc\u00dfe"), mail=" RET=FULL SMTPUTF8 BODY=8BITMIME")
    [told] = home.wait()
    assert returned(told.content)[0] == "message/global-headers"
    assert b"account" not in told.content


@pytest.mark.parametrize(("orcpt", "shown"), [("rfc822;alice@fwd.example", True), ("x-text;Your+20account", False)])
def test_a_stranger_has_no_text_of_his_own_in_it(world: World, orcpt: str, shown: bool) -> None:
    relay = world.relay(aliases=ALIASES)
    world.start(RecordingSink(MAILBOX, world.port, refused=REFUSED))
    home = world.start(RecordingSink(SENDER, world.port))
    message = MESSAGE.replace("MIME-Version", "This line is no field but text\r\nMIME-Version")
    sent(relay, message, rcpt=f" ORCPT={orcpt}")
    [told] = home.wait()
    assert (b"\r\nOriginal-Recipient:" in told.content) is shown
    assert b"Your account" not in told.content and b"is no field" not in told.content


@needs("perl:Mail::DKIM")
def test_mail_of_others_lives_on_behind_lists_and_cannot_be_dressed_up(world: World, perl: MailDkim) -> None:
    relay = world.relay(aliases=ALIASES)
    mailbox = world.start(RecordingSink(MAILBOX, world.port))
    sent(relay, MESSAGE.replace("Message-ID", "In-Reply-To: <0@a>\r\nMessage-ID"), to="bob@fwd.example")
    [arrived] = mailbox.wait()
    assert judged(world, arrived.content, perl) == {"pass"}
    assert dkimpy_arc(arrived.content, world.keys) == perl.arc(arrived.content) == "pass"
    for field in [*READ_BY_ALL, b"In-Reply-To: <9@b>\r\n"]:
        changed = field + arrived.content
        assert judged(world, changed, perl) == {"fail"}, field
        assert dkimpy_arc(changed, world.keys).startswith("fail") and perl.arc(changed) != "pass", field
    for field in [b"".join([*HONEST[:3], *HONEST[4:]]), *BY_LISTS_AND_PEOPLE]:
        changed = field + arrived.content
        assert judged(world, changed, perl) == {"pass"}, field
        if b"DKIM-Signature" not in field:
            assert dkimpy_arc(changed, world.keys) == perl.arc(changed) == "pass", field


@pytest.mark.parametrize("comments", [False, True])
def test_a_seal_repeats_results_without_comments(world: World, comments: bool) -> None:
    """What the sender can put into a comment, the SPF record that is at fault, is no different."""
    world.zone["sender.example", "TXT"] = [r'"v=spf1 moo\;dkim=pass(x -all"']
    relay = world.relay(aliases=ALIASES, arc={"comments": comments} if comments else {})
    mailbox = world.start(RecordingSink(MAILBOX, world.port))
    sent(relay, to="bob@fwd.example")
    [arrived] = mailbox.wait()
    message = parse(arrived.content)
    own, sealed = (" ".join(message[name].split()) for name in ("Authentication-Results", "ARC-Authentication-Results"))
    assert "spf=permerror (" in own and "moo" in own and "dkim=none (no signature)" in own
    for value in (own, sealed):
        assert "\\" not in value and "((" not in value
        assert [part.split()[0] for part in value.split(";")][-5:-1] == [
            *("spf=permerror", "dkim=none", "arc=none", "dmarc=none")
        ]
    assert ("(" in sealed) is comments
    assert dkimpy_arc(arrived.content, world.keys) == "pass"

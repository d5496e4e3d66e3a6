"""The SMTP door with a handler that takes everything: what the protocol itself answers, over a real socket."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from relay.receive.limits import Account, Limits
from relay.receive.session import OVERSHOOT
from tests.peers import wait_for
from tests.receive.door import Door


async def test_ehlo_offers_what_the_relay_does(door: Callable[..., Door]) -> None:
    talk = await door().client(greet=False)
    await talk.reply()
    offers = (await talk.says("EHLO client.test\r\n")).replace("250-", "").replace("250 ", "").split("\r\n")
    assert {"PIPELINING", "SIZE 50000000", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES", "DSN"} <= set(offers)
    assert "STARTTLS" not in offers


async def test_a_message_arrives_as_it_was_sent(door: Callable[..., Door]) -> None:
    server = door()
    talk = await server.client()
    assert (await talk.mails(b"Subject: x\r\n\r\n..dot\r\n\xff8bit\r\n")).startswith("250 2.0.0")
    ((client, transaction, message),) = server.taker.taken
    assert message.content == b"Subject: x\r\n\r\n.dot\r\n\xff8bit\r\n"
    assert (client.helo, client.protocol, transaction.mail.sender) == ("client.test", "ESMTP", "a@b.test")


async def test_a_whole_conversation_pipelined_in_one_segment(door: Callable[..., Door]) -> None:
    server = door()
    talk = await server.client(greet=False)
    await talk.reply()
    stream = "EHLO c\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nRCPT TO:<no@d>\r\n"
    stream += "DATA\r\nhi\r\n.\r\nMAIL FROM:<>\r\nRSET\r\nQUIT\r\n"
    answers = await talk.says(stream, 9)
    codes = [line[:3] for line in answers.splitlines() if line[3:4] == " "]
    assert codes == ["250", "250", "250", "550", "354", "250", "250", "250", "221"]
    assert await talk.reader.read() == b""


@pytest.mark.parametrize(
    ("command", "reply"),
    [
        ("FOO\r\n", "500 5.5.1"),
        ("\r\n", "500 5.5.1"),
        ("RCPT TO:<a@b>\r\n", "503 5.5.1"),
        ("DATA\r\n", "503 5.5.1"),
        ("EHLO\r\n", "501 5.5.4"),
        ("STARTTLS\r\n", "502 5.5.1"),
        ("NOOP\n", "500 5.5.2"),
        ("NO\x00OP\r\n", "500 5.5.2"),
        (b"MAIL FROM:<\xff@b>\r\n", "500 5.5.2"),
        ("RSET now\r\n", "501 5.5.4"),
        ("VRFY root\r\n", "252 2.5.2"),
        ("NOOP\r\n", "250 2.0.0"),
        ("HELP\r\n", "214 2.0.0"),
        ("X" * 100_000 + "\r\n", "500 5.5.2"),
        ("BDAT 10 LAST\r\nHELO hello", "503 5.5.1"),
        ("AUTH PLAIN AGEAYg==\r\n", "502 5.5.1"),
        ("EXPN all\r\n", "502 5.5.1"),
        ("R\u017fET\r\n", "500 5.5.1"),  # a long s, whose capital is an S
        ("MA\u0131L FROM:<a@b>\r\n", "500 5.5.1"),  # a dotless i
        ("NOOP \u2028\r\n", "500 5.5.2"),
        ("EHLO b\u00fccher.test\r\n", "501 5.5.4"),
        ("MAIL FROM:<a@b> SIZE=99999999999\r\n", "552 5.3.4"),
    ],
)
async def test_odd_commands_get_a_reply_and_the_session_goes_on(
    door: Callable[..., Door], command: str | bytes, reply: str
) -> None:
    talk = await door().client()
    assert (await talk.says(command)).startswith(reply + " ")
    assert (await talk.mails(b"Subject: x\r\n\r\n")).startswith("250 2.0.0")


async def test_mail_before_ehlo_and_twice(door: Callable[..., Door]) -> None:
    talk = await door().client(greet=False)
    await talk.reply()
    assert (await talk.says("MAIL FROM:<a@b>\r\n")).startswith("503 5.5.1")
    await talk.says("HELO c\r\nMAIL FROM:<a@b>\r\n", 2)
    assert (await talk.says("MAIL FROM:<a@b>\r\n")).startswith("503 5.5.1")


@pytest.mark.parametrize("name", ["[192.0.2.1]", "[IPv6:2001:db8::1]", "DESKTOP-1", "my_host", "a..b", "<>", "x" * 300])
async def test_mail_is_not_refused_for_what_ehlo_says(door: Callable[..., Door], name: str) -> None:
    """RFC 5321 section 4.1.4."""
    server = door()
    talk = await server.client(greet=False)
    await talk.reply()
    assert (await talk.says(f"EHLO {name}\r\n")).startswith("250-mx.test")
    assert (await talk.mails(b"hi\r\n")).startswith("250")
    assert server.taker.taken[0][0].helo == name


async def test_data_without_any_recipient_that_was_accepted(door: Callable[..., Door]) -> None:
    talk = await door().client()
    await talk.says("MAIL FROM:<a@b>\r\nRCPT TO:<no@d>\r\n", 2)
    assert (await talk.says("DATA\r\n")).startswith("554 5.5.1")


async def test_too_many_errors_end_the_session(door: Callable[..., Door]) -> None:
    talk = await door(limits={"errors": 3}).client()
    answers = await talk.says("FOO\r\n" * 3, 4)
    assert answers.splitlines()[-1].startswith("421 4.7.0")
    assert await talk.reader.read() == b""


async def test_errors_are_forgiven_once_mail_was_taken(door: Callable[..., Door]) -> None:
    talk = await door(limits={"errors": 3}).client()
    for _ in range(3):
        await talk.says("FOO\r\n" * 2, 2)
        assert (await talk.mails(b"hi\r\n")).startswith("250")


async def test_recipients_that_are_to_come_again_are_no_errors(door: Callable[..., Door]) -> None:
    talk = await door(limits={"errors": 3, "recipients": 100}).client()
    answers = await talk.says("MAIL FROM:<a@b>\r\n" + "RCPT TO:<c@d>\r\n" * 140, 141)
    assert answers.count("250 2.1.5") == 100 and answers.count("452 4.5.3") == 40
    assert (await talk.says("DATA\r\n")).startswith("354")
    assert (await talk.says("hi\r\n.\r\n")).startswith("250")


async def test_recipients_without_end_are_errors(door: Callable[..., Door]) -> None:
    talk = await door(limits={"errors": 3, "recipients": 100}).client()
    talk.writer.write(b"MAIL FROM:<a@b>\r\n" + b"RCPT TO:<c@d>\r\n" * 2000)
    replies = [await talk.reply()]
    while replies[-1][:3] != "421":
        replies.append(await talk.reply())
    assert sum(reply.startswith("452 4.5.3") for reply in replies) == OVERSHOOT + 3


async def test_trusted_clients_may_err(door: Callable[..., Door]) -> None:
    talk = await door(limits={"errors": 3}, clients={"trusted": ["127.0.0.1"]}).client()
    assert (await talk.says("FOO\r\n" * 300, 300)).count("500 5.5.1") == 300


@pytest.mark.parametrize("command", ["NOOP", "RSET", "VRFY x", "EHLO x", "HELP"])
async def test_a_client_that_never_sends_mail_is_sent_away(door: Callable[..., Door], command: str) -> None:
    talk = await door().client()
    talk.writer.write(f"{command}\r\n".encode() * 200)
    replies = [await talk.reply()]
    while replies[-1][:3] != "421":
        replies.append(await talk.reply())
    assert 100 < len(replies) < 150
    assert await talk.closed()


@pytest.mark.parametrize("content", [b"a\nb\r\n", b"a\rb\r\n", b"x\n.\nMAIL FROM:<evil@b>\r\n"])
async def test_bare_newlines_are_refused_after_the_whole_message(door: Callable[..., Door], content: bytes) -> None:
    server = door()
    talk = await server.client()
    assert (await talk.mails(content)).startswith("550 5.6.0")
    assert not server.taker.taken
    assert (await talk.says("NOOP\r\n")).startswith("250")


async def test_bare_newlines_are_normalized_for_trusted_clients(door: Callable[..., Door]) -> None:
    server = door(clients={"trusted": ["127.0.0.1"]})
    talk = await server.client()
    assert (await talk.mails(b"a: b\n\nbody\n.\nmore\r\n")).startswith("250")
    assert server.taker.taken[0][2].content == b"a: b\r\n\r\nbody\r\n.\r\nmore\r\n"


DOTS = [b"\0.\r\n", b".\0\r\n", b"\0.\0\r\n", b"\0\0\0.\0\0\r\n", b".\0.\r\n", b".\r\0\n"]


@pytest.mark.parametrize("trusted", [[], ["127.0.0.1"]], ids=["stranger", "trusted"])
@pytest.mark.parametrize("block", [1000, 1])
@pytest.mark.parametrize("dot", DOTS)
async def test_a_dot_between_nuls_is_refused_from_everybody(
    door: Callable[..., Door], dot: bytes, block: int, trusted: list[str]
) -> None:
    """A host that drops NUL sees the end of the message, and commands behind it."""
    server = door(clients={"trusted": trusted}, receive={"bare_newline": "normalize"})
    talk = await server.client()
    await talk.says("MAIL FROM:<a@b.test>\r\nRCPT TO:<c@d.test>\r\nDATA\r\n", 3)
    stream = b"Subject: x\r\n\r\ntext\r\n" + dot + b"MAIL FROM:<evil@b.test>\r\n"
    for start in range(0, len(stream), block):
        await talk.says(stream[start : start + block], 0)
    assert (await talk.says(b".\r\n")).startswith("550 5.6.0")
    assert (await talk.says("NOOP\r\n")).startswith("250")
    assert (await talk.mails(b"good\r\n")).startswith("250") and server.contents == [b"good\r\n"]


@pytest.mark.parametrize(("nul", "code"), [("pass", "250"), ("reject", "550 5.6.0")])
async def test_other_nuls_are_content_unless_they_are_refused(door: Callable[..., Door], nul: str, code: str) -> None:
    server = door(receive={"nul": nul}, clients={"trusted": ["127.0.0.1"]})
    talk = await server.client()
    content = b"Subject: \0\r\n\r\na\0b\0.\r\n\0\r\n\0\0..\r\n"
    assert (await talk.mails(content)).startswith(code)
    assert server.contents == [content] * (nul == "pass")
    assert (await talk.mails(b"good\r\n")).startswith("250")


async def test_a_message_over_the_limit_is_read_and_refused(door: Callable[..., Door]) -> None:
    server = door(receive={"max_message_size": 1000})
    talk = await server.client()
    assert (await talk.mails(b"x" * 5000 + b"\r\n")).startswith("552 5.3.4")
    assert (await talk.mails(b"x" * 500 + b"\r\n")).startswith("250")


async def test_messages_count_from_data_to_their_reply_however_they_end(door: Callable[..., Door]) -> None:
    """What the queue waits for: a count that stayed up would delay every message after it."""
    server = door()
    count = server.limits
    talk, lost = await server.client(), await server.client()
    for client in (talk, lost):
        await client.says("MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\n", 2)
    assert count.messages == 0
    for client in (talk, lost):
        await client.says("DATA\r\n")
    assert count.messages == 2
    assert (await talk.says("bare\n.\r\n.\r\n")).startswith("550")
    assert count.messages == 1
    lost.writer.transport.abort()
    await talk.says("MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nBDAT 2\r\nxxBDAT 2\r\nxx", 4)
    await wait_for(lambda: count.messages == 1, "the end of the lost connection")
    assert (await talk.says("BDAT 0 LAST\r\n")).startswith("250") and count.messages == 0


async def test_draining_ends_idle_sessions_and_lets_transactions_finish(door: Callable[..., Door]) -> None:
    server = door()
    idle, busy = await server.client(), await server.client()
    await busy.says("MAIL FROM:<a@b>\r\n")
    server.listener.stop()
    assert (await idle.reply()).startswith("421 4.3.2")
    assert (await busy.says("RCPT TO:<c@d>\r\n")).startswith("250")
    assert (await busy.says("DATA\r\n")).startswith("354")
    assert (await busy.says("hi\r\n.\r\n")).startswith("250")
    assert (await busy.reply()).startswith("421 4.3.2")


async def test_a_browser_is_shown_the_door(door: Callable[..., Door]) -> None:
    talk = await door().client(greet=False)
    await talk.reply()
    assert (await talk.says("GET / HTTP/1.1\r\nHost: x\r\n\r\n")).startswith("521 5.7.0")
    assert await talk.reader.read() == b""


@pytest.mark.parametrize(
    ("command", "logged", "reply"),
    [
        ("MAIL FROM:<a@b.test> SIZE=99999999", {"event": "mail", "sender": "a@b.test"}, "552 5.3.4"),
        ("MAIL FROM:<a@b.test> SIZE=900", {"event": "mail", "sender": "a@b.test"}, "452 4.3.1"),
        ("MAIL FROM:<jörg@b.test>", {"event": "mail", "sender": "FROM:<jörg@b.test>"}, "553 5.6.7"),
        ("MAIL FROM:<a@b.test> FOO=1", {"event": "mail", "sender": "FROM:<a@b.test> FOO=1"}, "555 5.5.4"),
        ("RCPT TO:<no@d.test> NOTIFY=NEVER", {"event": "rcpt", "rcpt": "no@d.test"}, "550 5.1.1"),
        ("RCPT TO:<a@b@d.test>", {"event": "rcpt", "rcpt": "TO:<a@b@d.test>"}, "553 5.1.3"),
    ],
)
async def test_a_refusal_is_logged_with_the_address_or_what_stood_in_its_place(
    door: Callable[..., Door], log: list[dict[str, Any]], command: str, logged: dict[str, str], reply: str
) -> None:
    server = door(limits={"message_memory": 1000}, receive={"max_message_size": 1000})
    client = await server.client()
    if command.startswith("RCPT"):
        await client.says("MAIL FROM:<a@b.test>\r\n")
    limits = Limits(server.counts, 0, connections=9, per_client=9, memory=1000)
    with Account(limits, "192.0.2.9", trusted=True) as other:
        other.hold(200)
        assert (await client.says(f"{command}\r\n")).startswith(reply)
    line = log[-1]
    assert line.items() >= logged.items() and line["reply"].startswith(reply) and line["id"]


async def test_every_end_of_a_session_is_logged_with_what_was_said_in_it(
    door: Callable[..., Door], log: list[dict[str, Any]]
) -> None:
    talk = await door().client()
    await talk.says("HELO again\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nRCPT TO:<no@d>\r\nhunter2\r\nDATA\r\n", 6)
    await talk.says("hi\r\n.\r\nQUIT\r\n", 2)
    line = await wait_for(lambda: next((line for line in log if line["event"] == "disconnect"), None), "the line")
    port = next(line["port"] for line in log if line["event"] == "connect")
    assert line == {
        "event": "disconnect",
        "log_level": "info",
        "ip": "127.0.0.1",
        "port": port,
        "helo": "1",
        "ehlo": "1",
        "mail": "1",
        "rcpt": "1/2",
        "data": "1",
        "quit": "1",
        "unknown": "0/1",
        "commands": "6/8",
    }


@pytest.mark.parametrize(
    ("said", "events", "counted"),
    [
        (b"", ["connect", "lost", "disconnect"], {"commands": "0/0"}),
        (b"GET / HTTP/1.1\r\n", ["connect", "disconnect"], {"unknown": "0/1", "commands": "0/1"}),
        (b"EHLO a\r\nMAIL FROM:<a@b>\r\n", ["connect", "mail", "lost", "disconnect"], {"mail": "1", "commands": "2"}),
        (b"X" * 5000 + b"\r\nNO\x00OP\r\n", ["connect", "lost", "disconnect"], {"unknown": "0/2"}),
        (b"FOO\r\n" * 30, ["connect", "too_many_errors", "disconnect"], {"unknown": "0/20", "commands": "0/20"}),
    ],
)
async def test_a_session_without_quit_has_the_line_too(
    door: Callable[..., Door], log: list[dict[str, Any]], said: bytes, events: list[str], counted: dict[str, str]
) -> None:
    talk = await door().client(greet=False)
    talk.writer.write(said)
    talk.writer.write_eof()
    await wait_for(lambda: log and log[-1]["event"] == "disconnect", "the end of the session")
    assert [line["event"] for line in log] == events
    assert log[-1].items() >= counted.items()


async def test_a_refused_message_does_not_count_as_good(door: Callable[..., Door], log: list[dict[str, Any]]) -> None:
    talk = await door(receive={"max_message_size": 100}).client()
    assert (await talk.mails(b"x" * 200 + b"\r\n")).startswith("552")
    await talk.says("QUIT\r\n")
    await wait_for(lambda: log[-1]["event"] == "disconnect", "the end of the session")
    assert (log[-1]["data"], log[-1]["commands"]) == ("0/1", "4/5")


async def test_an_attempt_to_log_in_is_one_line_without_its_argument(
    door: Callable[..., Door], log: list[dict[str, Any]]
) -> None:
    talk = await door().client()
    secret = "AGpvZQBodW50ZXIy"
    answers = await talk.says(f"AUTH PLAIN {secret}\r\nAUTH {secret}\r\nauth login\r\n{secret}\r\n", 4)
    talk.writer.write_eof()
    await wait_for(lambda: log[-1]["event"] == "disconnect", "the end of the session")
    lines = [line for line in log if line["event"] == "auth"]
    assert [line["mechanism"] for line in lines] == ["PLAIN", "unknown", "LOGIN"]
    assert {(line["ip"], line["reply"]) for line in lines} == {("127.0.0.1", answers.splitlines()[0])}
    assert (log[-1]["auth"], log[-1]["unknown"]) == ("0/3", "0/1")
    assert secret.lower() not in str(log).lower()


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b"auth\tplain\thunter2\r\n", "502"),
        (b"  AUTH PLAIN hunter2\r\n", "502"),
        (b"AUTH PLAIN \0joe\0hunter2\r\n", "500"),
        (b"AUTH PLAIN j\xfcrgen hunter2\r\n", "500"),
        (b"AUTH PLAIN hunter2\n", "500"),
        pytest.param(b"AUTH PLAIN " + b"hunter2=" * 600 + b"\r\n", "500", id="long"),
    ],
)
async def test_an_attempt_to_log_in_is_seen_however_it_is_written(
    door: Callable[..., Door], log: list[dict[str, Any]], line: bytes, code: str
) -> None:
    talk = await door().client()
    assert (await talk.says(line)).startswith(code)
    await talk.says("QUIT\r\n")
    await wait_for(lambda: log[-1]["event"] == "disconnect", "the end of the session")
    [tried] = [line for line in log if line["event"] == "auth"]
    assert tried["mechanism"] == "PLAIN" and tried["reply"].startswith(code)
    assert log[-1]["auth"] == "0/1" and "unknown" not in log[-1]
    assert "hunter2" not in str(log)


@pytest.mark.parametrize("line", [" NOOP\r\n", "NOOP\thello\r\n", "\tEHLO\t mx.test\r\n", "RSET\t\r\n"])
async def test_blanks_and_tabs_around_a_verb_do_no_harm(door: Callable[..., Door], line: str) -> None:
    talk = await door().client()
    assert (await talk.says(line)).startswith("250")


async def test_a_message_is_logged_with_its_message_id(door: Callable[..., Door], log: list[dict[str, Any]]) -> None:
    talk = await door().client()
    await talk.mails(b"Message-ID: <one@b.test>\r\n\r\nhi\r\n")
    await talk.mails(b"hi\r\n")
    assert [line["message_id"] for line in log if line["event"] == "data"] == ["<one@b.test>", None]


async def test_help_lists_what_there_is(door: Callable[..., Door]) -> None:
    client = await door().client()
    assert (
        await client.says("HELP\r\n")
        == "214 2.0.0 EHLO HELO MAIL RCPT DATA BDAT RSET NOOP QUIT VRFY HELP, see RFC 5321\r\n"
    )

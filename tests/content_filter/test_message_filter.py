"""What a client hears, and what leaves, where a filter is asked: whatever the filter says, and when it fails."""

from __future__ import annotations

import asyncio
import socket
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from relay.authenticate.forged_results import are_signed
from relay.rate.greylist import WAIT
from relay.srs.address import forward
from tests.authenticate.signing import MESSAGE as AUTHORED
from tests.authenticate.signing import RECORDS, signed
from tests.content_filter import answering
from tests.content_filter.answering import Script, dribbles, floods, http, is_silent, rspamd, says, sends
from tests.intake.arriving import CLIENT, FORGER, INNER, JOE, MESSAGE, House, Zone
from tests.peers import wait_for

FORGED = b"X-Spam: No\r\nx-spam-score:\r\n -5\r\n"
STRICT = {"domains": ["fussy.test"], "max_score": 3.5}
ALIASES = """\
alice@fwd.test carol@mailbox.test
fussy@fwd.test frank@fussy.test
both@fwd.test frank@fussy.test, carol@mailbox.test
else@fwd.test x@else.test
more@fwd.test y@else.test
"""
BOUNCE = b"From: MAILER-DAEMON@far.test\r\nSubject: Undelivered\r\n\r\nNo such user.\r\n"
STRICTER = {"domains": [".mailbox.test", "mailbox.test"], "max_score": 2}


def house(folder: Path, server: answering.Answering | None = None, **tables: Any) -> House:
    filter_ = tables.pop("filter", {})
    url = {"rspamd": server.url} if server is not None else {}
    return House(folder, filter={**url, "timeout": "5s", **filter_}, **tables)


async def reply_to(folder: Path, script: Script, **filter_: Any) -> str:
    async with rspamd(script) as server:
        return await house(folder, server, filter=filter_).send("alice@fwd.test")


@pytest.mark.parametrize(
    ("script", "reply"),
    [
        (says("reject", 20), "550 5.7.1 the message was found to be spam"),
        (says("reject", 20, messages={"smtp_message": "Gtube\r\npättern\0 "}), "550 5.7.1 Gtube p?ttern?"),
        (says("soft reject", 1), "451 4.7.1 the message cannot be taken now, try again later"),
        (says("soft reject", 1, messages={"smtp_message": "Ratelimit"}), "451 4.7.1 Ratelimit"),
        (says("greylist", 5), "451 4.7.1 greylisted, try again in some minutes"),
        (says("REJECT", 20, messages={"smtp_message": "x" * 5000}), "550 5.7.1 " + "x" * 400),
    ],
)
async def test_what_rspamd_refuses_is_refused(tmp_path: Path, script: Script, reply: str) -> None:
    assert await reply_to(tmp_path, script) == reply


@pytest.mark.parametrize(
    ("action", "score", "fields"),
    [
        ("no action", 1.234, b"X-Spam-Score: 1.23\r\n"),
        ("no action", -0.001, b"X-Spam-Score: 0.00\r\n"),
        ("add header", 7, b"X-Spam: Yes\r\nX-Spam-Score: 7.00\r\n"),
        ("rewrite subject", 8.5, b"X-Spam: Yes\r\nX-Spam-Score: 8.50\r\n"),
        ("quarantine", 9, b"X-Spam: Yes\r\nX-Spam-Score: 9.00\r\n"),
        ("of a later version", -2, b"X-Spam-Score: -2.00\r\n"),
    ],
)
@pytest.mark.parametrize("forged", [b"", FORGED])
async def test_fields_go_on_top_and_nothing_else_changes(
    tmp_path: Path, action: str, score: float, fields: bytes, forged: bytes
) -> None:
    async with rspamd(says(action, score, subject="*** SPAM ***")) as server:
        door = house(tmp_path, server)
        reply = await door.send("alice@fwd.test", content=forged + MESSAGE)
    assert reply.startswith("250 2.0.0 Ok: queued as ")
    stored = door.queue.stored
    assert fields in stored.trace and stored.trace.lower().count(b"x-spam") == fields.lower().count(b"x-spam")
    assert stored.message.content == MESSAGE
    states = [delivery.state for delivery in door.queue.deliveries]
    assert states == ["held" if action == "quarantine" else "queued"]
    assert server.requests[0].body == forged + MESSAGE  # as it came


async def test_octets_of_the_message_in_the_answer_change_nothing(tmp_path: Path) -> None:
    answer = b'{"action": "reject", "score": 20, "milter": {"add_headers": {"X": "\xff\xe4\x80\xed\xa0\x80"}}}'
    assert await reply_to(tmp_path, sends(http(answer))) == "550 5.7.1 the message was found to be spam"
    refused = b'{"action": "reject", "messages": {"smtp_message": "p\xe4ttern"}}'
    assert await reply_to(tmp_path, sends(http(refused))) == "550 5.7.1 p?ttern"


async def test_what_rspamd_discards_is_taken_and_not_delivered(tmp_path: Path) -> None:
    async with rspamd(says("discard", 30)) as server:
        door = house(tmp_path, server)
        with capture_logs() as lines:
            assert (await door.send("alice@fwd.test")).startswith("250 ")
    assert not door.queue.put_in
    (discarded,) = [line for line in lines if line["event"] == "discarded"]
    assert discarded["reason"] == "filter.rspamd" and discarded["sender"] == JOE


async def test_rspamd_is_told_of_envelope_and_client(tmp_path: Path) -> None:
    async with rspamd(says()) as server:
        door = house(tmp_path, server)
        tls = CLIENT._replace(tls="TLSv1.3 TLS_AES_256_GCM_SHA384", helo="mx\x01.\udcffß")
        await door.send("alice@fwd.test", "bob@fwd.test", client=tls)
        await door.send("alice@fwd.test", client=INNER._replace(user=JOE), sender="")
    first, second = server.requests
    assert first.line == "POST /checkv2 HTTP/1.1"
    assert first.all("IP") == ["192.0.2.11"] and first.all("Hostname") == ["mail.origin.test"]
    assert first.all("From") == [f"<{JOE}>"] and first.all("Rcpt") == ["<alice@fwd.test>", "<bob@fwd.test>"]
    assert first.all("TLS-Version") == ["TLSv1.3"] and first.all("TLS-Cipher") == ["TLS_AES_256_GCM_SHA384"]
    assert first.all("Helo") == ["mx?.?ß"] and first.all("User") == [] and first.all("MTA-Name") == ["mx.fwd.test"]
    assert first.all("Queue-ID")[0] and first.all("Queue-ID") != second.all("Queue-ID")
    assert second.all("From") == ["<>"] and second.all("User") == [JOE] and second.all("Hostname") == []


async def test_a_client_that_the_proxy_does_not_name_has_no_address(tmp_path: Path) -> None:
    async with rspamd(says()) as server:
        await house(tmp_path, server).send(
            "alice@fwd.test", client=CLIENT._replace(known=False), content=b"From: eve@open.test\r\n\r\nHi.\r\n"
        )
    assert server.requests[0].all("IP") == []


async def test_a_large_message_arrives_whole(tmp_path: Path) -> None:
    content = MESSAGE + b"0123456789abcde\r\n" * 300_000
    async with rspamd(says()) as server:
        assert (await house(tmp_path, server).send("alice@fwd.test", content=content)).startswith("250 ")
    assert server.requests[0].body == content


FAULTS: dict[str, Script] = {
    "status 500": sends(http(b'{"error": "internal"}', "500 Internal")),
    "status 404 with an action": sends(http(b'{"action": "reject", "score": 20}', "404 Not Found")),
    "no JSON": sends(http(b"<html>")),
    "no object": sends(http(b"[1]")),
    "no action": sends(http(b'{"score": 1}')),
    "an action that is no text": sends(http(b'{"action": 1, "score": 1}')),
    "a score that is no number": sends(http(b'{"action": "no action", "score": "NaN"}')),
    "half": sends(b'HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{"action"'),
    "a chunk without an end": sends(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc"),
    "no HTTP": sends(b"220 mx.example ESMTP\r\n"),
    "nothing": sends(b""),
    "a header without an end": sends(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 2**20),
    "too much": floods,
    "a redirection": sends(b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n"),
    "compressed": sends(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc"),
    "silence": is_silent,
    "a dribble": dribbles,
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_filter_that_fails_stops_no_mail_unless_it_is_told_to(tmp_path: Path, fault: str) -> None:
    for on_failure, code in (("accept", "250"), ("defer", "451 4.3.0 the message cannot be checked now, try")):
        async with rspamd(FAULTS[fault]) as server:
            door = house(tmp_path, server, filter={"on_failure": on_failure, "timeout": "400ms"})
            began = time.monotonic()
            with capture_logs() as lines:
                reply = await door.send("alice@fwd.test", content=FORGED + MESSAGE)
            assert time.monotonic() - began < 2
        assert reply.startswith(code)
        (failed,) = [line for line in lines if line["event"] == "filter_failed"]
        assert failed["log_level"] == "warning" and failed["filter"] == "rspamd" and failed["effect"] == on_failure
        assert failed["problem"]
        assert door.count('filter_failures_total{filter="rspamd"}') == 1
        assert door.count('filtered_total{outcome="failed"}') == 1
        if on_failure == "accept":  # unmarked, and without the marks of others
            assert b"x-spam" not in (door.queue.stored.trace + door.queue.stored.message.content).lower()


async def test_an_rspamd_that_is_away_stops_no_mail(tmp_path: Path) -> None:
    async with rspamd(says()) as server:
        pass
    with capture_logs() as lines:
        assert (await house(tmp_path, server).send("alice@fwd.test")).startswith("250 ")
    assert [line["problem"] for line in lines if line["event"] == "filter_failed"] == ["Connection refused"]


async def test_a_host_that_is_off_costs_one_wait_and_not_one_for_each_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("relay.content_filter.rspamd.CONNECT_SECONDS", 0.3)
    with socket.socket() as full, ExitStack() as clients:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(3):  # the kernel lets no more connections wait
            waiting = clients.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        door = house(tmp_path, filter={"rspamd": f"http://127.0.0.1:{full.getsockname()[1]}"})
        with capture_logs() as lines:
            began = time.monotonic()
            for _ in range(10):
                assert (await door.send("alice@fwd.test")).startswith("250 ")
            assert 0.3 <= time.monotonic() - began < 1.5
    problems = [line["problem"] for line in lines if line["event"] == "filter_failed"]
    assert problems == ["no connection within 0.3 s", *["no connection came about a moment ago"] * 9]


async def test_more_messages_than_places_wait_no_longer_than_the_limit(tmp_path: Path) -> None:
    async with rspamd(is_silent) as server:
        door = house(tmp_path, server, filter={"timeout": "1s"})
        began = time.monotonic()
        replies = await asyncio.gather(*(door.send("alice@fwd.test") for _ in range(100)))
        assert time.monotonic() - began < 4
    assert all(reply.startswith("250 ") for reply in replies)


async def test_a_session_that_ends_takes_its_question_back(tmp_path: Path) -> None:
    async with rspamd(is_silent) as server:
        sending = asyncio.create_task(house(tmp_path, server).send("alice@fwd.test"))
        await wait_for(lambda: server.requests, "the question")
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        await wait_for(lambda: server.closed == 1, "the end of the connection")


# Scores of destinations


@pytest.mark.parametrize(("score", "reply"), [(3.5, "250"), (3.51, "550 5.7.1"), (-1, "250")])
async def test_a_destination_has_a_score_that_is_the_highest(tmp_path: Path, score: float, reply: str) -> None:
    async with rspamd(says("no action", score)) as server:
        door = house(tmp_path, server, aliases=ALIASES, delivery={"destinations": [STRICT]})
        assert (await door.send("alice@fwd.test")).startswith("250 ")
        strict = "250" if reply == "250" else "550 5.7.1 the message looks too much like spam to be forwarded"
        # The text names neither the domain nor the mailbox behind the alias.
        assert (await door.send("fussy@fwd.test")).startswith(strict)


async def test_the_lowest_score_of_the_targets_of_an_alias_counts(tmp_path: Path) -> None:
    async with rspamd(says("add header", 3)) as server:
        door = house(tmp_path, server, aliases=ALIASES, delivery={"destinations": [STRICT, STRICTER]})
        assert (await door.send("both@fwd.test")).startswith("550 5.7.1 ")
        assert (await door.send("else@fwd.test")).startswith("250 ")


async def test_recipients_of_another_score_come_on_their_own(tmp_path: Path) -> None:
    async with rspamd(says("add header", 3)) as server:
        door = house(tmp_path, server, aliases=ALIASES, delivery={"destinations": [STRICTER]})
        with door.session() as session:
            await session.mail()
            assert (await session.rcpt("else@fwd.test")).startswith("250 ")
            assert (await session.rcpt("alice@fwd.test")).startswith("452 4.5.3 ")
            assert (await session.rcpt("more@fwd.test")).startswith("250 ")
            assert (await session.data()).startswith("250 ")
            await session.mail()
            assert (await session.rcpt("alice@fwd.test")).startswith("250 ")
            assert (await session.data()).startswith("550 5.7.1 ")


# Greylisting without a Redis behind rspamd


async def test_who_comes_again_after_greylisting_gets_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time()
    async with rspamd(says("greylist", 5)) as server:
        door = house(tmp_path, server)
        for later, code in ((0, "451 4.7.1"), (WAIT / 2, "451 4.7.1"), (WAIT + 1, "250"), (WAIT + 60, "250")):
            monkeypatch.setattr("relay.content_filter.message_filter.time.time", lambda later=later: now + later)
            assert (await door.send("alice@fwd.test")).startswith(code), later
        assert (await door.send("bob@fwd.test")).startswith("451 4.7.1 ")  # another recipient
    assert b"X-Spam-Score: 5.00" in door.queue.put_in[0][0].trace


async def test_a_user_who_has_logged_in_does_not_wait(tmp_path: Path) -> None:
    async with rspamd(says("greylist", 5)) as server:
        door = house(tmp_path, server)
        assert (await door.send("alice@fwd.test", client=INNER)).startswith("451 4.7.1 ")
        assert (await door.send("alice@fwd.test", client=INNER._replace(user=JOE))).startswith("250 ")
    assert b"X-Spam-Score: 5.00" in door.queue.stored.trace


# Bounces that come back to a sender


@pytest.mark.parametrize(
    ("action", "code"), [("reject", "550 5.7.1"), ("greylist", "451 4.7.1"), ("add header", "250")]
)
async def test_a_bounce_is_filtered_unless_a_table_lets_it_pass(tmp_path: Path, action: str, code: str) -> None:
    (tmp_path / "routes.access").write_text("/^srs[01][=+-]/ OK\n")
    async with rspamd(says(action, 20)) as server:
        for table, reply in ({}, code), ({"routes": {"aliases": "aliases", "access": "routes.access"}}, "250"):
            door = house(tmp_path, server, **table)
            returned = forward(JOE, door.files.scheme, time.time())
            assert (await door.send(returned, sender="", content=BOUNCE)).startswith(reply), table
            forged = returned.replace("SRS0=", "SRS0=A", 1)
            assert (await door.send(forged, sender="", content=BOUNCE)).startswith("550 ")


# What an access table lets pass

PASSING = {"clients": "192.0.2.11 OK", "senders": f"{JOE} OK", "routes": "alice@fwd.test OK"}


def house_with_access(folder: Path, server: answering.Answering | None, section: str, line: str) -> House:
    (folder / "access").write_text(f"{line}\n")
    sections: dict[str, dict[str, Any]] = {"routes": {"aliases": "aliases"}}
    sections.setdefault(section, {})["access"] = "access"
    return house(folder, server, **sections)


@pytest.mark.parametrize("section", PASSING)
async def test_ok_in_an_access_table_lets_mail_pass_the_filter(tmp_path: Path, section: str) -> None:
    async with rspamd(says("reject", 20)) as server:
        door = house_with_access(tmp_path, server, section, PASSING[section])
        assert (await door.send("alice@fwd.test", content=FORGED + MESSAGE)).startswith("250 ")
        assert not server.requests
        assert b"x-spam" not in door.queue.stored.message.content.lower(), "what came in under these names goes"
        content = MESSAGE.replace(b"origin", b"open")
        reply = await door.send("bob@fwd.test", client=FORGER, sender="eve@open.test", content=content)
        assert reply.startswith("550 5.7.1 ")


@pytest.mark.parametrize(("content", "reply"), [(signed(), "250 "), (AUTHORED, "550 5.7.1 ")])
async def test_dmarc_lets_a_sender_pass_the_filter_where_spf_says_nothing(
    tmp_path: Path, content: bytes, reply: str
) -> None:
    (tmp_path / "access").write_text("author.example OK\nsilent2.test OK\n")
    keys = {(name, "TXT"): [(text.encode(),)] for name, text in RECORDS.items() if isinstance(text, str)}
    zone: Zone = {**keys, ("_dmarc.author.example", "TXT"): [(b"v=DMARC1; p=none",)]}
    async with rspamd(says("reject", 20)) as server:
        door = house(tmp_path, server, zone=zone, senders={"access": "access"})
        assert (await door.send("alice@fwd.test", sender="joe@author.example", content=content)).startswith(reply)
        other = await door.send("alice@fwd.test", sender="joe@silent2.test", content=content)
        assert other.startswith("550 5.7.1 "), "the OK is for the sender, and DMARC for the author"


@pytest.mark.parametrize(("first", "second"), [("alice", "bob"), ("bob", "alice")])
async def test_a_recipient_who_passes_and_one_who_does_not_come_apart(tmp_path: Path, first: str, second: str) -> None:
    async with rspamd(says("no action", 1)) as server:
        door = house_with_access(tmp_path, server, "routes", "alice@fwd.test OK")
        with door.session() as session:
            await session.mail()
            assert (await session.rcpt(f"{first}@fwd.test")).startswith("250 ")
            assert (await session.rcpt(f"{second}@fwd.test")).startswith("452 4.5.3 ")
            assert (await session.data()).startswith("250 ")
            assert len(server.requests) == (first == "bob")
    without = house_with_access(tmp_path, None, "routes", "alice@fwd.test OK")
    assert (await without.send(f"{first}@fwd.test", f"{second}@fwd.test")).startswith("250 ")


async def test_what_a_table_discards_is_not_filtered_and_what_it_holds_is(tmp_path: Path) -> None:
    async with rspamd(says("reject", 20)) as server:
        door = house_with_access(tmp_path, server, "senders", f"{JOE} DISCARD")
        assert (await door.send("alice@fwd.test")).startswith("250 ")
        assert not server.requests and not door.queue.put_in
        door = house_with_access(tmp_path, server, "senders", f"{JOE} HOLD")
        assert (await door.send("alice@fwd.test")).startswith("550 5.7.1 ")


# clamd


def clamd_says(answer: bytes) -> Any:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert await reader.readexactly(10) == b"zINSTREAM\0"
        while length := int.from_bytes(await reader.readexactly(4), "big"):
            await reader.readexactly(length)
        writer.write(answer)
        await writer.drain()

    return serve


async def early(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A clamd that has read enough."""
    await reader.readexactly(100)
    writer.write(b"INSTREAM size limit exceeded. ERROR\0")
    await writer.drain()


async def test_a_virus_is_refused_by_its_name_whatever_rspamd_says(tmp_path: Path) -> None:
    async with (
        rspamd(says("soft reject")) as server,
        answering.clamd(clamd_says(b"stream: Win.Test.EICAR_HDB-1 FOUND\0")) as clamd,
    ):
        door = house(tmp_path, server, filter={"clamav": clamd.url})
        with capture_logs() as lines:
            reply = await door.send("alice@fwd.test")
    assert reply == "550 5.7.1 the message has a virus: Win.Test.EICAR_HDB-1"
    (filtered,) = [line for line in lines if line["event"] == "filtered"]
    assert filtered["virus"] == "Win.Test.EICAR_HDB-1" and filtered["action"] == "soft reject"
    assert door.count('filtered_total{outcome="virus"}') == 1


async def test_both_filters_are_asked_at_once(tmp_path: Path) -> None:
    async def slow_rspamd(request: answering.Request, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.5)
        await says("add header", 7)(request, writer)

    async def slow_clamd(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.5)
        await clamd_says(b"stream: OK\0")(reader, writer)

    async with rspamd(slow_rspamd) as server, answering.clamd(slow_clamd) as clamd:
        door = house(tmp_path, server, filter={"clamav": clamd.url, "timeout": "900ms", "on_failure": "defer"})
        assert (await door.send("alice@fwd.test")).startswith("250 ")
    assert b"X-Spam: Yes" in door.queue.stored.trace


@pytest.mark.parametrize(
    ("answer", "on_failure", "code"),
    [
        (clamd_says(b"stream: OK\0"), "defer", "250"),
        (early, "defer", "250"),  # no clamd will ever read it
        (clamd_says(b"stream: Can't allocate memory ERROR\0"), "defer", "451 4.3.0"),
        (clamd_says(b"stream: Can't allocate memory ERROR\0"), "accept", "250"),
        (clamd_says(b""), "defer", "451 4.3.0"),
        (clamd_says(b"stream: OK"), "defer", "451 4.3.0"),  # half of an answer may be half of "OK-Virus FOUND"
        (clamd_says(b"x" * 100_000), "defer", "451 4.3.0"),
    ],
)
async def test_what_clamd_alone_says(tmp_path: Path, answer: Any, on_failure: str, code: str) -> None:
    content = FORGED + MESSAGE + b"0123456789abcde\r\n" * 100_000
    async with answering.clamd(answer) as clamd:
        door = house(tmp_path, filter={"clamav": clamd.url, "on_failure": on_failure})
        assert (await door.send("alice@fwd.test", content=content)).startswith(code)
    if code == "250":
        assert b"x-spam" not in (door.queue.stored.trace + door.queue.stored.message.content).lower()


async def test_a_clamd_that_is_away_stops_no_mail(tmp_path: Path) -> None:
    door = house(tmp_path, filter={"clamav": str(tmp_path / "clamd.ctl")})
    with capture_logs() as lines:
        assert (await door.send("alice@fwd.test")).startswith("250 ")
    assert [line["problem"] for line in lines if line["event"] == "filter_failed"] == ["No such file or directory"]


# What comes in under the names of the filter


async def test_without_a_filter_fields_of_others_stay(tmp_path: Path) -> None:
    door = House(tmp_path)
    await door.send("alice@fwd.test", content=FORGED + MESSAGE)
    assert door.queue.stored.message.content == FORGED + MESSAGE


async def test_a_signature_over_a_removed_field_is_named(tmp_path: Path) -> None:
    signature = b"DKIM-Signature: v=1; d=origin.test; s=x; a=rsa-sha256; h=from:X-Spam; bh=; b=\r\n"
    async with rspamd(says()) as server:
        door = house(tmp_path, server)
        with capture_logs() as lines:
            await door.send("alice@fwd.test", content=signature + FORGED + MESSAGE)
    (removed,) = [line for line in lines if line["event"] == "spam_fields_removed"]
    assert removed["fields"] == 2 and removed["signed"] is True
    assert are_signed(door.queue.stored.message, ()) is False
    assert door.queue.stored.message.content == signature + MESSAGE

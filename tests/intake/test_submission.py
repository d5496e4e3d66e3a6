"""Mail of users who have logged in: their senders, the fields that are added, and what their own results are worth."""

from __future__ import annotations

import email.utils
import time
from pathlib import Path
from typing import Any

import pytest

from relay.intake.submission import missing_fields, with_fields_on_top
from relay.mail.message import Message
from tests.intake.arriving import CLIENT, INNER, House

ANN = CLIENT._replace(trusted=True, user="ann", protocol="ESMTPSA", tls="TLSv1.3 x")
SENDER = "ann@fwd.test"
PLAIN = b"From: Ann <ann@fwd.test>\r\nDate: Mon, 30 Nov 2026 09:00:00 +0000\r\nMessage-ID: <1@pc.test>\r\n\r\nHi.\r\n"


def house(folder: Path, **tables: Any) -> House:
    (folder / "users").write_text("")
    (folder / "senders").write_text("ann @whole.test\n")
    auth = {"users": "users", "senders": "senders"}
    return House(folder, auth=auth, senders={"local_domains": ["fwd.test"]}, **tables)


@pytest.mark.parametrize("sender", [SENDER, "ANN+list@Fwd.Test", "x@whole.test", ""])
async def test_own_senders_go_to_anybody(tmp_path: Path, sender: str) -> None:
    ours = house(tmp_path)
    assert (await ours.send("any@where.test", sender=sender, client=ANN, content=PLAIN)).startswith("250")
    assert ours.queue.stored.verdict.trusted and ours.queue.stored.verdict.sender_allowed


async def test_the_sender_of_another_is_refused_at_mail(tmp_path: Path) -> None:
    ours = house(tmp_path)
    with ours.session(ANN) as session:
        assert await session.mail("bob@fwd.test") == ("550 5.7.1 <bob@fwd.test>: user ann may not send as this address")
    assert (await ours.send("any@where.test", sender="x@sub.whole.test", client=ANN)).startswith("550 5.7.1")


@pytest.mark.parametrize(
    ("author", "reply"),
    [
        ("bob@fwd.test", "550 5.7.1 From: user ann may not write as <bob@fwd.test>"),
        ("ann@fwd.test, bob@fwd.test", "550 5.7.1 From: user ann may not write as <bob@fwd.test>"),
        ("bob@fwd.test <ann@fwd.test>", "550 5.7.1 From: user ann may not write as <bob@fwd.test>"),
        ("ann", "550 5.7.1 From: nobody can tell"),
        ("ann@fwd.test\r\nFrom: bob@fwd.test", "550 5.7.1 From: user ann may not write as <bob@fwd.test>"),
        ("ann@fwd.test, x@whole.test", "250 2.0.0"),
        ('"bob@fwd.test" <Ann@FWD.test>', "250 2.0.0"),
        ("ann@fwd.test\r\nSender: secretary@fwd.test\r\nReply-To: bob@elsewhere.test", "250 2.0.0"),
    ],
)
@pytest.mark.parametrize("sender", [SENDER, ""])
async def test_every_author_has_to_be_the_users(tmp_path: Path, author: str, reply: str, sender: str) -> None:
    content = f"From: {author}\r\nSubject: x\r\n\r\nhi\r\n".encode()
    said = await house(tmp_path).send("any@where.test", sender=sender, client=ANN, content=content)
    assert said.startswith(reply)


@pytest.mark.parametrize("content", [b"Subject: x\r\n\r\nhi\r\n", b"only text\r\n", b"", b"\r\nFrom: bob@fwd.test\r\n"])
async def test_a_message_that_names_nobody_passes(tmp_path: Path, content: bytes) -> None:
    ours = house(tmp_path)
    assert (await ours.send("any@where.test", sender=SENDER, client=ANN, content=content)).startswith("250")
    stored = ours.queue.stored.message
    assert [field.name for field in stored.fields[:2]] == ["date", "message-id"]
    assert stored.content.endswith(content) and (stored.has_header and stored.body_offset > 0)


async def test_a_mere_trusted_client_may_use_any_sender_and_gets_no_fields(tmp_path: Path) -> None:
    ours = house(tmp_path)
    content = b"From: bob@else.test\r\n\r\nhi\r\n"
    assert (await ours.send("any@where.test", sender="bob@else.test", client=INNER, content=content)).startswith("250")
    assert ours.queue.stored.message.content == content


async def test_date_and_message_id_are_added_on_top_and_nothing_changes(tmp_path: Path) -> None:
    ours = house(tmp_path)
    content = b"From: ann@fwd.test\r\nsubject:  odd\r\n\tfolded\r\nnot a field\r\n\r\n..body \r\n\r\n"
    await ours.send("any@where.test", sender=SENDER, client=ANN, content=content)
    message = ours.queue.stored.message
    date, message_id, rest = message.content.split(b"\r\n", 2)
    assert rest == content
    assert abs(email.utils.parsedate_to_datetime(date[6:].decode()).timestamp() - time.time()) < 60
    assert message_id.startswith(b"Message-ID: <") and message_id.endswith(b"@mx.fwd.test>")
    assert message.relaxed_body_hash == Message(content).relaxed_body_hash


async def test_what_is_there_stays(tmp_path: Path) -> None:
    ours = house(tmp_path)
    await ours.send("any@where.test", sender=SENDER, client=ANN, content=PLAIN)
    assert ours.queue.stored.message.content == PLAIN


def test_only_what_is_missing_is_added() -> None:
    def added(content: bytes) -> list[str]:
        return [field.name for field in Message(missing_fields(Message(content), "mx.test", "Q", 0.0)).fields]

    assert added(b"date : x\r\n\r\n") == ["message-id"] and added(b"MESSAGE-ID: x\r\n\r\n") == ["date"]
    assert added(b"X-Date: x\r\n\r\nDate: x\r\n") == ["date", "message-id"]
    assert added(b" folded: x\r\nSubject: y\r\n\r\n") == []  # it would continue our field
    assert missing_fields(Message(b""), "mx.test", "Q", 86400.5).startswith(
        b"Date: Fri, 02 Jan 1970 00:00:00 +0000\r\n"
    )


def test_a_body_alone_gets_a_header() -> None:
    assert with_fields_on_top(Message(b"hi\r\n"), b"Date: x\r\n").content == b"Date: x\r\n\r\nhi\r\n"
    assert with_fields_on_top(Message(b"\r\nhi\r\n"), b"Date: x\r\n").content == b"Date: x\r\n\r\nhi\r\n"


async def test_authentication_results_say_who_has_logged_in(tmp_path: Path) -> None:
    ours = house(tmp_path)
    await ours.send("any@where.test", sender=SENDER, client=ANN, content=PLAIN)
    trace = ours.queue.stored.trace
    assert trace.startswith(b"Authentication-Results: mx.fwd.test;\r\n\tauth=pass smtp.auth=ann\r\n")
    assert b" with ESMTPSA id " in trace


async def test_nobody_believes_the_results_that_a_user_brings(tmp_path: Path) -> None:
    """A user's mail program is no MTA that would have removed forged fields."""
    forged = b"Authentication-Results: inner.test; dmarc=pass header.from=bob.test\r\n"
    forged += b"Authentication-Results: mx.fwd.test; dmarc=pass header.from=bob.test\r\n"
    kept = b"Authentication-Results: other.test; dkim=none\r\n"
    ours = house(tmp_path, clients={"trusted": ["192.0.2.0/24"], "authserv_ids": ["inner.test"]})
    await ours.send("any@where.test", sender=SENDER, client=ANN, content=forged + kept + PLAIN)
    stored = ours.queue.stored
    assert stored.message.content == kept + PLAIN and stored.verdict.seal is None and not stored.verdict.dmarc


async def test_the_rule_against_forgeries_of_ours_is_not_for_users(tmp_path: Path) -> None:
    ours = house(tmp_path)
    assert (await ours.send("any@where.test", sender=SENDER, client=CLIENT, content=PLAIN)).startswith("55")
    assert (await ours.send("alice@fwd.test", sender=SENDER, client=CLIENT, content=PLAIN)).startswith("550 5.7")
    assert (await ours.send("alice@fwd.test", sender=SENDER, client=ANN, content=PLAIN)).startswith("250")

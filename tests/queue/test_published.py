"""Queues that releases have written, kept by `tests.queue.publish`: this program opens them and delivers their mail."""

from __future__ import annotations

import re
import sqlite3
import sys
from contextlib import closing

import pytest

from relay.queue import admin, migrations, schema
from relay.queue.connect import connect
from relay.queue.schema import CHUNK
from relay.queue.store import Store
from tests.journeys.sinks import RecordingSink
from tests.journeys.world import MAILBOX, NEXT, opened
from tests.peers import wait_until
from tests.queue.migrating import ADDITIVE, become_next_release
from tests.queue.publish import LONG_SENDER, unpack_sqlite

# State, recipient, attempts and sender of each delivery, once the lease of the killed worker has been freed.
DELIVERIES = [
    ("dead", "stranger@elsewhere.example", 1, ""),
    ("held", "held@mailbox.example", 1, "ann@sender.example"),
    ("queued", "dave@next.example", 0, "ann@sender.example"),
    ("queued", "later@mailbox.example", 1, LONG_SENDER),
    ("queued", "later@mailbox.example", 1, "ann@sender.example"),
    ("queued", "later@mailbox.example", 1, "ann@sender.example"),
    ("queued", "later@mailbox.example", 1, "ann@sender.example"),
]


@pytest.mark.parametrize("steps_to_come", [0, 1])
async def test_all_that_a_release_has_left_is_read(
    published: str, steps_to_come: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if steps_to_come:
        monkeypatch.setattr(schema, "VERSION", schema.VERSION)
        monkeypatch.setattr(migrations, "STEPS", migrations.STEPS)
        become_next_release(ADDITIVE)
    queue = await connect(published)
    store = Store(queue, "worker-1/")
    rows = [row async for row in admin.rows(queue)]
    assert [row["recipient"] for row in rows if row["state"] == "active"] == ["dave@next.example"]
    assert await store.free(None, 1.0) == 1
    rows = [row async for row in admin.rows(queue)]
    assert sorted((r["state"], r["recipient"], r["attempts"], r["sender"]) for r in rows) == sorted(DELIVERIES)
    assert {row["last"]["status"] for row in rows if row["recipient"] == "later@mailbox.example"} == {"4.2.1"}

    ids = [due.message_id for due in await store.due(1e12, 100)]
    messages = {message_id: await store.load(message_id) for message_id in ids}
    subjects = []
    for message in messages.values():
        assert message is not None and b"Received: from mx.sender.example " in message.trace
        (subject,) = re.findall(rb"^Subject: (.*)\r$", message.message.content[:1000], re.MULTILINE)
        subjects.append(subject.decode())
        assert message.verdict.spf == "pass" and message.verdict.authors == ("sender.example",)
        if subject == b"large":
            assert len(message.message.content) > 2 * CHUNK
            assert message.message.content.endswith(b"continues in chunks.\r\n")
    assert sorted(subjects) == ["deferred", "held", "large", "long sender", "under way"]
    (bounce,) = [row for row in rows if row["state"] == "dead"]
    loaded = await store.load(admin.Selector.parse(bounce["id"]).message_id)
    assert loaded is not None and loaded.is_own and b"gone@fwd.example" in loaded.message.content

    (under_way,) = [row for row in rows if row["recipient"] == "dave@next.example"]
    (shown,) = await admin.show(queue, admin.Selector.parse(under_way["id"]))
    assert shown["verdict"]["spf"] == "pass" and shown["verdict"]["authors"] == ["sender.example"]

    token = await queue.read(lambda c: c.exec_driver_sql("SELECT id FROM srs_token").scalar_one())
    assert await store.sender_of(token, 0.0) == LONG_SENDER
    await store.close()


def delivered(sink: RecordingSink) -> set[tuple[str, str]]:
    """The subject and the recipient of each message that a next hop took."""
    return {
        (subject.decode(), recipient)
        for received in sink.received
        for subject in re.findall(rb"^Subject: (.*)\r$", received.content, re.MULTILINE)
        for recipient in received.recipients
    }


@pytest.mark.slow
@pytest.mark.parametrize("steps_to_come", [0, 1])
def test_a_relay_delivers_what_a_release_has_left(version: int, steps_to_come: int) -> None:
    with opened() as world:
        mailbox = world.start(RecordingSink(MAILBOX, world.port))
        after = world.start(RecordingSink(NEXT, world.port))
        wrapper = (sys.executable, "-m", "tests.queue.migrating", "run") if steps_to_come else ()
        relay = world.relay(workers=1, wrapper=wrapper)
        relay.terminate()
        queue = relay.folder / "queue.db"
        for file in relay.folder.glob("queue.db*"):
            file.unlink()
        unpack_sqlite(version, queue)
        with closing(sqlite3.connect(queue)) as connection:
            connection.execute("UPDATE delivery SET state = 'queued', next_attempt = 1 WHERE state <> 'dead'")
            connection.commit()
        relay.start()
        in_mailbox = {
            ("deferred", "later@mailbox.example"),
            ("held", "held@mailbox.example"),
            ("held", "later@mailbox.example"),
            ("large", "later@mailbox.example"),
            ("long sender", "later@mailbox.example"),
        }
        wait_until(lambda: delivered(mailbox) >= in_mailbox and delivered(after), "the mail at the next hops", 30)
        assert delivered(mailbox) == in_mailbox
        assert delivered(after) == {("under way", "dave@next.example")}
        newest = schema.VERSION + steps_to_come
        migrations = [(line["from"], line["to"]) for line in relay.events("queue_migrated")]
        assert migrations == ([] if newest == version else [(version, newest)])
        assert len(list(relay.folder.glob("queue.db.v*"))) == len(migrations)

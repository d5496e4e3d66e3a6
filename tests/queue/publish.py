"""`python -m tests.queue.publish`: makes the queues of a release that `test_published.py` opens ever after.

Run it once for every schema version, with the tree of the release that brings it. A relay takes mail, some of it is
delivered, deferred, held or dead, and the relay is killed in the middle of an attempt. Its queue is then kept as
`published/vN.db.gz` (SQLite) and `published/vN.postgresql.sql.gz` (what pg_dump writes).
"""

from __future__ import annotations

import gzip
import smtplib
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path
from typing import Any

from relay.queue.schema import VERSION
from tests.journeys.relay_process import RelayProcess
from tests.journeys.sinks import RecordingSink
from tests.journeys.world import MAILBOX, NEXT, SENDER, World, opened
from tests.peers import program, wait_until
from tests.postgresql import PostgresServer

PUBLISHED = Path(__file__).with_name("published")
ALIASES = """
alice@fwd.example carol@mailbox.example
bob@fwd.example later@mailbox.example
both@fwd.example later@mailbox.example, held@mailbox.example
gone@fwd.example nobody@mailbox.example
slow@fwd.example dave@next.example
"""
LONG_SENDER = "a.very.long.local.part.that.leaves.no.room.for.an.srs.address@sender.example"
REFUSED = {
    "later@mailbox.example": "451 4.2.1 not now",
    "held@mailbox.example": "451 4.2.1 not now",
    "nobody@mailbox.example": "550 5.1.1 no such user",
}
LARGE = 2_500_000  # octets: the first MiB and two chunks


def send(world: World, relay: RelayProcess, recipient: str, subject: str, **values: Any) -> None:
    """Hand one message to the relay from the host of sender.example, unless `source` says otherwise."""
    sender = values.get("sender", "ann@sender.example")
    body = "A line of the large message, which continues in chunks.\r\n" * (values.get("octets", 100) // 57)
    content = f"From: ann@sender.example\r\nTo: {recipient}\r\nSubject: {subject}\r\n\r\n{body}"
    source = (values.get("source", SENDER), 0)
    with smtplib.SMTP(relay.address, relay.port, "mx.sender.example", source_address=source) as session:
        session.sendmail(sender, [recipient], content)


def fill(world: World, **tables: Any) -> RelayProcess:
    """A relay that was killed, with deliveries of every state in its queue."""
    mailbox = world.start(RecordingSink(MAILBOX, world.port, refused=REFUSED))
    world.start(RecordingSink(NEXT, world.port, delay=60.0))
    queue = {"retry_min": "5m", "retry_max": "5m", **tables}
    relay = world.relay(aliases=ALIASES, workers=1, queue=queue)
    send(world, relay, "alice@fwd.example", "delivered")
    mailbox.wait()
    send(world, relay, "bob@fwd.example", "deferred")
    send(world, relay, "bob@fwd.example", "large", octets=LARGE)
    send(world, relay, "bob@fwd.example", "long sender", sender=LONG_SENDER)
    send(world, relay, "both@fwd.example", "held")
    send(world, relay, "gone@fwd.example", "dead", sender="stranger@elsewhere.example")

    def states() -> list[tuple[str, str]]:
        return sorted((row["state"], row["recipient"]) for row in relay.queue() if row["attempts"])

    wait_until(lambda: len(states()) == 6, "the first attempts", 30)
    held = next(f"{row['id']}/{row['n']}" for row in relay.queue() if row["recipient"] == "held@mailbox.example")
    done = relay.command("queue", "hold", held)
    assert done.returncode == 0, done.stderr
    send(world, relay, "slow@fwd.example", "under way")
    wait_until(lambda: any(row["state"] == "active" for row in relay.queue()), "an attempt under way", 30)
    relay.kill9()
    return relay


def publish_sqlite() -> None:
    """Keep an SQLite queue of this version."""
    with opened() as world:
        file = fill(world).folder / "queue.db"
        with closing(sqlite3.connect(file)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        content = file.read_bytes()
        (PUBLISHED / f"v{VERSION}.db.gz").write_bytes(gzip.compress(content, mtime=0))


def publish_postgresql() -> None:
    """Keep a PostgreSQL queue of this version."""
    with PostgresServer() as server:
        url = server.create_database()
        with opened() as world:
            fill(world, url=url)
        command = [program("pg_dump"), "--inserts", "--no-owner", "--no-comments", url]
        output = subprocess.run(command, check=True, capture_output=True).stdout
        # Commands to psql itself, as newer versions of pg_dump write them, are unknown to older ones.
        dump = b"".join(line for line in output.splitlines(keepends=True) if not line.startswith(b"\\"))
        (PUBLISHED / f"v{VERSION}.postgresql.sql.gz").write_bytes(gzip.compress(dump, mtime=0))


def unpack_sqlite(version: int, file: Path) -> None:
    """Put the SQLite queue of a version there."""
    file.write_bytes(gzip.decompress((PUBLISHED / f"v{version}.db.gz").read_bytes()))


def unpack_postgresql(version: int, url: str) -> None:
    """Put the queue of a version into an empty database."""
    dump = gzip.decompress((PUBLISHED / f"v{version}.postgresql.sql.gz").read_bytes())
    command = [program("psql"), "-Xq", "-v", "ON_ERROR_STOP=1", url]
    subprocess.run(command, input=dump, check=True, capture_output=True)


if __name__ == "__main__":
    PUBLISHED.mkdir(exist_ok=True)
    publish_sqlite()
    publish_postgresql()

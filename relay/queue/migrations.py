"""Migrations: how a queue that an earlier release wrote gets the tables of this one.

A migration is an ordered list of steps, one for each schema version. A step is a small function over a SQLAlchemy
connection. All steps of one migration run in one transaction, so a crash leaves the queue as it was.

There is no Alembic here. The queue has eight tables and few versions, and the difficult parts are not in Alembic: the
copy of an SQLite file, the lock between hosts, and the question whether hosts of the earlier version may go on. Alembic
would add a second table with versions, a folder of scripts and a dependency, and would replace only `STEPS`.

Rules for a step:

* It spells its statements out. `relay.queue.schema` describes the newest tables only, so a step does not use it.
* It runs inside a transaction on SQLite and on PostgreSQL: no VACUUM, no CREATE INDEX CONCURRENTLY.
* It is `additive` if the release before it can go on with what it leaves: new tables, new indexes, new columns that
  may be NULL or have a default on the server, and no other meaning for what is there.
* If it is not additive, it renames a table or column that earlier releases write to. A host that had lost its network
  during the migration does not look at the version again; this way its statements fail, and it stores nothing wrong.
* On PostgreSQL each of its statements ends within `postgresql.STATEMENT_TIMEOUT`, also for a long queue.

Whoever adds a step raises `schema.VERSION`, and keeps a queue of the new version in `tests/queue/published`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, insert, inspect, select, update

from relay.queue import schema
from relay.queue.database import NO_QUEUE, QueueUnavailable

OLDEST = 2  # the schema version of release 0.1.0; no release has an older one


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a migration.

    Attributes:
        version: the schema version that it leads to, from the one before.
        additive: whether the release before can go on with the result, see the rules above.
        run: changes the tables, and what they hold.
    """

    version: int
    additive: bool
    run: Callable[[Connection], None]


def _audit(connection: Connection) -> None:
    """The table of what queue commands have done, and the number of attempts that they asked for."""
    serial = "INTEGER NOT NULL" if connection.dialect.name == "sqlite" else "BIGSERIAL NOT NULL"
    connection.exec_driver_sql(f"CREATE TABLE audit (id {serial}, record JSON NOT NULL, PRIMARY KEY (id))")
    connection.exec_driver_sql("ALTER TABLE delivery ADD COLUMN by_hand INTEGER NOT NULL DEFAULT 0")


def _transport_security(connection: Connection) -> None:
    """What a message asks of TLS, the MTA-STS policies that were fetched, and what TLS reports count."""
    connection.exec_driver_sql("ALTER TABLE message ADD COLUMN tls TEXT NOT NULL DEFAULT ''")
    connection.exec_driver_sql(
        "CREATE TABLE mta_sts (domain TEXT NOT NULL, policy_id TEXT NOT NULL, policy TEXT NOT NULL, "
        "fetched FLOAT NOT NULL, expires FLOAT NOT NULL, refresh FLOAT NOT NULL, used FLOAT NOT NULL, "
        "PRIMARY KEY (domain))"
    )
    connection.exec_driver_sql("CREATE INDEX mta_sts_expires ON mta_sts (expires)")
    connection.exec_driver_sql("CREATE INDEX mta_sts_refresh ON mta_sts (refresh)")
    connection.exec_driver_sql("CREATE INDEX mta_sts_used ON mta_sts (used)")
    connection.exec_driver_sql(
        "CREATE TABLE tls_result (day INTEGER NOT NULL, domain TEXT NOT NULL, policy VARCHAR(16) NOT NULL, "
        "policy_id VARCHAR(16) NOT NULL, mx TEXT NOT NULL, result VARCHAR(40) NOT NULL, reason TEXT NOT NULL, "
        "address TEXT NOT NULL, source TEXT NOT NULL, policy_domain TEXT NOT NULL, policy_text TEXT NOT NULL, "
        "sessions INTEGER NOT NULL, "
        "PRIMARY KEY (day, domain, policy, policy_id, mx, result, reason, address, source))"
    )


def _held_mail(connection: Connection) -> None:
    """Why the filter or an access table holds a delivery, and when it is deleted if nobody releases it."""
    connection.exec_driver_sql("ALTER TABLE delivery ADD COLUMN held_until FLOAT")
    connection.exec_driver_sql("ALTER TABLE delivery ADD COLUMN hold_reason TEXT")
    connection.exec_driver_sql("CREATE INDEX delivery_held_until ON delivery (held_until) WHERE held_until IS NOT NULL")


STEPS: tuple[Step, ...] = (
    Step(3, additive=True, run=_audit),
    Step(4, additive=True, run=_transport_security),
    Step(5, additive=True, run=_held_mail),
)
"""Every step after `OLDEST`, in order."""

BeforeMigration = Callable[[int, Sequence[Step]], None]


def prepare(connection: Connection, *, create: bool, before: BeforeMigration | None = None) -> int | None:
    """Find the tables, make them, or migrate them, in the transaction at hand.

    Args:
        create: whether to make the tables where there are none.
        before: is called before the first step of a migration, with the version found and the steps; it raises
            QueueUnavailable to prevent the migration. Without it an older queue is refused.

    Returns:
        The schema version from which the queue was migrated; None if there was nothing to migrate.

    Raises:
        QueueUnavailable: there is no queue and none is to be made, or its version cannot be used.
    """
    version = _stored_version(connection)
    if version is None:
        if not create:
            raise QueueUnavailable(NO_QUEUE)
        schema.metadata.create_all(connection)
        connection.execute(insert(schema.version).values(version=schema.VERSION))
        return None
    if version == schema.VERSION:
        return None
    steps = _steps_from(version)
    if before is None:
        raise QueueUnavailable(
            f"the queue has schema version {version}, this program needs {schema.VERSION}: "
            "`srs-relay serve` migrates it at its start"
        )
    before(version, steps)
    for step in steps:
        step.run(connection)
    connection.execute(update(schema.version).values(version=schema.VERSION))
    return version


def _stored_version(connection: Connection) -> int | None:
    if not inspect(connection).has_table(schema.version.name):
        return None
    return connection.execute(select(schema.version.c.version)).scalar()


def _steps_from(version: int) -> list[Step]:
    """The steps from a version to that of this program.

    Raises:
        QueueUnavailable: there is no way.
    """
    if version > schema.VERSION:
        raise QueueUnavailable(
            f"the queue has schema version {version}, this program knows {schema.VERSION}: "
            "a newer srs-relay wrote it, and there is no way back"
        )
    if version < OLDEST:
        raise QueueUnavailable(
            f"the queue has schema version {version}, and migrations are supported from version {OLDEST} on"
        )
    return [step for step in STEPS if step.version > version]

"""The tables of the queue, the same on SQLite and PostgreSQL.

A message is stored once and never changed. Each of its deliveries is a row of its own. A lease is not a state: it moves
`next_attempt` to its own end. So what a dead worker held becomes due by itself, and the index over due deliveries never
reads leased ones.

Whoever changes a table here raises `VERSION` and adds a step to `relay.queue.migrations`.
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    text,
)

VERSION = 5
CHUNK = 1 << 20  # octets of content in one row; a larger message continues in `chunk`

metadata = MetaData()

message = Table(
    "message",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=False),
    Column("received", Float, nullable=False),
    Column("sender", Text, nullable=False),
    Column("size", Integer, nullable=False),
    Column("body_hash", LargeBinary, nullable=False),
    Column("smtputf8", Boolean, nullable=False),
    Column("ret", Text, nullable=False),
    Column("envid", Text, nullable=False),
    Column("verdict", JSON, nullable=False),
    Column("trace", LargeBinary, nullable=False),
    Column("content", LargeBinary, nullable=False),
    Column("tls", Text, nullable=False, server_default=text("''")),
)

chunk = Table(
    "chunk",
    metadata,
    Column("message_id", BigInteger, primary_key=True),
    Column("n", Integer, primary_key=True),
    Column("content", LargeBinary, nullable=False),
)

delivery = Table(
    "delivery",
    metadata,
    Column("message_id", BigInteger, primary_key=True),
    Column("n", Integer, primary_key=True),
    Column("recipient", Text, nullable=False),
    Column("original", Text, nullable=False),
    Column("hop", Text, nullable=False),
    Column("srs", Boolean, nullable=False),
    Column("notify", Text, nullable=False),
    Column("orcpt", Text, nullable=False),
    Column("state", String(8), nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("next_attempt", Float, nullable=False),
    Column("expires", Float, nullable=False),
    Column("warned", Boolean, nullable=False),
    Column("lease_owner", Text),
    Column("lease_token", BigInteger),
    Column("last", JSON),
    Column("by_hand", Integer, nullable=False, server_default=text("0")),
    Column("held_until", Float),
    Column("hold_reason", Text),
    # Due deliveries are read in the order of these indexes, and from them alone: they hold all that scheduling needs.
    Index("delivery_due", "state", "next_attempt", "message_id", "n", "hop"),
    Index("delivery_hop", "hop", "state", "next_attempt", "message_id", "n"),
    sqlite_with_rowid=False,
)
Index(
    "delivery_leased",
    delivery.c.lease_owner,
    sqlite_where=delivery.c.lease_owner.is_not(None),
    postgresql_where=delivery.c.lease_owner.is_not(None),
)
Index(
    "delivery_held_until",
    delivery.c.held_until,
    sqlite_where=delivery.c.held_until.is_not(None),
    postgresql_where=delivery.c.held_until.is_not(None),
)

srs_token = Table(
    "srs_token",
    metadata,
    Column("id", String(16), primary_key=True),
    Column("sender", Text, nullable=False),
    Column("day", Integer, nullable=False),
    Column("expires", Float, nullable=False),
    Index("srs_token_sender", "sender", "day", unique=True),
    Index("srs_token_expires", "expires"),
)

audit = Table(
    "audit",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("record", JSON, nullable=False),
)

mta_sts = Table(
    "mta_sts",
    metadata,
    Column("domain", Text, primary_key=True),
    Column("policy_id", Text, nullable=False),
    Column("policy", Text, nullable=False),
    Column("fetched", Float, nullable=False),
    Column("expires", Float, nullable=False),
    Column("refresh", Float, nullable=False),
    Column("used", Float, nullable=False),
    Index("mta_sts_expires", "expires"),
    Index("mta_sts_refresh", "refresh"),
    Index("mta_sts_used", "used"),
)

tls_result = Table(
    "tls_result",
    metadata,
    Column("day", Integer, primary_key=True, autoincrement=False),
    Column("domain", Text, primary_key=True),
    Column("policy", String(16), primary_key=True),
    Column("policy_id", String(16), primary_key=True),
    Column("mx", Text, primary_key=True),
    Column("result", String(40), primary_key=True),
    Column("reason", Text, primary_key=True),
    Column("address", Text, primary_key=True),
    Column("source", Text, primary_key=True),
    Column("policy_domain", Text, nullable=False),
    Column("policy_text", Text, nullable=False),
    Column("sessions", Integer, nullable=False),
)

version = Table("schema_version", metadata, Column("version", Integer, nullable=False))

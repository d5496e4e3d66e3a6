"""What the queue holds and what may be done to it: messages, their deliveries, and the changes that touch them.

A `Change` happens whole or not at all. Whoever changes a delivery names the token of the lease under which it was
claimed, so that a worker that was given up for dead changes nothing, and reports nothing a second time.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from operator import attrgetter
from typing import Any, Literal, NamedTuple, NotRequired, TypedDict

from sqlalchemy import Connection, bindparam, delete, exists, insert, literal_column, select, update

from relay.mail.address import lookup_key
from relay.mail.envelope import TlsWish
from relay.mail.message import Message
from relay.queue import row_sets
from relay.queue.prepared import read_prepared, run_prepared
from relay.queue.schema import CHUNK, chunk, delivery, message
from relay.queue.stored_verdict import StoredVerdict

State = Literal["queued", "held", "dead"]


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """A message as the queue keeps it.

    Attributes:
        id: the integer behind the queue id.
        received: seconds since 1970.
        sender: the true sender, before any rewriting; empty for the null sender.
        trace: the fields that go on top of the content: Received, our loop marks, Authentication-Results.
        verdict: what is kept of its examination.
        tls: what the sender asks of TLS on the way (RFC 8689): REQUIRETLS is "require", `TLS-Required: No` is "no".
    """

    id: int
    received: float
    sender: str
    trace: bytes
    message: Message
    verdict: StoredVerdict
    smtputf8: bool = False
    ret: str = ""
    envid: str = ""
    tls: TlsWish = ""

    @property
    def is_own(self) -> bool:
        """Whether we wrote it: a notification, or a bounce that was rebuilt."""
        return self.verdict.own


class LastAttempt(TypedDict):
    """The outcome of a delivery's last attempt, as the queue stores it: see `mail.outcome.Outcome`.

    `at` is the time, in seconds since 1970; `status` is the enhanced status code. Where that is 4.4.1, `connected` says
    whether the host said so itself, or there was no connection to it. `policy` is the TLS policy that held, where a
    host was tried.
    """

    at: float
    code: int
    status: str
    text: str
    host: str
    address: str
    tls: str
    connected: NotRequired[bool]
    policy: NotRequired[str]


class DeliveryUpdate(TypedDict, total=False):
    """New values of a delivery that stays in the queue; what is missing stays as it is."""

    state: State
    attempts: int
    next_attempt: float
    warned: bool
    last: LastAttempt


@dataclass(frozen=True, slots=True)
class Delivery:
    """One recipient of one message on its way.

    Attributes:
        recipient: where it goes, after aliases.
        original: the address that the sender gave; all that reports ever show.
        hop: the key of its next hop (`queue.hop_keys`), by the configuration that the relay had when it last looked at
            the delivery. It is looked at again before an attempt (`deliver.current_hops`).
        srs: whether the route wants the sender rewritten.
        attempts: how many there were; `by_hand` of them because somebody asked for one before it was due.
        next_attempt: when it is due; the end of the lease while it is leased.
        expires: when it becomes undeliverable.
        last: the outcome of the last attempt, for the queue commands.
        held_until: when it is deleted, if the filter or an access table holds it and nobody releases it.
        hold_reason: why they hold it, or have held it before `queue hold` did.
    """

    message_id: int
    n: int
    recipient: str
    original: str
    hop: str = ""
    srs: bool = True
    notify: str = ""
    orcpt: str = ""
    state: State = "queued"
    attempts: int = 0
    next_attempt: float = 0.0
    expires: float = 0.0
    warned: bool = False
    lease_owner: str | None = None
    lease_token: int | None = None
    last: LastAttempt | None = None
    by_hand: int = 0
    held_until: float | None = None
    hold_reason: str | None = None

    @property
    def is_aliased(self) -> bool:
        """Whether it goes to another address than the sender gave."""
        return lookup_key(self.recipient) != lookup_key(self.original)

    @property
    def key(self) -> Key:
        """What changes to this delivery name; it must be leased."""
        assert self.lease_token is not None
        return Key(self.message_id, self.n, self.lease_token)


class Due(NamedTuple):
    """A delivery that waits for an attempt, as much of it as scheduling needs."""

    message_id: int
    n: int
    hop: str
    next_attempt: float


class Key(NamedTuple):
    """A delivery under a lease; a change with an outdated token changes nothing."""

    message_id: int
    n: int
    token: int


@dataclass(frozen=True, slots=True)
class Change:
    """What is to happen in one transaction, all of it or nothing.

    Attributes:
        arrived: messages to store; their deliveries are in `deliveries`. With `finished` or `updated` they report on
            these, and are not stored if all of those leases are lost.
        finished: deliveries that are over (delivered or bounced); a message goes with its last one.
        updated: (key, new column values) for deliveries that stay; their lease ends.
        durable: answer only after the sync. Without it the change can get lost with the power, not with the process.
    """

    arrived: Sequence[StoredMessage] = ()
    deliveries: Sequence[Delivery] = ()
    finished: Sequence[Key] = ()
    updated: Sequence[tuple[Key, DeliveryUpdate]] = ()
    durable: bool = True

    @property
    def octets(self) -> int:
        return sum(min(len(m.message.content), CHUNK) for m in self.arrived)


# The names of bound parameters must not be those of columns, which an UPDATE sets.
ONE = (delivery.c.message_id == bindparam("b_message"), delivery.c.n == bindparam("b_n"))
LEASED = (*ONE, delivery.c.lease_token == bindparam("b_token"))

_COLUMNS = tuple(column.name for column in delivery.columns)
_values = attrgetter(*_COLUMNS)
_STORE_MESSAGE = insert(message)
_STORE_DELIVERY = insert(delivery)
_STILL_LEASED = select(delivery.c.n).where(*LEASED)
_REKEY = update(delivery).where(*ONE, delivery.c.state == "queued", delivery.c.next_attempt == bindparam("b_seen"))
_FINISH = delete(delivery).where(*LEASED)
_UPDATE = update(delivery).where(*LEASED).values(lease_owner=None, lease_token=None)
_FORGET_MESSAGE = delete(message).where(
    message.c.id == bindparam("b_message"),
    ~exists().where(delivery.c.message_id == bindparam("b_message")),
)
_HAS_PIECES = select(chunk.c.message_id).where(
    chunk.c.message_id == bindparam("b_message"),
    chunk.c.n == literal_column("1"),
    ~exists().where(message.c.id == bindparam("b_message")),
)


def carry_out(connection: Connection, changes: Iterable[Change]) -> Collection[int]:
    """Make all these changes in the transaction at hand; returns which messages left content behind, see `forget`."""
    changes = [c for c in changes if not _reports_on_nothing(connection, c)]
    arrived = [_message_row(m) for c in changes for m in c.arrived]
    if arrived:
        run_prepared(connection, _STORE_MESSAGE, arrived)
    deliveries = [_delivery_row(d) for c in changes for d in c.deliveries]
    if deliveries:
        run_prepared(connection, _STORE_DELIVERY, deliveries)
    finished = sorted({k for c in changes for k in c.finished})
    left: Collection[int] = ()
    if finished:
        _finish(connection, finished)
        left = forget(connection, {k.message_id for k in finished})
    for columns, rows in _by_columns(u for c in changes for u in c.updated).items():
        connection.execute(_UPDATE.values({name: bindparam("v_" + name) for name in columns}), rows)
    return left


def _finish(connection: Connection, keys: Sequence[Key]) -> None:
    if connection.dialect.name == "postgresql":
        row_sets.finish(connection, keys)
    else:
        run_prepared(connection, _FINISH, map(parameters, keys))


def forget(connection: Connection, message_ids: Collection[int]) -> Collection[int]:
    """Delete those messages that have no delivery left.

    Returns:
        Those whose content may have pieces (`relay.queue.large_content`), which are to be deleted after the
        transaction.
    """
    if not message_ids:
        return ()
    if connection.dialect.name == "postgresql":
        return row_sets.forget(connection, message_ids)
    rows = [{"b_message": message_id} for message_id in sorted(message_ids)]
    run_prepared(connection, _FORGET_MESSAGE, rows)
    return [message_id for [message_id] in read_prepared(connection, _HAS_PIECES, rows)]


def rekey(changed: Sequence[Due], connection: Connection) -> None:
    """Give due deliveries the keys that stand here. One that was leased or deferred since keeps its own."""
    rows = [{"b_message": d.message_id, "b_n": d.n, "b_seen": d.next_attempt, "b_hop": d.hop} for d in changed]
    connection.execute(_REKEY.values(hop=bindparam("b_hop")), rows)


def parameters(key: Key) -> dict[str, int]:
    """The values that `LEASED` waits for."""
    return {"b_message": key.message_id, "b_n": key.n, "b_token": key.token}


def _reports_on_nothing(connection: Connection, change: Change) -> bool:
    if not change.arrived or not (change.finished or change.updated):
        return False
    keys = [*change.finished, *(key for key, _ in change.updated)]
    return all(connection.execute(_STILL_LEASED, parameters(key)).first() is None for key in keys)


def _by_columns(updates: Iterable[tuple[Key, DeliveryUpdate]]) -> dict[tuple[str, ...], list[dict[str, Any]]]:
    grouped: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for key, values in updates:
        row = parameters(key) | {"v_" + name: value for name, value in values.items()}
        grouped.setdefault(tuple(sorted(values)), []).append(row)
    return grouped


def _message_row(stored: StoredMessage) -> dict[str, Any]:
    return {
        "id": stored.id,
        "received": stored.received,
        "sender": stored.sender,
        "size": len(stored.message.content),
        "body_hash": stored.message.relaxed_body_hash,
        "smtputf8": stored.smtputf8,
        "ret": stored.ret,
        "envid": stored.envid,
        "tls": stored.tls,
        "verdict": _verdict_text(stored.verdict),
        "trace": stored.trace,
        "content": stored.message.content[:CHUNK],
    }


@lru_cache(256)  # the mail of one sender has the same
def _verdict_text(verdict: StoredVerdict) -> str:
    return json.dumps(verdict.to_json())


def _delivery_row(d: Delivery) -> dict[str, Any]:
    row = dict(zip(_COLUMNS, _values(d), strict=True))
    row["last"] = "null" if d.last is None else json.dumps(d.last)
    return row

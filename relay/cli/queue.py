"""`srs-relay queue …`: lists, shows and changes the deliveries in the queue, also while the relay runs."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar

import typer

from relay.cli.author import author
from relay.cli.errors import CommandFailed
from relay.cli.options import ConfigFile
from relay.config.file import load
from relay.config.model import Config
from relay.deliver.next_hop import NextHops
from relay.mail.outcome import NO_CONNECTION
from relay.mail.visible import visible
from relay.queue import admin, database
from relay.queue.admin import STATES, Selector
from relay.queue.connect import connect
from relay.queue.database import Database
from relay.queue.retry_schedule import RetrySchedule

T = TypeVar("T")

app = typer.Typer(no_args_is_help=True, help="The queue: list, show, retry, hold, release and drop deliveries.")

Json = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]
Ids = Annotated[list[str] | None, typer.Argument(metavar="ID", help="Queue ids; ID/N means one recipient.")]
All = Annotated[bool, typer.Option("--all", help="Every delivery in the queue.")]


@app.command("list")
def list_(
    config: ConfigFile = None,
    state: Annotated[
        str | None, typer.Option(metavar="|".join(STATES), help="Only the deliveries in this state.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Every delivery that waits, the oldest message first."""

    only = next((known for known in STATES if known == state), None)
    if state is not None and only is None:
        raise typer.BadParameter(f"{state!r} is not one of {', '.join(STATES)}", param_hint="--state")

    loaded = load(config)

    async def show(queue: Database) -> None:
        rows = _with_hops(admin.rows(queue, only), NextHops(loaded))
        await (_print_json_list(rows) if as_json else _print_list(rows))

    _run(loaded, show)


async def _with_hops(rows: AsyncIterator[dict[str, Any]], next_hops: NextHops) -> AsyncIterator[dict[str, Any]]:
    async for row in rows:
        yield _with_hop(row, next_hops)


def _with_hop(row: dict[str, Any], next_hops: NextHops) -> dict[str, Any]:
    """A delivery with the next hop that it goes to by the configuration, whatever it was when it was stored."""
    return row | {"next_hop": next_hops.of(row["recipient"]).key}


@app.command()
def show(
    queue_id: Annotated[str, typer.Argument(metavar="ID", help="A queue id, or ID/N for one recipient.")],
    config: ConfigFile = None,
    why: Annotated[bool, typer.Option("--why", help="Only why it waits: the last reply and the next try.")] = False,
    as_json: Json = False,
) -> None:
    """One message and its deliveries."""
    selector = _selector(queue_id)
    loaded = load(config)
    rows = _run(loaded, lambda q: admin.show(q, selector))
    rows = [_with_hop(row, NextHops(loaded)) for row in rows]
    if not rows:
        raise CommandFailed(f"{queue_id}: not in the queue; see `srs-relay queue list`")
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    if not why:
        first = rows[0]
        sender = visible(first["sender"])
        print(f"{first['id']}  from <{sender}>  {first['size']} octets  received {_date(first['received'])}")
        print(f"checks: {visible(_checks(first['verdict']))}")
        if wish := _WISHES.get(first["tls_wish"]):
            print(f"asks for: {wish}")
    for row in rows:
        print("\n".join(_reasons(row)))


@app.command()
def retry(ids: Ids = None, config: ConfigFile = None, everything: All = False, as_json: Json = False) -> None:
    """Try deliveries again now; dead ones come back to life. The pauses between later attempts stay as they were."""
    loaded, now, by = load(config), time.time(), author()
    _act(
        "to be tried now",
        lambda q, s: admin.retry(q, s, now, loaded.queue.retry_for, by),
        loaded,
        ids,
        everything,
        as_json,
    )


@app.command()
def hold(ids: Ids = None, config: ConfigFile = None, everything: All = False, as_json: Json = False) -> None:
    """Keep deliveries in the queue without trying them, and without an end."""
    by = author()
    _act("held", lambda q, s: admin.hold(q, s, by), load(config), ids, everything, as_json)


@app.command()
def release(ids: Ids = None, config: ConfigFile = None, everything: All = False, as_json: Json = False) -> None:
    """Let held deliveries go on."""
    loaded, by = load(config), author()
    times = loaded.queue
    patience = RetrySchedule(times.retry_min, times.retry_max, times.retry_for, times.bounce_retry_for)
    _act("released", lambda q, s: admin.release(q, s, time.time(), patience, by), loaded, ids, everything, as_json)


@app.command()
def drop(
    ids: Ids = None,
    config: ConfigFile = None,
    everything: All = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before --all.")] = False,
    as_json: Json = False,
) -> None:
    """Delete deliveries; nobody is told. With --all it asks first."""
    loaded, by = load(config), author()
    if everything and not ids and not yes:
        _ask_before_dropping(_run(loaded, admin.count))
    _act("dropped", lambda q, s: admin.drop(q, s, by), loaded, ids, everything, as_json)


def _ask_before_dropping(count: int) -> None:
    """Ask whether the whole queue is meant.

    Raises:
        CommandFailed: there is no terminal to ask on.
        typer.Abort: the answer is no.
    """
    if not count:
        return
    if not sys.stdin.isatty():
        raise CommandFailed(f"drop --all would delete {_deliveries(count)}, and tell nobody: add --yes to do it")
    typer.confirm(f"Delete {_deliveries(count)}, and tell nobody?", abort=True, err=True)


def _selector(given: str) -> Selector:
    try:
        return Selector.parse(given)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def _act(
    done: str,
    act: Callable[[Database, Sequence[Selector]], Coroutine[None, None, int]],
    config: Config,
    ids: list[str] | None,
    everything: bool,
    as_json: bool,
) -> None:
    """Apply a command to each id, or to everything, and print how many deliveries it changed.

    Args:
        done: what was done, for the line that is printed.

    Raises:
        CommandFailed: some ids have no delivery that can be changed; the others are done.
    """
    if bool(ids) == everything:
        raise typer.BadParameter("name queue ids, or --all")
    selectors = {given: [_selector(given)] for given in ids or ()} or {"": []}
    absent: list[str] = []
    unfit: list[str] = []

    async def each(queue: Database) -> int:
        total = 0
        for given, selected in selectors.items():
            there = not selected or await admin.present(queue, selected[0])  # before a drop
            count = await act(queue, selected)
            total += count
            if given and not count:
                (unfit if there else absent).append(given)
        return total

    total = _run(config, each)
    print(json.dumps({"deliveries": total}) if as_json else f"{_deliveries(total)} {done}")
    problems = [f"{', '.join(absent)}: not in the queue"] if absent else []
    if unfit:
        problems.append(f"{', '.join(unfit)}: no delivery in a state for that")
    if problems:
        raise CommandFailed("\n".join(f"{problem}; see `srs-relay queue list`" for problem in problems))


def _run(config: Config, work: Callable[[Database], Coroutine[None, None, T]]) -> T:
    if not config.takes_mail:
        raise CommandFailed("there is no queue, because the configuration has no [[listen]]")

    async def run() -> T:
        queue = await connect(config.queue.url, create=False)
        try:
            return await work(queue)
        finally:
            await queue.close()

    try:
        return asyncio.run(run())
    except database.QueueUnavailable as error:
        raise CommandFailed(str(error)) from None


async def _print_list(rows: AsyncIterator[dict[str, Any]]) -> None:
    count = 0
    async for row in rows:
        if not count:
            print(f"{'ID/N':<15} {'STATE':<7} {'AGE':>6} {'SIZE':>9}  SENDER -> RECIPIENT")
        count += 1
        print(_line(row))
    print(_deliveries(count) if count else "no deliveries")


async def _print_json_list(rows: AsyncIterator[dict[str, Any]]) -> None:
    separator = "["
    async for row in rows:
        sys.stdout.write(separator + json.dumps(row))
        separator = ",\n "
    sys.stdout.write("]\n" if separator != "[" else "[]\n")


_WISHES = {
    "require": "TLS all the way (REQUIRETLS)",
    "prefer": "TLS all the way, where the hosts can (REQUIRETLS of a bounce)",
    "no": "delivery without TLS, where it does not work (TLS-Required: No)",
}


def _deliveries(count: int) -> str:
    return f"{count} {'delivery' if count == 1 else 'deliveries'}"


def _line(row: dict[str, Any]) -> str:
    name = f"{row['id']}/{row['n']}"
    age = _span(time.time() - row["received"])
    envelope = visible(f"<{row['sender']}> -> <{row['recipient']}>")
    lines = [f"{name:<15} {row['state']:<7} {age:>6} {row['size']:>9}  {envelope}"]
    if row["last"]:
        lines.append(f"{'':<15} {_reply(row['last'])}")
    if held := _held(row):
        lines.append(f"{'':<15} {held}")
    return "\n".join(lines)


def _held(row: dict[str, Any]) -> str:
    """Why the filter or an access table holds a delivery, and how long; empty for all others."""
    if row["hold_reason"] is None:
        return ""
    end = "" if row["held_until"] is None else f"; deleted {_date(row['held_until'])}"
    return visible(f"held by {row['hold_reason']}{end}")


def _checks(verdict: Mapping[str, Any]) -> str:
    """The results of the checks in one line, without those that are empty."""
    shown = {name: value for name, value in verdict.items() if isinstance(value, str | bool) and value != ""}
    return ", ".join(
        f"{name}={str(value).lower() if value in (True, False) else value}" for name, value in shown.items()
    )


def _reasons(row: dict[str, Any]) -> list[str]:
    target = f"<{row['original_recipient']}>"
    if row["recipient"] != row["original_recipient"]:
        target += f" -> <{row['recipient']}>"
    lines = [visible(f"{row['id']}/{row['n']}  {row['state']}  {target} via {row['next_hop']}")]
    last = row["last"]
    if last:
        lines.append(f"  last try {_date(last['at'])}: {_reply(last)}")
        where = " ".join(part for part in (last["host"], f"[{last['address']}]" if last["address"] else "") if part)
        if where:
            policy = f", policy {last['policy']}" if last.get("policy") else ""
            lines.append(visible(f"  at {where}, {_connection(last)}{policy}"))
    if row["next_attempt"] is not None:
        wait = max(0.0, row["next_attempt"] - time.time())
        lines.append(f"  next try {_date(row['next_attempt'])} (in {_span(wait)}), attempt {row['attempts'] + 1}")
    if held := _held(row):
        lines.append(f"  {held}")
    if row["state"] in ("queued", "active"):
        lines.append(f"  given up {_date(row['expires'])}")
    return lines


def _connection(last: dict[str, Any]) -> str:
    """How the host of the last attempt was reached: by TLS, in clear, or not at all."""
    if not last.get("connected", last["status"] != NO_CONNECTION):  # older releases have stored the status alone
        return "no connection"
    failed = last["status"].endswith(".7.5")  # the handshake: RFC 3463 section 3.8
    return last["tls"] or ("TLS failed" if failed else "in clear")


def _reply(last: dict[str, Any]) -> str:
    return visible(" ".join(str(part) for part in (last["code"], last["status"], last["text"]) if part))


def _date(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _span(seconds: float) -> str:
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= length:
            return f"{seconds / length:.1f}{unit}"
    return f"{seconds:.0f}s"

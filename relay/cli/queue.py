"""`srs-relay queue …`: what waits, why it waits, and what to do about it; also while the relay runs."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar

import typer

from relay.cli.errors import Failure
from relay.cli.options import ConfigFile
from relay.config import Config
from relay.config_file import load
from relay.queue import admin, database
from relay.queue.admin import Selector
from relay.queue.change import State
from relay.queue.database import Database

T = TypeVar("T")

app = typer.Typer(no_args_is_help=True, help="The queue: list, show, retry, hold, release and drop deliveries.")

Json = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]
Ids = Annotated[list[str] | None, typer.Argument(metavar="[ID…]", help="Queue ids; ID/N means one recipient.")]
All = Annotated[bool, typer.Option("--all", help="Every delivery in the queue.")]


@app.command("list")
def list_(
    config: ConfigFile = None,
    state: Annotated[State | None, typer.Option(help="Only the deliveries in this state.")] = None,
    as_json: Json = False,
) -> None:
    """Every delivery that waits, the oldest message first."""

    async def show(queue: Database) -> None:
        found = admin.rows(queue, state)
        await (_print_json_list(found) if as_json else _print_list(found))

    _run(load(config), show)


@app.command()
def show(
    queue_id: Annotated[str, typer.Argument(metavar="ID", help="A queue id, or ID/N for one recipient.")],
    config: ConfigFile = None,
    why: Annotated[bool, typer.Option("--why", help="Only why it waits: the last reply and the next try.")] = False,
    as_json: Json = False,
) -> None:
    """One message and its deliveries."""
    selector = _selectors([queue_id], False)[0]
    rows = _run(load(config), lambda q: admin.show(q, selector))
    if not rows:
        raise Failure(f"{queue_id}: not in the queue")
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    if not why:
        first = rows[0]
        print(f"{first['id']}  from <{first['sender']}>  {first['size']} octets  received {_date(first['received'])}")
        checks = ", ".join(f"{k}={v}" for k, v in first["verdict"].items() if v not in ("", None))
        print(f"checks: {checks}")
    for row in rows:
        print("\n".join(_reasons(row)))


@app.command()
def retry(ids: Ids = None, config: ConfigFile = None, everything: All = False, as_json: Json = False) -> None:
    """Try deliveries again now; dead ones come back to life."""
    selectors, loaded = _selectors(ids, everything), load(config)
    count = _run(loaded, lambda q: admin.retry(q, selectors, time.time(), loaded.queue.retry_for))
    _report("to be tried now", count, as_json, selectors)


@app.command()
def hold(ids: Ids = None, config: ConfigFile = None, everything: All = False, as_json: Json = False) -> None:
    """Keep deliveries in the queue without trying them."""
    selectors = _selectors(ids, everything)
    _report("held", _run(load(config), lambda q: admin.hold(q, selectors)), as_json, selectors)


@app.command()
def release(ids: Ids = None, config: ConfigFile = None, everything: All = False, as_json: Json = False) -> None:
    """Let held deliveries go on."""
    selectors = _selectors(ids, everything)
    _report("released", _run(load(config), lambda q: admin.release(q, selectors, time.time())), as_json, selectors)


@app.command()
def drop(ids: Ids = None, config: ConfigFile = None, everything: All = False, as_json: Json = False) -> None:
    """Delete deliveries; nobody is told."""
    selectors = _selectors(ids, everything)
    _report("dropped", _run(load(config), lambda q: admin.drop(q, selectors)), as_json, selectors)


def _selectors(ids: list[str] | None, everything: bool) -> list[Selector]:
    if bool(ids) == everything:
        raise typer.BadParameter("name queue ids, or --all")
    try:
        return [Selector.parse(given) for given in ids or ()]
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def _run(config: Config, work: Callable[[Database], Coroutine[None, None, T]]) -> T:
    async def run() -> T:
        queue = await database.connect(config.queue.url, create=False)
        try:
            return await work(queue)
        finally:
            await queue.close()

    try:
        return asyncio.run(run())
    except database.QueueUnavailable as error:
        raise Failure(str(error)) from None


def _report(done: str, count: int, as_json: bool, selectors: list[Selector]) -> None:
    if as_json:
        print(json.dumps({"deliveries": count}))
    elif not count and selectors:
        raise Failure("no such delivery in a state for that; see `srs-relay queue list`")
    else:
        print(f"{_deliveries(count)} {done}")


async def _print_list(found: AsyncIterator[dict[str, Any]]) -> None:
    count = 0
    async for row in found:
        if not count:
            print(f"{'ID/N':<15} {'STATE':<7} {'AGE':>6} {'SIZE':>9}  SENDER -> RECIPIENT")
        count += 1
        print(_line(row))
    print(_deliveries(count) if count else "no deliveries")


async def _print_json_list(found: AsyncIterator[dict[str, Any]]) -> None:
    separator = "["
    async for row in found:
        sys.stdout.write(separator + json.dumps(row))
        separator = ",\n "
    sys.stdout.write("]\n" if separator != "[" else "[]\n")


def _deliveries(count: int) -> str:
    return f"{count} {'delivery' if count == 1 else 'deliveries'}"


def _line(row: dict[str, Any]) -> str:
    name = f"{row['id']}/{row['n']}"
    age = _span(time.time() - row["received"])
    line = f"{name:<15} {row['state']:<7} {age:>6} {row['size']:>9}  <{row['sender']}> -> <{row['recipient']}>"
    last = row["last"]
    return f"{line}\n{'':<15} {_reply(last)}" if last else line


def _reasons(row: dict[str, Any]) -> list[str]:
    target = f"<{row['original_recipient']}>"
    if row["recipient"] != row["original_recipient"]:
        target += f" -> <{row['recipient']}>"
    lines = [
        f"{row['id']}/{row['n']}  {row['state']}  {target}" + (f" via {row['next_hop']}" if row["next_hop"] else "")
    ]
    last = row["last"]
    if last:
        lines.append(f"  last try {_date(last['at'])}: {_reply(last)}")
        where = " ".join(part for part in (last["host"], f"[{last['address']}]" if last["address"] else "") if part)
        if where:
            lines.append(f"  at {where}, {last['tls'] or 'in clear'}")
    if row["next_attempt"] is not None:
        wait = max(0.0, row["next_attempt"] - time.time())
        lines.append(f"  next try {_date(row['next_attempt'])} (in {_span(wait)}), attempt {row['attempts'] + 1}")
    if row["state"] in ("queued", "active"):
        lines.append(f"  given up {_date(row['expires'])}")
    return lines


def _reply(last: dict[str, Any]) -> str:
    return " ".join(str(part) for part in (last["code"], last["status"], last["text"]) if part)


def _date(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _span(seconds: float) -> str:
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= length:
            return f"{seconds / length:.1f}{unit}"
    return f"{seconds:.0f}s"

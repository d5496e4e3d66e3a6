"""The log events of the program, read from its source: the name, the levels and the fields of each."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import get_args

from relay.deliver.settlement import EventName
from relay.receive.command_counts import VERBS

SOURCE = Path(__file__).parents[2] / "relay"
LEVELS = {"debug", "info", "warning", "error", "critical", "exception"}
SHOWN = {"sender": "from", "recipient": "to"}  # `log.lines` renames these
UNNAMED = {  # names that are no literals, and `**` of what a function returns
    "event.name": get_args(EventName),
    "self._counts.fields()": (*(verb.lower() for verb in VERBS), "commands"),
}
ELSEWHERE = {  # lines that are not written by a logger of their module, or by its general methods
    "log": ({"warning"}, {"lost"}),
    "library": ({"warning", "error"}, {"logger", "message"}),
}


@dataclass
class Event:
    """What the source has of one event."""

    levels: set[str] = field(default_factory=set)
    fields: set[str] = field(default_factory=set)


@cache
def logged_events() -> dict[str, Event]:
    """Every event by its name."""
    events = {name: Event(set(levels), set(fields)) for name, (levels, fields) in ELSEWHERE.items()}
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in sorted(SOURCE.rglob("*.py"))]
    lent = _lent(trees)
    for tree in trees:
        bound = _bound(tree)
        for call in ast.walk(tree):
            if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.args):
                continue
            logger = ast.unparse(call.func.value)
            if call.func.attr not in LEVELS or logger == "self":
                continue
            fields = bound[logger] if logger in bound else lent[logger.removeprefix("self.").removeprefix("_")]
            for name in _names(call.args[0]):
                event = events.setdefault(name, Event())
                event.levels.add("error" if call.func.attr == "exception" else call.func.attr)
                event.fields |= {SHOWN.get(name, name) for name in (*_keywords(call), *fields)}
    return events


def _names(event: ast.expr) -> Iterator[str]:
    if isinstance(event, ast.Constant):
        yield str(event.value)
    elif isinstance(event, ast.IfExp):
        yield from _names(event.body)
        yield from _names(event.orelse)
    else:
        yield from UNNAMED[ast.unparse(event)]


def _keywords(call: ast.Call) -> Iterator[str]:
    for keyword in call.keywords:
        if keyword.arg == "exc_info":
            continue
        if keyword.arg is not None:
            yield keyword.arg
        elif isinstance(keyword.value, ast.Dict):
            yield from (str(ast.literal_eval(key)) for key in keyword.value.keys if key is not None)
        else:
            yield from UNNAMED[ast.unparse(keyword.value)]


def _bound(tree: ast.AST) -> dict[str, set[str]]:
    """The fields that a logger of a module has by `bind`."""
    found: dict[str, set[str]] = {"log": set(), "structlog.get_logger()": set()}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call):
            call = node.value
            if isinstance(call.func, ast.Attribute) and call.func.attr == "bind":
                before = found.get(ast.unparse(call.func.value), set())
                found[ast.unparse(node.targets[0])] = {*before, *_keywords(call)}
    return found


def _lent(trees: list[ast.Module]) -> dict[str, set[str]]:
    """The fields of the loggers that objects lend to others, by the name of the class: that of a `Connection` is
    `connection.log`."""
    return {
        f"{node.name.lower()}.log": _bound(node)["self.log"]
        for tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef) and "self.log" in _bound(node)
    }

"""Log lines: an event and its fields as one JSON object, or as one line for a terminal.

Message content and secrets are kept out: octets are shown by their number only, tracebacks have no local variables, and
passwords are blanked.
"""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from types import TracebackType
from typing import Any

import orjson
import structlog
from structlog.tracebacks import ExceptionDictTransformer
from structlog.typing import EventDict, WrappedLogger

from relay.mail.visible import quoted, visible

_HIDDEN = frozenset({"authorization", "password", "private_key", "secret", "secrets"})
_LEADING = (("id", "id"), ("sender", "from"), ("recipient", "to"), ("to", "to"))
_URL_PASSWORD = re.compile(rb'(://[^\s:/@"]*:)[^\s/@"]+(?=@)')
_TO_QUOTE = re.compile(r'[\s"\\=<>]')  # ends a value on the terminal, or makes two of it
_MESSAGE_ID = re.compile(r"<[!#-;=?-\[\]-~]+>")  # an ordinary one, which brings its own angle brackets
_DIM, _RED, _YELLOW, _RESET = "\x1b[2m", "\x1b[31m", "\x1b[33m", "\x1b[0m"

_ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None]
Render = Callable[[WrappedLogger, str, EventDict], bytes]


def _arrange(event: EventDict, line: EventDict) -> None:
    """Adds the fields to a line: queue id and envelope (`from`, `to`) first. None is left out, secrets are blanked.

    Recipients are a list on every line, also a single one.
    """
    for name, shown in _LEADING:
        if name in event:
            value = event.pop(name)
            line[shown] = [value] if shown == "to" and isinstance(value, str) else value
    for name, value in event.items():
        if value is not None:
            line[name] = value
    if not _HIDDEN.isdisjoint(line):
        line.update(dict.fromkeys(_HIDDEN & line.keys(), "[hidden]"))


def _exception(info: Any) -> _ExcInfo | None:
    """The exception of `exc_info`: an exception, the triple of `sys.exc_info`, or True for the one being handled."""
    if isinstance(info, BaseException):
        return type(info), info, info.__traceback__
    if not isinstance(info, tuple):
        info = sys.exc_info() if info else (None, None, None)
    return info if info[1] is not None else None


def _plain(value: object) -> object:
    """A JSON form of other values: the number of octets, a time in ISO 8601, a list of a set, otherwise text."""
    if isinstance(value, bytes | bytearray | memoryview):
        return f"[{len(value)} octets]"
    if isinstance(value, datetime):
        return value.isoformat()
    return sorted(map(str, value)) if isinstance(value, set | frozenset) else str(value)


def _without_passwords(line: bytes) -> bytes:
    """The line with the passwords in all its URLs blanked."""
    return _URL_PASSWORD.sub(rb"\1***", line) if b"://" in line else line


# JSON: non-ASCII and control characters are escaped, so that every line is printable ASCII.

_escape = json.JSONEncoder(separators=(",", ":"), skipkeys=True, default=_plain).encode
_frames = ExceptionDictTransformer(show_locals=False, max_frames=20)


def _encode(line: EventDict) -> bytes:
    """The line as JSON. Nearly every line is ASCII, which orjson encodes in a fraction of the time of `json`."""
    try:
        text = orjson.dumps(line, default=_plain, option=orjson.OPT_PASSTHROUGH_DATACLASS)
        if text.isascii():
            return text
    except orjson.JSONEncodeError:  # a number over 64 bits, half a surrogate pair, a name that is no text
        pass
    return _escape(line).encode("ascii")


def json_line(_: WrappedLogger, level: str, event: EventDict) -> bytes:
    """A line as one JSON object."""
    line: EventDict = {"time": datetime.now(UTC), "level": level, "event": event.pop("event")}
    exception = _exception(event.pop("exc_info")) if "exc_info" in event else None
    _arrange(event, line)
    if exception is not None:
        line["exception"] = _frames(exception)
    return _without_passwords(_encode(line)).replace(b"\x7f", b"\\u007f") + b"\n"


# The terminal: `12:00:01 4F7K queued from=<a@b> to=<c@d> size=123`, in local time.


def console(*, colour: bool) -> Render:
    """Makes the function that writes lines for a terminal."""
    dim, reset = (_DIM, _RESET) if colour else ("", "")
    marks = {"warning": _YELLOW, "error": _RED, "critical": _RED} if colour else {}

    def render(_: WrappedLogger, level: str, event: EventDict) -> bytes:
        step, queue_id = visible(str(event.pop("event"))), visible(str(event.pop("id", "")))
        exception = _exception(event.pop("exc_info", None))
        arranged: EventDict = {}
        _arrange(event, arranged)
        fields = [f"{name}={_console_value(name, value)}" for name, value in arranged.items() if _is_shown(name, value)]
        if level not in ("debug", "info"):
            fields.insert(0, f"{marks.get(level, '')}{level}{reset}")
        clock = dim + time.strftime("%H:%M:%S") + reset
        line = f"{clock} {queue_id:<12} {step:<13} {' '.join(fields)}".rstrip()
        if exception is not None:
            trace = structlog.processors.format_exc_info(None, level, {"exc_info": exception})["exception"]
            line += "".join("\n    | " + visible(row) for row in trace.splitlines())  # no row looks like a line
        return _without_passwords(line.encode()) + b"\n"

    return render


def _is_shown(name: str, value: object) -> bool:
    """Whether the terminal shows a field: not where it is empty, but for the null sender."""
    return name == "from" or not (isinstance(value, str | list | tuple | dict) and not value)


def _console_value(name: str, value: object) -> str:
    """A value that cannot be taken for another one or for another field.

    Where it could, it stands between quotes, with `"` and `\\` escaped. Other envelope addresses stand between `<`
    and `>`.
    """
    if isinstance(value, list | tuple):
        return ",".join(_list_item(name, item) for item in value)
    if isinstance(value, bool):
        return "true" if value else "false"
    text = value if isinstance(value, str) else str(_plain(value))
    if name == "message_id" and _MESSAGE_ID.fullmatch(text):
        return text
    address = name in ("from", "to") and isinstance(value, str)
    risky = _TO_QUOTE.search(text.replace("=", "") if address else text) or visible(text) != text
    if risky or not (text or address):
        return quoted(text)
    return f"<{text}>" if address else text


def _list_item(name: str, item: object) -> str:
    """An item of a list, which is quoted also where it holds a comma."""
    text = _console_value(name, item)
    return quoted(str(item)) if "," in text and text[0] not in '"<' else text

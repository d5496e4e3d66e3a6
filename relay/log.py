"""The log: one line for each step of a message, readable on a terminal and one JSON object a line elsewhere.

Every stage writes through `structlog.get_logger()`, with the queue id bound as `id` once there is one, and names its
step as the event (connect, mail, rcpt, data, authenticated, queued, attempt, delivered, deferred, bounced). What
libraries say through `logging` comes the same way. Message content and secrets stay out: octets are shown by their
number only, tracebacks carry no local variables, and passwords are blanked.

A line is written at once as long as the reader keeps up, so that a killed process has nothing left to say. A reader
that stalls would stop the event loop of every worker; from then on lines wait in a bounded backlog that a thread
writes, and past its bound they are dropped and counted: the log gives way, the mail does not.
"""

from __future__ import annotations

import atexit
import json
import logging
import os
import re
import select
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Literal, TextIO

import orjson
import structlog
from structlog.tracebacks import ExceptionDictTransformer
from structlog.typing import EventDict, WrappedLogger

from relay.mail.visible import quoted, visible

BACKLOG_OCTETS = 8 * 2**20  # some 40,000 lines: seconds of the fullest load, hours of an ordinary one

_HIDDEN = frozenset({"authorization", "password", "private_key", "secret", "secrets"})
_LEADING = (("id", "id"), ("sender", "from"), ("recipient", "to"), ("to", "to"))
_URL_PASSWORD = re.compile(rb'(://[^\s:/@"]*:)[^\s/@"]+(?=@)')
_TO_QUOTE = re.compile(r'[\s"\\=<>]')  # in a value on the terminal: what ends it, or makes two of it
_DIM, _RED, _YELLOW, _RESET = "\x1b[2m", "\x1b[31m", "\x1b[33m", "\x1b[0m"

_ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None]
_Render = Callable[[WrappedLogger, str, EventDict], bytes]


def configure(
    format: Literal["auto", "console", "json"] = "auto",
    level: Literal["debug", "info", "warning", "error"] = "info",
    stream: TextIO | None = None,
    *,
    for_good: bool = False,
) -> None:
    """Send the log to a stream, standard output if none is named; `auto` is `console` on a terminal, else `json`.

    May be called again, for a new level or in a forked worker (which must: the thread of a backlog does not survive a
    fork), unless it was `for_good`: then each logger keeps what it found at its first use, and saves the look-up.
    Uncaught exceptions of every thread are logged from here on.
    """
    global _sink
    stream = sys.stdout if stream is None else stream
    terminal = stream.isatty()
    if format == "console" or (format == "auto" and terminal):
        render = _console(colour=terminal and "NO_COLOR" not in os.environ)
    else:
        render = _json_line
    _sink = sink = Sink(stream, lambda lost: render(None, "warning", {"event": "log", "lost": lost}))
    structlog.configure(
        processors=[render],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda *_: sink,
        cache_logger_on_first_use=for_good,
    )
    logging.captureWarnings(True)
    logging.root.handlers = [_Library()]
    logging.root.setLevel(logging.WARNING)  # below that, libraries print statements and whole messages
    sys.excepthook = _uncaught
    threading.excepthook = lambda args: _uncaught(args.exc_type, args.exc_value, args.exc_traceback)


def _uncaught(kind: type[BaseException], error: BaseException | None, traceback: TracebackType | None) -> None:
    if error is None or issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error or kind(), traceback)
    else:
        structlog.get_logger().critical("uncaught", exc_info=(kind, error, traceback))


class _Library(logging.Handler):
    """Records of the standard library's logging, as the event `library`."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            message = record.getMessage()
        except (TypeError, ValueError):  # the caller's format does not fit its arguments
            message = str(record.msg)
        level = min(record.levelno // 10 * 10, logging.CRITICAL)
        structlog.get_logger().log(level, "library", logger=record.name, message=message, exc_info=record.exc_info)


def _arrange(event: EventDict, line: EventDict) -> None:
    """Adds the fields to a line: queue id and envelope (`from`, `to`) first, what is None left out, and what a log must
    not hold blanked."""
    for name, shown in _LEADING:
        if name in event:
            line[shown] = event.pop(name)
    for name, value in event.items():
        if value is not None:
            line[name] = value
    if not _HIDDEN.isdisjoint(line):
        line.update(dict.fromkeys(_HIDDEN & line.keys(), "[hidden]"))


def _exception(info: Any) -> _ExcInfo | None:
    """What `exc_info` means: an exception, the triple of `sys.exc_info`, or True for the one being handled."""
    if isinstance(info, BaseException):
        return type(info), info, info.__traceback__
    if not isinstance(info, tuple):
        info = sys.exc_info() if info else (None, None, None)
    return info if info[1] is not None else None


def _plain(value: object) -> object:
    """What JSON has no form for: octets by their number, a time in ISO 8601, sets as lists, anything else as text."""
    if isinstance(value, bytes | bytearray | memoryview):
        return f"[{len(value)} octets]"
    if isinstance(value, datetime):
        return value.isoformat()
    return sorted(map(str, value)) if isinstance(value, set | frozenset) else str(value)


def _without_passwords(line: bytes) -> bytes:
    """The password in a URL never shows, wherever in a line the URL stands."""
    return _URL_PASSWORD.sub(rb"\1***", line) if b"://" in line else line


# JSON: non-ASCII and control characters leave as its escapes, so that every line is printable ASCII.

_escape = json.JSONEncoder(separators=(",", ":"), skipkeys=True, default=_plain).encode
_frames = ExceptionDictTransformer(show_locals=False, max_frames=20)


def _encode(line: EventDict) -> bytes:
    """Nearly every line is plain ASCII, which orjson writes in a fraction of the time that `json` takes."""
    try:
        text = orjson.dumps(line, default=_plain, option=orjson.OPT_PASSTHROUGH_DATACLASS)
        if text.isascii():
            return text
    except orjson.JSONEncodeError:  # a number past 64 bits, half a surrogate pair, a name that is no text
        pass
    return _escape(line).encode("ascii")


def _json_line(_: WrappedLogger, level: str, event: EventDict) -> bytes:
    line: EventDict = {"time": datetime.now(UTC), "level": level, "event": event.pop("event")}
    exception = _exception(event.pop("exc_info", None))
    _arrange(event, line)
    if exception is not None:
        line["exception"] = _frames(exception)
    return _without_passwords(_encode(line)).replace(b"\x7f", b"\\u007f") + b"\n"


# The terminal: `12:00:01 4F7K queued from=<a@b> to=<c@d> size=123`, in local time.


def _console(*, colour: bool) -> _Render:
    dim, reset = (_DIM, _RESET) if colour else ("", "")
    marks = {"warning": _YELLOW, "error": _RED, "critical": _RED} if colour else {}

    def render(_: WrappedLogger, level: str, event: EventDict) -> bytes:
        step, queue_id = visible(str(event.pop("event"))), visible(str(event.pop("id", "")))
        exception = _exception(event.pop("exc_info", None))
        arranged: EventDict = {}
        _arrange(event, arranged)
        fields = [f"{name}={_shown(name, value)}" for name, value in arranged.items()]
        if level not in ("debug", "info"):
            fields.insert(0, f"{marks.get(level, '')}{level}{reset}")
        clock = dim + time.strftime("%H:%M:%S") + reset
        line = f"{clock} {queue_id:<12} {step:<13} {' '.join(fields)}".rstrip()
        if exception is not None:
            trace = structlog.processors.format_exc_info(None, level, {"exc_info": exception})["exception"]
            line += "".join("\n    " + visible(row) for row in trace.splitlines())
        return _without_passwords(line.encode()) + b"\n"

    return render


def _shown(name: str, value: object) -> str:
    """A value that cannot pass for another one, or for another field: where it might, it stands between quotes, with
    `"` and `\\` escaped. Addresses of the envelope stand between `<` and `>` otherwise."""
    if isinstance(value, list | tuple):
        return ",".join(_one_of_several(name, item) for item in value)
    text = value if isinstance(value, str) else str(_plain(value))
    address = name in ("from", "to")
    risky = _TO_QUOTE.search(text.replace("=", "") if address else text) or visible(text) != text
    if risky or not (text or address):
        return quoted(text)
    return f"<{text}>" if address else text


def _one_of_several(name: str, item: object) -> str:
    text = _shown(name, item)
    return quoted(str(item)) if "," in text and text[0] not in '"<' else text


class Sink:
    """Writes finished lines to a stream without waiting for its reader.

    Args:
        stream: one without a descriptor (a StringIO) is written to directly.
        notice: gives the line that says how many lines were lost.
    """

    def __init__(self, stream: TextIO, notice: Callable[[int], bytes]) -> None:
        self._stream, self._notice = stream, notice
        self._lock = threading.Lock()
        self._backlog: list[bytes] = []
        self._waiting = 0  # octets in the backlog and in the thread's hands
        self._lost = 0
        self._thread: threading.Thread | None = None
        self._writable = select.poll()
        try:
            self._descriptor = stream.fileno()
        except (OSError, ValueError):
            self._descriptor = -1
        else:
            self._writable.register(self._descriptor, select.POLLOUT)

    def msg(self, line: bytes) -> None:
        """Write one line, keep it for later, or count it as lost."""
        if self._descriptor < 0:
            self._stream.write(line.decode())
        elif self._thread is None and self._has_room(line):
            left = self._write(line)
            if left:
                self._keep(left)
        else:
            self._keep(line)

    debug = info = warning = error = critical = msg

    def close(self, patience: float) -> None:
        """Give what waits that many seconds to be written."""
        thread = self._thread
        if thread is not None:
            thread.join(patience)

    def _has_room(self, line: bytes) -> bool:
        """A pipe that polls as writable takes PIPE_BUF octets at once (pipe(7)), unless another worker is faster."""
        return len(line) <= select.PIPE_BUF and bool(self._writable.poll(0))

    def _write(self, data: bytes) -> bytes:
        """Returns what a descriptor that was left non-blocking did not take."""
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[os.write(self._descriptor, rest) :]
            except BlockingIOError:
                break
            except OSError:  # a full disk, a reader that is gone: there is nowhere left to say so
                return b""
        return bytes(rest)

    def _keep(self, line: bytes) -> None:
        with self._lock:
            if self._waiting + len(line) > BACKLOG_OCTETS:
                self._lost += 1
                return
            self._waiting += len(line)
            self._backlog.append(line)
            if self._thread is None:
                self._thread = threading.Thread(target=self._drain, name="log", daemon=True)
                self._thread.start()

    def _drain(self) -> None:
        """Line by line: only a write of at most PIPE_BUF octets is never torn apart by those of other workers."""
        while True:
            with self._lock:
                lines, self._backlog = self._backlog, []
                if self._lost:
                    lines.append(self._notice(self._lost))
                    self._waiting += len(lines[-1])
                    self._lost = 0
                if not lines:
                    self._thread = None
                    return
            for line in lines:
                left = line
                while left := self._write(left):
                    self._writable.poll()
                with self._lock:
                    self._waiting -= len(line)


_sink: Sink | None = None


@atexit.register
def _finish() -> None:
    if _sink is not None:
        _sink.close(patience=1.0)

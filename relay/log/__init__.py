"""The log: one line for each step of a message, readable on a terminal and one JSON object a line elsewhere.

Every stage logs through `structlog.get_logger()`. It binds the queue id as `id` once there is one, and names its step
as the event (connect, mail, rcpt, data, authenticated, queued, attempt, delivered, deferred, bounced). Records of
Python's `logging` are written in the same form. `log.logger` takes the events, `log.lines` makes lines of them, and
`log.sink` writes these.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import sys
import threading
from contextlib import AbstractContextManager, nullcontext
from types import TracebackType
from typing import Literal, TextIO

import structlog

from relay.log.lines import console, json_line
from relay.log.logger import logger_class
from relay.log.sink import Sink


def configure(
    style: Literal["auto", "console", "json"] = "auto",
    level: Literal["debug", "info", "warning", "error", "critical"] = "info",
    stream: TextIO | None = None,
    *,
    for_good: bool = False,
) -> None:
    """Sends the log to a stream, by default standard output. `auto` means `console` on a terminal, otherwise `json`.

    It may be called again for a new level, and must be called in a forked worker, because the thread of a backlog does
    not survive a fork. After a call with `for_good` it may not: each logger then keeps the settings of its first use,
    which saves a look-up for each line. Uncaught exceptions of all threads are logged from now on.
    """
    global _sink
    stream = sys.stdout if stream is None else stream
    terminal = stream.isatty()
    if style == "console" or (style == "auto" and terminal):
        render = console(colour=terminal and "NO_COLOR" not in os.environ)
    else:
        render = json_line
    _sink = sink = Sink(stream, lambda lost: render(None, "warning", {"event": "log", "lost": lost}))
    structlog.configure(
        processors=[render],
        wrapper_class=logger_class(level),
        logger_factory=lambda *_: sink,
        cache_logger_on_first_use=for_good,
    )
    logging.captureWarnings(True)
    logging.root.handlers = [_LibraryHandler()]
    logging.root.setLevel(logging.WARNING)  # below that, libraries log SQL statements and whole messages
    sys.excepthook = _uncaught
    threading.excepthook = lambda args: _uncaught(args.exc_type, args.exc_value, args.exc_traceback)
    sys.unraisablehook = _unraisable


def gathered(loop: asyncio.AbstractEventLoop) -> AbstractContextManager[None]:
    """Lines of one turn of this loop are written together from now on, until the context ends.

    The loop runs in this thread. A line of the level error or above is written at once, with those before it, and so is
    every line of another thread.
    """
    return nullcontext() if _sink is None else _sink.gathering(loop)


@atexit.register
def finish() -> None:
    """Writes what has not been written yet; a stalled reader is waited for, but for one second only.

    Call it where a process ends without Python's exit handlers.
    """
    if _sink is not None:
        _sink.close(patience=1.0)


def _uncaught(kind: type[BaseException], error: BaseException | None, traceback: TracebackType | None) -> None:
    if error is None or issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error or kind(), traceback)
    else:
        structlog.get_logger().critical("uncaught", exc_info=(kind, error, traceback))


def _unraisable(args: sys.UnraisableHookArgs) -> None:
    if isinstance(args.exc_value, UnicodeDecodeError) and isinstance(args.object, bytes):
        return  # so `ssl` reports a client that asks for a host name of odd octets; its handshake fails, and is logged
    _uncaught(args.exc_type, args.exc_value, args.exc_traceback)


class _LibraryHandler(logging.Handler):
    """Logs the records of Python's `logging` as the event `library`."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            message = record.getMessage()
        except (TypeError, ValueError):  # the format of the record does not fit its arguments
            message = str(record.msg)
        level = min(record.levelno // 10 * 10, logging.CRITICAL)
        structlog.get_logger().log(level, "library", logger=record.name, message=message, exc_info=record.exc_info)


_sink: Sink | None = None


def _before_fork() -> None:
    if _sink is not None:
        _sink.flush()


os.register_at_fork(before=_before_fork)  # the child would write these lines again

"""structlog's bound logger, with a shorter way to the sink: our chain of processors is one function, `log.lines`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import structlog
from structlog.typing import FilteringBoundLogger

LEVELS = ("debug", "info", "warning", "error", "critical")


def logger_class(least: str) -> type[FilteringBoundLogger]:
    """The class of loggers that write events of the level `least` and above."""
    base = structlog.make_filtering_bound_logger(least)
    return type("Logger", (base,), {level: _method(level) for level in LEVELS[LEVELS.index(least) :]})


def _method(level: str) -> Callable[..., None]:
    """The method of a logger that writes an event of this level."""

    def write(self: structlog.BoundLoggerBase, event: str, **fields: Any) -> None:
        [make_line] = self._processors  # see `log.configure`
        try:
            line = make_line(self._logger, level, {**self._context, "event": event, **fields})
        except structlog.DropEvent:  # by `structlog.testing.capture_logs`
            return
        getattr(self._logger, level)(line)

    return write

"""A log that tests read."""

from __future__ import annotations

import io
import json
from typing import Any, Literal

from relay import log


def written(style: Literal["console", "json"], level: Literal["info", "warning"] = "info") -> io.StringIO:
    stream = io.StringIO()
    log.configure(style, level, stream)
    return stream


def objects(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]

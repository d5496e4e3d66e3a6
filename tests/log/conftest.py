"""Every test leaves logging as it was."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Iterator

import pytest
import structlog


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    handlers, level, hook, thread_hook = logging.root.handlers, logging.root.level, sys.excepthook, threading.excepthook
    yield
    structlog.reset_defaults()
    logging.captureWarnings(False)
    logging.root.handlers, logging.root.level, sys.excepthook = handlers, level, hook
    threading.excepthook = thread_hook

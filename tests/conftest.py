"""What every test has in common: the mark of `tests.peers.needs`, the order of files, Hypothesis's settings, and that
logging stays as it was: a command that a test runs configures it."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Iterator

import pytest
import structlog
from hypothesis import HealthCheck, settings

from tests.peers import require

# How long an example takes says more of the machine's other work than of the code.
settings.register_profile("no clock", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("no clock")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "needs(*peers, root=False, package=''): see tests/peers.py")


def pytest_itemcollected(item: pytest.Item) -> None:
    if item.get_closest_marker("needs"):
        item.add_marker(pytest.mark.peer)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests come first: no process ends with a long one while the others have nothing left to do."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


def pytest_runtest_setup(item: pytest.Item) -> None:
    for mark in item.iter_markers("needs"):
        require(*mark.args, **mark.kwargs)


@pytest.fixture(autouse=True)
def _logging_restored() -> Iterator[None]:
    handlers, level, hook, thread_hook = logging.root.handlers, logging.root.level, sys.excepthook, threading.excepthook
    yield
    structlog.reset_defaults()
    logging.captureWarnings(False)
    logging.root.handlers, logging.root.level, sys.excepthook = handlers, level, hook
    threading.excepthook = thread_hook

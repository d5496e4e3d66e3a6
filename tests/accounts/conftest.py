"""Connections to Dovecot are made on uvloop, which `serve` uses."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
import uvloop


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """uvloop for the tests of Dovecot, asyncio's own event loop for the others."""
    if item.path.name.startswith("test_dovecot"):
        return {"uvloop": uvloop.new_event_loop}
    return {"asyncio": asyncio.new_event_loop}

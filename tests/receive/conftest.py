"""Every test of a listener runs on uvloop, which `serve` uses, and on asyncio's own event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, MutableMapping
from typing import Any

import pytest
import structlog.testing
import uvloop

from tests.receive.door import Door, close_clients


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.new_event_loop}


@pytest.fixture
def log() -> Iterator[list[MutableMapping[str, Any]]]:
    """What is logged."""
    with structlog.testing.capture_logs() as lines:
        yield lines


@pytest.fixture
async def door() -> AsyncIterator[Callable[..., Door]]:
    """Opens doors with the given settings, and closes them in the end, with all clients."""
    doors: list[Door] = []

    def make(**settings: Any) -> Door:
        doors.append(Door(**settings))
        return doors[-1]

    yield make
    for one in doors:
        await one.close()
    await close_clients()

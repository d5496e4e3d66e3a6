"""The `world` of a journey: built for each test, stopped after it, its logs shown where the test failed."""

from __future__ import annotations

from collections.abc import Generator, Iterator

import pytest

from tests.journeys.world import World, opened


@pytest.fixture
def world() -> Iterator[World]:
    with opened() as world:
        yield world


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    world = getattr(item, "funcargs", {}).get("world")
    if report.failed and isinstance(world, World):
        report.sections.extend(world.logs())
    return report

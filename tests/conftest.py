"""What every test has in common: the mark of `tests.peers.needs` is acted on here."""

from __future__ import annotations

import pytest

from tests.peers import require


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "needs(*peers, root=False, package=''): see tests/peers.py")


def pytest_itemcollected(item: pytest.Item) -> None:
    if item.get_closest_marker("needs"):
        item.add_marker(pytest.mark.peer)


def pytest_runtest_setup(item: pytest.Item) -> None:
    for mark in item.iter_markers("needs"):
        require(*mark.args, **mark.kwargs)

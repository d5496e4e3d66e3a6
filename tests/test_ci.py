"""The CI installs every peer: otherwise a test that is skipped here would fail there, for want of a line in a list."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.peers import PACKAGES

RUN = Path(__file__).parents[1] / ".ci" / "run"


@pytest.mark.parametrize("package", sorted(set(PACKAGES.values())))
def test_ci_installs(package: str) -> None:
    listed = RUN.read_text().partition("packages=(\n")[2].partition("\n)")[0]
    assert package in [word for line in listed.splitlines() for word in line.partition("#")[0].split()]

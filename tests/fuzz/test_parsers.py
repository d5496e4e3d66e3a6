"""The fuzzer on every parser of octets from strangers, for a short time; `python -m tests.fuzz` runs it longer."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.parsers import SEEDS, TARGETS

SECONDS = 5  # for each parser
ROOT = Path(__file__).parents[2]


def test_every_parser_has_seeds() -> None:
    assert SEEDS.keys() == TARGETS.keys()


@pytest.mark.parametrize("name", TARGETS)
def test_its_seeds_and_parts_of_them(name: str) -> None:
    for seed in SEEDS[name]:
        for end in range(len(seed) + 1):
            TARGETS[name](seed[:end])
            TARGETS[name](seed[end:])


@pytest.mark.parametrize("name", TARGETS)
@given(octets=st.binary(max_size=200))
@settings(max_examples=50, deadline=None, derandomize=True, database=None)
def test_any_octets(name: str, octets: bytes) -> None:
    TARGETS[name](octets)


@pytest.mark.slow
@pytest.mark.parametrize("name", TARGETS)
def test_guided_by_coverage(name: str, tmp_path: Path) -> None:
    pytest.importorskip("atheris", reason="it has no build for this Python and processor")
    command = [sys.executable, "-m", "tests.fuzz", name, "--seconds", str(SECONDS)]
    done = subprocess.run(
        command, cwd=tmp_path, env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}, capture_output=True, timeout=100
    )
    said = done.stderr.decode(errors="replace")
    assert done.returncode == 0, said[-4000:]
    assert "stat::number_of_executed_units" in said

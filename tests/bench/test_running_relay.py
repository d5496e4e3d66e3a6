"""The configuration and the program of a relay under test."""

from __future__ import annotations

import os
import sys
import time
import tomllib
from pathlib import Path

import pytest

from bench.running_relay import ROOT, Program, RunningRelay, _processor_clock, changed, write_files
from relay.config.file import load

BASE = 'hostname = "mx.fwd.test"\n[delivery]\nmode = "queue"\n[delivery.smarthost]\nurl = "smtp://127.0.0.1:25"\n'


def test_a_line_changes_its_key_and_leaves_its_neighbours() -> None:
    config = tomllib.loads(changed(BASE, ['delivery.mode = "in-session"', "arc.seal = false", "workers = 1"]))
    assert config == {
        "hostname": "mx.fwd.test",
        "delivery": {"mode": "in-session", "smarthost": {"url": "smtp://127.0.0.1:25"}},
        "arc": {"seal": False},
        "workers": 1,
    }


def test_a_line_that_is_no_toml_is_named() -> None:
    with pytest.raises(SystemExit, match=r"arc\.seal = useful"):
        changed(BASE, ["arc.seal = useful"])


def test_the_configuration_is_one_that_the_relay_takes(tmp_path: Path) -> None:
    write_files(tmp_path, 2525, "127.0.0.1:53", 2526, settings=["arc.seal = false"])
    config = load(tmp_path / "relay.toml")
    assert not config.arc.seal and config.delivery.mode == "queue"


def test_a_checkout_is_run_by_this_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    monkeypatch.chdir(ROOT)
    program = Program.at(".")
    assert (program.python, program.environment["PYTHONPATH"]) == (sys.executable, str(ROOT))


def test_a_virtual_environment_brings_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    (tmp_path / "bin").mkdir()
    python = tmp_path / "bin" / "python"
    python.symlink_to(sys.executable)
    for place in (tmp_path, python):
        program = Program.at(str(place))
        assert (program.python, program.tree) == (str(python), None)
        assert "PYTHONPATH" not in program.environment


@pytest.mark.parametrize("place", ["", "nothing"])
def test_anything_else_is_no_program(tmp_path: Path, place: str) -> None:
    with pytest.raises(SystemExit, match="neither"):
        Program.at(str(tmp_path / place))


def test_processor_time_is_that_of_the_process() -> None:
    before = time.process_time()
    seen = time.clock_gettime(_processor_clock(os.getpid()))
    assert before <= seen <= time.process_time()


def test_a_worker_that_dies_spoils_the_figures() -> None:
    running = RunningRelay(0, os.getpid())
    assert running.cpu() > 0
    running._seen.append(1 << 22)
    with pytest.raises(SystemExit, match="died"):
        running.cpu()

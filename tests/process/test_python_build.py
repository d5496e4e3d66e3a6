"""Which builds of Python the relay warns of. The variables are those of real builds, as `sysconfig` names them."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from relay.process.python_build import slow_because, warn_of_slow_python

ROOT = Path(__file__).parents[2]
PROFILE = {"PGO_PROF_GEN_FLAG": "-fprofile-generate", "PGO_PROF_USE_FLAG": "-fprofile-use -fprofile-correction"}
PYENV = {
    "CONFIG_ARGS": "'--prefix=/root/.pyenv/versions/3.11.7' 'LIBS=-L/root/.pyenv/versions/3.11.7/lib'",
    "installed_base": "/root/.pyenv/versions/3.11.7",
    "Py_DEBUG": 0,
    **PROFILE,
}
DEBIAN = {
    "CONFIG_ARGS": "'--enable-shared' '--prefix=/usr' '--with-computed-gotos' 'CC=x86_64-linux-gnu-gcc'",
    "installed_base": "/usr",
    "Py_DEBUG": 0,
    **PROFILE,
    "PGO_PROF_USE_FLAG": "",
}
DOCKER = {
    "CONFIG_ARGS": "'--build=x86_64-linux-gnu' '--enable-optimizations' '--enable-shared' '--with-lto'",
    "installed_base": "/usr/local",
    "Py_DEBUG": 0,
    **PROFILE,
}
UV = {
    "CONFIG_ARGS": "'--prefix=/install' '--enable-optimizations' '--with-lto' 'CC=clang'",
    "installed_base": "/home/ann/.local/share/uv/python/cpython-3.13-linux-x86_64-gnu",
    "PGO_PROF_GEN_FLAG": "-fprofile-instr-generate",
    "PGO_PROF_USE_FLAG": "-fprofile-instr-use=code.profclangd",
}


@pytest.mark.parametrize(
    "build",
    [DEBIAN, DOCKER, UV, {**PYENV, "CONFIG_ARGS": "'--enable-optimizations'"}, {**PYENV, "installed_base": "/usr"}],
)
def test_an_optimised_python_is_not_named(build: dict[str, Any]) -> None:
    assert slow_because(build) == ""


@pytest.mark.parametrize("build", [PYENV, {**PYENV, "installed_base": "/usr/local"}, {**PYENV, "CONFIG_ARGS": ""}])
def test_a_python_of_a_plain_configure_is(build: dict[str, Any]) -> None:
    assert "--enable-optimizations" in slow_because(build)


def test_a_python_for_debugging_is_whatever_else_it_has() -> None:
    assert "--with-pydebug" in slow_because({**DEBIAN, "Py_DEBUG": 1})


@pytest.mark.parametrize("build", [{}, {"CONFIG_ARGS": None}, {"Py_DEBUG": None}])
def test_a_python_that_does_not_say_how_it_was_built_is_not(build: dict[str, Any]) -> None:
    assert slow_because(build) == ""


@pytest.mark.parametrize(("build", "level"), [(PYENV, ["warning"]), (DEBIAN, [])])
def test_it_is_logged_with_its_mend(monkeypatch: pytest.MonkeyPatch, build: dict[str, Any], level: list[str]) -> None:
    monkeypatch.setattr(sysconfig, "get_config_vars", lambda: build)
    with capture_logs() as lines:
        warn_of_slow_python()
    assert [line["log_level"] for line in lines] == level
    assert all(line["event"] == "slow_python" and "--enable-optimizations" in line["mend"] for line in lines)


@pytest.mark.skipif(not Path("/etc/debian_version").exists(), reason="not a Debian")
def test_the_python_of_this_debian_is_optimised() -> None:
    python = shutil.which("python3", path="/usr/bin")
    if python is None:
        pytest.skip("Debian's python3 is not installed")
    asked = "import json, sysconfig; print(json.dumps(sysconfig.get_config_vars(), default=str))"
    answer = subprocess.run([python, "-I", "-c", asked], capture_output=True, check=True, text=True).stdout
    assert slow_because(json.loads(answer)) == ""


def test_the_image_is_not_built_with_a_slow_python() -> None:
    """The build of the image asks its own Python, with a step that this test runs with ours."""
    final_stage = (ROOT / "Dockerfile").read_text().replace("\\\n", "").rpartition("\nFROM ")[2]
    (step,) = [line for line in final_stage.splitlines() if "slow_because" in line]
    _, option, program = json.loads(step.removeprefix("RUN "))
    asked = subprocess.run([sys.executable, option, program], cwd=ROOT, capture_output=True, text=True)
    problem = slow_because(sysconfig.get_config_vars())
    assert (asked.returncode, asked.stderr.strip()) == (bool(problem), problem)

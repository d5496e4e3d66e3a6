"""What is said about the machine and the build of Python."""

from __future__ import annotations

import platform

import pytest

from bench import machine
from bench.running_relay import Program

FLAGS = "'--prefix=/opt/python'"


def test_the_python_its_flags_and_the_machine_are_named() -> None:
    python, where, *_ = machine.describe().splitlines()
    assert python.startswith(f"Python {platform.python_version()} (") and "configured with" in python
    assert platform.release() in where and "OpenSSL" in where and " cores" in where


@pytest.mark.parametrize(("flags", "warnings"), [(FLAGS, 1), (FLAGS + " '--enable-optimizations'", 0)])
def test_a_slow_build_gets_a_warning(flags: str, warnings: int) -> None:
    lines = machine._warning({"CONFIG_ARGS": flags, "installed_base": "/opt/python"})
    assert [line.startswith("WARNING") for line in lines] == [True] * warnings


def test_a_python_that_cannot_be_asked_is_named() -> None:
    with pytest.raises(SystemExit, match="/bin/false"):
        machine.describe(Program("/bin/false", None))

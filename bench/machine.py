"""What the figures were measured on: the build of Python above all, since an unoptimised one costs a fifth more."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.running_relay import HERE, Program
from relay.process.python_build import slow_because

_ASKED = """
import json, platform, sysconfig
from cryptography.hazmat.backends.openssl import backend
build = {name: value for name, value in sysconfig.get_config_vars().items() if isinstance(value, (str, int))}
print(json.dumps([platform.python_version(), platform.python_compiler(), backend.openssl_version_text(), build]))
"""


def describe(program: Program = HERE) -> str:
    """Two lines: the Python that runs a relay, and the machine. A third one warns where that Python is slow.

    Raises:
        SystemExit: that Python cannot be run, or has no `cryptography`.
    """
    asked = subprocess.run(
        [program.python, "-c", _ASKED], env=program.environment, capture_output=True, text=True, check=False
    )
    if asked.returncode:
        raise SystemExit(f"{program.python}: {asked.stderr.strip()}")
    version, compiler, openssl, build = json.loads(asked.stdout)
    return "\n".join([_python(program.python, version, compiler, build), _machine(openssl), *_warning(build)])


def _python(path: str, version: str, compiler: str, build: Mapping[str, Any]) -> str:
    optimised = "not optimised" if slow_because(build) else "optimised"
    return f"Python {version} ({optimised}, {compiler}) at {path}, configured with {build.get('CONFIG_ARGS') or '?'}"


def _machine(openssl: str) -> str:
    cores = len(os.sched_getaffinity(0))
    return f"{_processor()}, {cores} cores, {platform.system()} {platform.release()}, {openssl} in cryptography"


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.machine()


def _warning(build: Mapping[str, Any]) -> list[str]:
    """The line that says that the figures are those of a slow Python, if they are."""
    why = slow_because(build)
    return [f"WARNING: {why}. Do not compare these figures with those of an optimised one."] if why else []

"""Whether this Python was built to be fast: a build without profile-guided optimisation costs about a fifth more.

Docker's images, uv and most distributions build theirs with `--enable-optimizations`. A plain `./configure && make`, as
pyenv and asdf run it, does not.
"""

from __future__ import annotations

import sysconfig
from collections.abc import Mapping
from typing import Any

import structlog

log = structlog.get_logger()

SLOW = "each message costs about a fifth more processor time than with an optimised Python"
MEND = (
    "install the relay with the Python of the distribution, of uv or of the container image, "
    "or build Python with ./configure --enable-optimizations --with-lto"
)


def warn_of_slow_python() -> None:
    """Log it where the Python that runs the relay was not optimised."""
    if why := slow_because(sysconfig.get_config_vars()):
        log.warning("slow_python", problem=f"{why}: {SLOW}", mend=MEND)


def slow_because(build: Mapping[str, Any]) -> str:
    """What makes a build of Python slow; empty where it is optimised, or where nothing says how it was built.

    Args:
        build: the variables of `sysconfig.get_config_vars()`.
    """
    if build.get("Py_DEBUG"):
        return "Python was built for debugging (--with-pydebug)"
    configure = build.get("CONFIG_ARGS")
    if not isinstance(configure, str) or "--enable-optimizations" in configure or _is_packaged(build):
        return ""
    return "Python was built without --enable-optimizations"


def _is_packaged(build: Mapping[str, Any]) -> bool:
    """Whether a distribution built it.

    Debian and openSUSE run `make profile-opt`, so their configure line does not tell. They install below /usr; Debian
    also removes the flags of the profile, which configure otherwise writes for every build.
    """
    profile = build.get("PGO_PROF_GEN_FLAG"), build.get("PGO_PROF_USE_FLAG")
    return build.get("installed_base") == "/usr" or (bool(profile[0]) and profile[1] == "")

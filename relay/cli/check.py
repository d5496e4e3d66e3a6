"""`srs-relay check`: whether the configuration and the live DNS let mail pass, with the mend of each fault."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import orjson
import typer
import uvloop
from rich.console import Console

from relay import log as logging
from relay.check.finding import CheckName, Finding
from relay.check.leaving import leaving_addresses
from relay.check.run import CHECKS, run
from relay.check.site import Site
from relay.cli.check_view import show, show_changes
from relay.cli.options import ConfigFile
from relay.config.file import load
from relay.config.model import Config, ConfigError
from relay.dns import CachingResolver
from relay.process.files import read_files

PAUSE = 30.0  # seconds between two rounds of --watch


def check(
    config: ConfigFile = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON object.")] = False,
    only: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Run only this check; may be repeated.")
    ] = None,
    skip: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Leave this check out; may be repeated.")
    ] = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Check again every 30 seconds, until nothing is wrong.")
    ] = False,
) -> None:
    """Check the configuration and the live DNS; say how to mend what is wrong.

    The exit status is 1 if there is an error, and 0 with warnings alone.
    """
    names = _names(only or (), skip or ())
    logging.configure("json", "error", sys.stderr)
    console = Console(markup=False, emoji=False, highlight=False)
    findings = _round(config, names)
    if as_json:
        print(_as_json(findings), flush=True)
    else:
        show(findings, console)
    while watch and any(finding.level != "ok" for finding in findings):
        time.sleep(PAUSE)
        try:
            latest = _round(config, names)
        except (ConfigError, OSError) as error:  # a file is just being edited
            print(f"{time.strftime('%H:%M:%S')} {error}", file=sys.stderr)
            continue
        if as_json:
            print(_as_json(latest), flush=True)
        else:
            show_changes(findings, latest, time.strftime("%H:%M:%S"), console)
        findings = latest
    raise typer.Exit(int(any(finding.level == "error" for finding in findings)))


def _names(only: Iterable[str], skip: Iterable[str]) -> list[CheckName]:
    """The checks to run. Raises typer.BadParameter: there is no check of that name, or none is left."""
    left = _chosen(only, "--only") or list(CHECKS)
    left_out = _chosen(skip, "--skip")
    names = [name for name in left if name not in left_out]
    if not names:
        raise typer.BadParameter("it leaves no check", param_hint="--skip")
    return names


def _chosen(values: Iterable[str], option: str) -> list[CheckName]:
    """The names in an option, which may have several with commas between them."""
    wanted = {name.strip() for value in values for name in value.split(",") if name.strip()}
    if unknown := sorted(wanted.difference(CHECKS)):
        choices = ", ".join(CHECKS)
        raise typer.BadParameter(f"there is no check {unknown[0]!r}; there are {choices}", param_hint=option)
    return [name for name in CHECKS if name in wanted]


def _round(path: Path | None, names: Iterable[CheckName]) -> list[Finding]:
    """The findings as things are now: the configuration, its files and DNS are read anew.

    Raises:
        ConfigError: the configuration cannot be used.
    """
    config = load(path)
    return uvloop.run(_findings(config, str(path.absolute()) if path else "", names))


async def _findings(config: Config, path: str, names: Iterable[CheckName]) -> list[Finding]:
    # What the servers say about DNSSEC is shown, whether it is believed for deliveries (`dns.trust_ad`) or not.
    resolver = CachingResolver(config.dns.nameservers, config.dns.timeout, config.dns.cache_entries, trust_ad=True)
    site = Site(
        config,
        read_files(config.model_copy(update={"tls": None})),  # a certificate that cannot be used is a finding
        resolver,
        leaving_addresses(config),
        time.time(),
        path,
    )
    try:
        return await run(site, names)
    finally:
        await resolver.close()


def _as_json(findings: Iterable[Finding]) -> str:
    return orjson.dumps({"findings": [asdict(finding) for finding in findings]}).decode()

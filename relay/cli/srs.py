"""`srs-relay srs`: rewrites single addresses, to try a scheme, to read an address from a log, or for another tool.

The scheme is that of the configuration, changed by options; without a configuration, `--domain` and `--secrets-file`
are enough.
"""

from __future__ import annotations

import json
import math
import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from relay.cli.errors import CommandFailed
from relay.cli.options import GivenConfigFile
from relay.config.file import load
from relay.config.search import NoConfig, find_config
from relay.mail.address import DOMAIN
from relay.mail.visible import visible
from relay.srs import address as srs
from relay.srs import reply_address as replies
from relay.srs.configured_scheme import read_secrets, scheme_from_config

app = typer.Typer(help="Rewrite one address, there or back.")


def _domain(value: str | None) -> str | None:
    if value is not None and not DOMAIN.match(value):
        raise typer.BadParameter(f"{value!r} is not a domain name")
    return value


Address = Annotated[str, typer.Argument(metavar="ADDRESS", help="A whole address, without angle brackets.")]
Domain = Annotated[
    str | None, typer.Option(metavar="DOMAIN", callback=_domain, help="The alias domain of SRS addresses.")
]
SecretsFile = Annotated[
    Path | None, typer.Option(metavar="FILE", dir_okay=False, help="The secrets: the first line signs, all verify.")
]
Separator = Annotated[srs.Separator | None, typer.Option(help="What stands after the tag (default: =).")]
Hash = Annotated[
    Literal["compatible", "framed"] | None,
    typer.Option("--hash", help="What the hash is made of, whatever the day (default: compatible)."),
]
HashLength = Annotated[int | None, typer.Option(min=4, max=27, help="Characters of the hash (default: 4).")]
AsJson = Annotated[bool, typer.Option("--json", help="Print a JSON object.")]


@app.command("forward")
def forward(
    address: Address,
    config: GivenConfigFile = None,
    domain: Domain = None,
    secrets_file: SecretsFile = None,
    separator: Separator = None,
    hashed: Hash = None,
    hash_length: HashLength = None,
    as_json: AsJson = False,
) -> None:
    """Print the SRS address that a sender gets.

    If the sender is too long for one, it says so: serve stores such a sender, and writes a short address for it.
    """
    scheme = _scheme(config, domain, secrets_file, separator, hashed, hash_length)
    try:
        result = srs.forward(address, scheme, time.time())
    except srs.TooLong as error:
        form = f"SRS0{scheme.separator}HHHH=TT==ID@{scheme.domain}"
        said = f"{error}: serve stores this sender, and writes {form} with the ID under which it is stored"
        _print({"address": address, "result": None, "stored": True, "reason": said} if as_json else said)
        return
    except srs.SrsError as error:
        raise CommandFailed(f"{address}: {error}") from None
    _print({"address": address, "result": result} if as_json else result)


@app.command("reverse")
def reverse(
    address: Address,
    config: GivenConfigFile = None,
    domain: Domain = None,
    secrets_file: SecretsFile = None,
    separator: Separator = None,
    hashed: Hash = None,
    hash_length: HashLength = None,
    as_json: AsJson = False,
) -> None:
    """Print the sender behind an SRS address.

    An address that was rewritten twice is taken one step back. Of a reply address it prints the author.
    """
    scheme = _scheme(config, domain or "", secrets_file, separator, hashed, hash_length)
    try:
        if replies.is_reply(address):
            result = replies.reverse(address, scheme)
        else:
            result = srs.reverse(address, scheme, time.time())
    except srs.SrsError as error:
        raise CommandFailed(f"{address}: {error}") from None
    if isinstance(result, srs.Token):
        _print({"address": address, "token": result.id} if as_json else f"stored sender {result.id}")
    else:
        _print({"address": address, "result": result} if as_json else result)


def _scheme(
    config: Path | None,
    domain: str | None,
    secrets_file: Path | None,
    separator: srs.Separator | None,
    hashed: Literal["compatible", "framed"] | None,
    hash_length: int | None,
) -> srs.Scheme:
    try:
        if config is None and domain is not None and secrets_file is not None:
            scheme = srs.Scheme(domain, read_secrets(secrets_file))
        else:
            scheme = scheme_from_config(load(find_config(config)))
            if secrets_file is not None:
                scheme = replace(scheme, secrets=read_secrets(secrets_file))
    except NoConfig:
        raise typer.BadParameter("--config (or SRS_RELAY_CONFIG) is needed, or --domain and --secrets-file") from None
    except ValueError as error:
        raise CommandFailed(str(error)) from None
    if hashed is not None:
        scheme = replace(scheme, framed=hashed == "framed", framed_since=-math.inf)
    return replace(
        scheme,
        domain=domain or scheme.domain,
        separator=separator or scheme.separator,
        hash_length=hash_length or scheme.hash_length,
    )


def _print(result: str | dict[str, Any]) -> None:
    print(visible(result) if isinstance(result, str) else json.dumps(result))

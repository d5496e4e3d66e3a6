"""`srs-relay init DIR`: makes a folder that `serve` can run, and prints the DNS records that go with it.

Values that are not given are guessed from the host's own name and addresses; the written file can be changed. The
records go to stdout, as lines for a zone file; all other output goes to stderr. Where the configuration is there
already, only the files that it names and that are missing are made.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from relay import log as logging
from relay.cli import host_addresses, init_options, init_site
from relay.cli.complete import complete, new_secret
from relay.cli.dns import look_up_addresses
from relay.cli.errors import CommandFailed
from relay.cli.host_addresses import Plan
from relay.cli.init_files import RELAYHOST_PORT, SELECTOR, SMTP, Site, Use, aliases_not_in, aliases_text, config_text
from relay.cli.init_hashes import hash_lines
from relay.cli.new_files import write_files
from relay.cli.pairs import PairsCommand, split_pair
from relay.cli.record_view import zone
from relay.cli.site_records import RECORD_TYPES, site_records
from relay.config.file import load
from relay.mail.visible import visible
from relay.route.alias_entries import is_rejection
from relay.sign import keys


def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder; it is made if it is not there.")],
    use: Annotated[Use | None, typer.Option("--for", help="The use of this host (default: forwarding).")] = None,
    domain: Annotated[str | None, typer.Option(metavar="DOMAIN", help="The domain whose mail comes in.")] = None,
    hostname: Annotated[str | None, typer.Option(metavar="NAME", help="The name of this host in DNS.")] = None,
    address: Annotated[
        list[str] | None, typer.Option(metavar="IP", help="A public address of this host; may be repeated.")
    ] = None,
    alias: Annotated[
        list[str] | None,
        typer.Option(metavar="FROM TO", help="An alias and the mailbox behind it, or REJECT and a text; repeatable."),
    ] = None,
    postmaster: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="The mailbox for postmaster@, abuse@ and mailer-daemon@.")
    ] = None,
    srs_domain: Annotated[str | None, typer.Option(metavar="DOMAIN", help="The domain of rewritten senders.")] = None,
    next_hop: Annotated[
        str | None, typer.Option(metavar="URL", help="The mailbox host, like lmtp://10.0.0.5:24.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace relay.toml; the other files stay.")] = False,
) -> None:
    """Write config, SRS secret and DKIM key into DIR; print the DNS records.

    A host for forwarding has aliases that lead to mailboxes elsewhere. A host for mailboxes hands mail to the mailbox
    host that --next-hop names. A relayhost gets the outgoing mail of Postfix on the same host.

    Names and addresses default to those of this host. Rewritten senders are of DOMAIN on a forwarding host, otherwise
    of srs.DOMAIN. The mailbox of postmaster is the first TO on a forwarding host, otherwise postmaster@DOMAIN.

    If relay.toml is there already, init without options leaves it as it is, and makes the files that it names and
    that are missing. DIR may then be the configuration file itself.
    """
    logging.configure("json", "error", sys.stderr)
    has_options = any((use, domain, hostname, address, alias, postmaster, srs_domain, next_hop, force))
    config = folder if folder.is_file() else folder / "relay.toml"
    if config.exists() and not has_options:
        _complete(config)
        return
    if folder.is_file() or (folder.suffix == ".toml" and not folder.exists()):
        problem = "is a file, and with options it has to be a folder" if folder.is_file() else "is not there"
        raise typer.BadParameter(f"{folder} {problem}", param_hint="DIR")
    site, is_example = init_site.site(use or "forwarding", domain, hostname, srs_domain, next_hop)
    aliases = init_options.aliases([split_pair(text) for text in alias or ()], site.domain)
    plan = host_addresses.plan([init_options.public_address(text) for text in address or ()], host_addresses.look())
    site = replace(
        site,
        postmaster=_postmaster(site, postmaster, aliases),
        families=plan.families,
        sources=plan.sources,
        hashes=hash_lines(folder),
    )
    written = _write(folder, site, aliases, force=force)
    unknown = [RECORD_TYPES[family] for family in plan.unknown]
    print("\n".join(zone(site_records(load(config, {}), plan.published, unknown))))
    _say(_summary(site, plan, config, written, is_example=is_example))


init.command_class = PairsCommand  # type: ignore[attr-defined]  # for --alias


def _postmaster(site: Site, given: str | None, aliases: Sequence[tuple[str, str]]) -> str:
    if given:
        return init_options.mailbox(given, "--postmaster")
    if site.use != "forwarding":
        return f"postmaster@{site.domain}"
    first = next((targets for _, targets in aliases if not (targets.startswith("@") or is_rejection(targets))), "")
    return next(iter(init_options.targets_of(first)), "")


def _write(folder: Path, site: Site, aliases: Sequence[tuple[str, str]], *, force: bool) -> list[Path]:
    """Write the files that are to be written; returns their paths.

    Raises:
        CommandFailed: there are files already, or one that stays cannot be used.
    """
    if aliases and not site.has_aliases:
        raise typer.BadParameter("behind Postfix, the aliases are those of Postfix", param_hint="--alias")
    config, alias_file, key_file = folder / "relay.toml", folder / "aliases", folder / "dkim" / f"{SELECTOR}.pem"
    files = {config: config_text(site), folder / "srs.secret": new_secret()}
    if site.has_aliases:
        files[alias_file] = aliases_text(site.domain, aliases)
    existing = {path for path in (*files, key_file) if path.exists()}
    if existing and not force:
        completes = "; init without options makes the files that it names and are missing" if config in existing else ""
        raise CommandFailed(
            f"{min(existing)} is there already; nothing was written (--force replaces relay.toml alone{completes})"
        )
    if aliases and alias_file in existing:
        missing = aliases_not_in(alias_file.read_text("utf-8", "replace"), aliases)
        if missing:
            raise CommandFailed(
                f"{alias_file} stays as it is, so nothing was written: write {'; '.join(missing)} into it, and run the"
                " command again"
            )
    if key_file in existing:
        try:
            keys.parse(key_file.read_bytes())
        except ValueError as error:
            raise CommandFailed(f"{key_file}: {error}") from None
    else:
        files[key_file] = keys.generate("rsa2048").decode("ascii")
    written = {path: content for path, content in files.items() if path == config or path not in existing}
    write_files(written)
    return list(written)


def _complete(path: Path) -> None:
    """Make the missing files of a configuration, and print its records."""
    config, made = complete(path)
    print("\n".join(zone(site_records(config, *asyncio.run(look_up_addresses(config))))))
    _say([f"{path} stays as it is", f"wrote {', '.join(map(str, made))}"])
    load(path)  # what is missing still, such as a certificate
    _say([f"publish the records above, then: srs-relay serve --config {path}"])


def _summary(site: Site, plan: Plan, config: Path, written: Sequence[Path], *, is_example: bool) -> Iterator[str]:
    yield f"wrote {', '.join(map(str, written))}"
    yield from plan.said
    if is_example:
        name = socket.gethostname()
        because = f"this host's name ({name}) tells no domain"
        yield f"{site.domain} is only an example, since {because}: run init again with --force --domain yours"
    if site.port not in (SMTP, RELAYHOST_PORT):
        yield f"port {site.port}, since only root may bind port {SMTP} here: {config} says how to change that"
    if not site.postmaster:
        yield f"nobody reads mail to postmaster yet: set routes.postmaster in {config}"
    if site.use == "mailboxes":
        yield f"mail for {site.domain} goes to {site.next_hop}, which is asked for its users (--next-hop names another)"
    if site.use != "forwarding":
        yield f"mail for postmaster goes to {site.postmaster}: a mailbox has to be there (--postmaster names another)"
    aliases = ", write your aliases" if site.use == "forwarding" else ""
    yield f"publish the records above{aliases}, then: srs-relay serve --config {config}"
    if site.use == "relayhost":
        yield f"once it runs, set relayhost = [127.0.0.1]:{site.port} in Postfix"


def _say(lines: Iterable[str]) -> None:
    for line in lines:
        print(visible(line), file=sys.stderr)

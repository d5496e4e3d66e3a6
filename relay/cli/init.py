"""`srs-relay init DIR`: makes a folder that `serve` can run, and prints the DNS records that go with it.

Values that are not given are guessed from the host's own name and addresses; the written file can be changed. The
records go to stdout, as lines for a zone file; all other output goes to stderr.
"""

from __future__ import annotations

import ipaddress
import os
import secrets
import socket
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated

import typer

from relay.cli.errors import CommandFailed
from relay.cli.init_files import SELECTOR, Site, aliases_text, config_text, hash_lines
from relay.cli.records import records
from relay.mail.address import DOMAIN, BadAddress, normal_domain, parse
from relay.sign import keys
from relay.sign.keys import SigningKey

_SECRET_OCTETS = 32
_EXAMPLE = "fwd.example"  # the domain where this host's name has none (RFC 2606)
_SMTP, _UNPRIVILEGED = 25, 2525  # ports
_NOT_PUBLIC = ("localdomain", "local", "internal", "lan", "arpa")  # RFC 6761, RFC 6762 and custom


def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", file_okay=False, help="Made where it is not there.")],
    domain: Annotated[str | None, typer.Option(metavar="DOMAIN", help="The domain whose mail comes in.")] = None,
    hostname: Annotated[str | None, typer.Option(metavar="NAME", help="The name of this host in DNS.")] = None,
    address: Annotated[
        list[str] | None, typer.Option(metavar="IP", help="A public address of this host; may be repeated.")
    ] = None,
    alias: Annotated[
        tuple[str, str] | None, typer.Option(metavar="FROM TO", help="A first alias, and the mailbox behind it.")
    ] = None,
    postmaster: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="The mailbox for postmaster@, abuse@ and mailer-daemon@ (default: TO)."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace relay.toml; the other files stay.")] = False,
) -> None:
    """Write config, SRS secret and DKIM key into DIR; print the DNS records to publish.

    Names and addresses default to those of this host.
    """
    site = _site(domain, hostname, address or [], postmaster or (_mailbox(alias[1], "--alias") if alias else ""))
    port = _SMTP if _may_bind(_SMTP) else _UNPRIVILEGED
    config, aliases, key_file = folder / "relay.toml", folder / "aliases", folder / "dkim" / f"{SELECTOR}.pem"
    files = {
        config: config_text(site, port, hash_lines(folder), has_ipv6=_has_ipv6()),
        aliases: aliases_text(site.domain, _alias(site.domain, alias) if alias else None),
        folder / "srs.secret": secrets.token_urlsafe(_SECRET_OCTETS) + "\n",
        key_file: keys.generate("rsa2048").decode("ascii"),
    }
    existing = {path for path in files if path.exists()}
    if existing and not force:
        raise CommandFailed(
            f"{min(existing)} is there already; nothing was written (--force replaces relay.toml alone)"
        )
    if alias and aliases in existing:
        raise CommandFailed(f"{aliases} is there already and stays as it is; write the alias into it")
    pem = key_file.read_bytes() if key_file in existing else files[key_file].encode("ascii")
    try:
        key = SigningKey(site.domain, SELECTOR, keys.parse(pem))
    except ValueError as error:
        raise CommandFailed(f"{key_file}: {error}") from None
    written = {path: content for path, content in files.items() if path == config or path not in existing}
    _write(written)
    print("\n".join(records(site.hostname, site.domain, site.addresses, key)))
    print("\n".join(_summary(site, port, config, written)), file=sys.stderr)


def _site(domain: str | None, hostname: str | None, given: list[str], postmaster: str) -> Site:
    host = _name(hostname, "--hostname") if hostname else _own_name()
    is_example = not (domain or host)
    if domain:
        domain = _name(domain, "--domain")
    elif host:
        domain = host.partition(".")[2] if host.count(".") > 1 else host
    else:
        domain = _EXAMPLE
    if postmaster:
        _mailbox(postmaster, "--postmaster")
    addresses = tuple(map(_ip, given)) or tuple(_own_addresses())
    return Site(host or f"mx.{domain}", domain, addresses, postmaster, is_example)


def _name(value: str, option: str) -> str:
    name = normal_domain(value)
    if "." not in name or not name.isascii() or not DOMAIN.match(name):
        raise typer.BadParameter(f"{value!r} is not a full domain name", param_hint=option)
    return name


def _alias(domain: str, alias: tuple[str, str]) -> tuple[str, str]:
    address = alias[0] if "@" in alias[0] else f"{alias[0]}@{domain}"
    return _mailbox(address, "--alias"), _mailbox(alias[1], "--alias")


def _mailbox(value: str, option: str) -> str:
    try:
        return str(parse(value))
    except BadAddress as error:
        raise typer.BadParameter(f"{value!r}: {error}", param_hint=option) from None


def _ip(value: str) -> str:
    try:
        return str(ipaddress.ip_address(value))
    except ValueError:
        raise typer.BadParameter(f"{value!r} is not an IP address", param_hint="--address") from None


def _own_name() -> str:
    """The host's full name; empty where it has none, or none for the public DNS."""
    name = normal_domain(socket.getfqdn())
    return name if "." in name and DOMAIN.match(name) and name.rpartition(".")[2] not in _NOT_PUBLIC else ""


def _own_addresses() -> Iterator[str]:
    """The public addresses that this host sends from, one for each family. Connecting a UDP socket sends nothing."""
    for family, destination in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                probe.connect((destination, _SMTP))
                own: str = probe.getsockname()[0]
        except OSError:
            continue
        if ipaddress.ip_address(own).is_global:
            yield own


def _may_bind(port: int) -> bool:
    try:
        first_free = int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text())
    except (OSError, ValueError):
        first_free = 1024
    return os.geteuid() == 0 or port >= first_free


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
            probe.bind(("::", 0))
    except OSError:
        return False
    return True


def _write(files: Mapping[Path, str]) -> None:
    """Put all files in place, or none; they and new folders are for their owner alone."""
    ready: dict[Path, str] = {}
    try:
        for path, text in files.items():
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            handle, ready[path] = tempfile.mkstemp(dir=path.parent, prefix=".new-")
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
    except BaseException:
        for temporary in ready.values():
            Path(temporary).unlink()
        raise
    for path, temporary in ready.items():
        Path(temporary).replace(path)


def _summary(site: Site, port: int, config: Path, written: Mapping[Path, object]) -> Iterator[str]:
    yield f"wrote {', '.join(map(str, written))}"
    if site.is_example:
        name = socket.gethostname()
        yield f"{_EXAMPLE} is only an example, since this host's name ({name}) tells no domain: --force --domain yours"
    if port != _SMTP:
        yield f"port {port}, since only root may bind port {_SMTP} here: {config} says how to change that"
    if not site.postmaster:
        yield f"still to be said, in {config}: routes.postmaster"
    yield f"publish the records above, write your aliases, then: srs-relay serve --config {config}"

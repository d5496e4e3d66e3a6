"""`srs-relay init DIR`: from nothing to a folder that `serve` runs, and the DNS records that go with it.

What can be guessed is guessed from the host's own name and addresses, and stands in the written file to be changed.
The records go to stdout, as lines for a zone file; everything else that is said goes to stderr.
"""

from __future__ import annotations

import ipaddress
import json
import os
import secrets
import socket
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from relay.cli.errors import CommandFailed
from relay.cli.records import records
from relay.config.values import moment
from relay.mail.address import DOMAIN, BadAddress, normal_domain, parse
from relay.sign import keys
from relay.sign.keys import SigningKey

SELECTOR = "relay1"
HASH = 8  # characters of the hash in SRS addresses: 2^40 to try, where the 4 of other forwarders are 2^20
_SECRET_OCTETS = 32
_EXAMPLE = "fwd.example"  # the domain that is written where this host's name tells none (RFC 2606)
_SMTP, _UNPRIVILEGED = 25, 2525  # ports
_NOT_PUBLIC = ("localdomain", "local", "internal", "lan", "arpa")  # RFC 6761, RFC 6762 and custom


class Site(NamedTuple):
    """What the configuration and the records are made of."""

    hostname: str
    domain: str
    addresses: tuple[str, ...]
    postmaster: str
    is_example: bool


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
        config: _config(site, port, _hashes(folder)),
        aliases: _aliases(site.domain, alias),
        folder / "srs.secret": secrets.token_urlsafe(_SECRET_OCTETS) + "\n",
        key_file: keys.generate("rsa2048").decode("ascii"),
    }
    there = {path for path in files if path.exists()}
    if there and not force:
        raise CommandFailed(f"{min(there)} is there already; nothing was written (--force replaces relay.toml alone)")
    if alias and aliases in there:
        raise CommandFailed(f"{aliases} is there already and stays as it is; write the alias into it")
    pem = key_file.read_bytes() if key_file in there else files[key_file].encode("ascii")
    try:
        key = SigningKey(site.domain, SELECTOR, keys.parse(pem))
    except ValueError as error:
        raise CommandFailed(f"{key_file}: {error}") from None
    written = {path: content for path, content in files.items() if path == config or path not in there}
    _write(written)
    print("\n".join(records(site.hostname, site.domain, site.addresses, key)))
    print("\n".join(_said(site, port, config, written)), file=sys.stderr)


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
    """The host's full name; empty where it has none that others could know."""
    name = normal_domain(socket.getfqdn())
    return name if "." in name and DOMAIN.match(name) and name.rpartition(".")[2] not in _NOT_PUBLIC else ""


def _own_addresses() -> Iterator[str]:
    """The public addresses that this host sends from, one a family. Connecting a UDP socket sends nothing."""
    for family, somewhere in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                probe.connect((somewhere, _SMTP))
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


def _hashes(folder: Path) -> str:
    """The lines on the hash of SRS addresses; where the secret stays, the addresses that it has signed still count."""
    since, shortest = _hashes_before(folder) if (folder / "srs.secret").exists() else (None, HASH)
    tomorrow = _tomorrow()
    gone = max(tomorrow, since or tomorrow) + timedelta(days=22)  # past the default of srs.max_age
    lines = ['hash = "framed"']
    if since is not None:
        lines += [
            f"# Addresses of earlier days have another hash. From {gone} on this line can go.",
            f"framed_since = {since}",
        ]
    lines.append(f"hash_length = {HASH}")
    if shortest < HASH:
        lines.append(f"# Addresses with a shorter hash have been sent. From {gone} on this can be {HASH}.")
    lines.append(f"hash_min = {shortest}")
    return "\n".join(lines)


def _hashes_before(folder: Path) -> tuple[date | None, int]:
    """From which day on addresses are framed, None where that is every day, and the shortest hash that was good, by the
    configuration that is replaced. One that cannot be read may have had the defaults.
    """
    try:
        srs = tomllib.loads((folder / "relay.toml").read_text(encoding="utf-8"))["srs"]
        shortest = min(HASH, int(srs.get("hash_min", 4)))
        if srs.get("hash") != "framed":
            return _tomorrow(), shortest
        return moment(srs["framed_since"]).date() if "framed_since" in srs else None, shortest
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return _tomorrow(), 4


def _tomorrow() -> date:
    return datetime.now(UTC).date() + timedelta(days=1)


def _config(site: Site, port: int, hashes: str) -> str:
    ipv6 = "" if _has_ipv6() else "#"
    postmaster = (
        f"postmaster = {_quoted(site.postmaster)}" if site.postmaster else '#postmaster = "you@mailbox.example"'
    )
    return f"""\
# The configuration of srs-relay. Paths are relative to this file's folder. Keys that are not here have their defaults.

# This host, as its MX record and the PTR record of its address name it.
hostname = {_quoted(site.hostname)}

# Where mail comes in. Port 25 is where other mail hosts look; it needs root, the capability CAP_NET_BIND_SERVICE (with
# systemd: AmbientCapabilities=CAP_NET_BIND_SERVICE), or a redirection from port 25 to another.
[[listen]]
address = "0.0.0.0:{port}"

{ipv6}[[listen]]
{ipv6}address = "[::]:{port}"

# With a certificate STARTTLS is offered.
#[tls]
#certificate = "fullchain.pem"
#private_key = "privkey.pem"

# Clients that may send to any recipient: your own mail hosts. Everyone else reaches the aliases and domains below.
[clients]
trusted = []

# Domains that we may send for: their senders leave as they are, every other one is rewritten.
[senders]
local_domains = [{_quoted(site.domain)}]

# Rewritten senders are SRS0=...@{site.domain}. A new secret goes on top of its file; the old one stays for 21 days.
[srs]
domain = {_quoted(site.domain)}
secrets_file = "srs.secret"
# Without these lines the hash in them is that of PostSRSd, with which a secret can be shared.
{hashes}

[[dkim]]
domain = {_quoted(site.domain)}
selector = "{SELECTOR}"
private_key = "dkim/{SELECTOR}.pem"

[routes]
# Which addresses forward to where, in the format of Postfix's virtual(5); read again when it changes.
aliases = "aliases"
# The mailbox for postmaster@ (RFC 5321 section 4.5.1), abuse@ and mailer-daemon@ of every domain that is served.
{postmaster}

# A whole domain that goes to a mailbox host, which is asked for its users:
#[routes.domains."example.org"]
#next_hop = "lmtp://10.0.0.5:24"
#recipients = "callout"

[queue]
url = "sqlite:///queue.db"
"""


def _quoted(text: str) -> str:
    """A TOML basic string; for text without DEL, JSON's strings are that."""
    return json.dumps(text, ensure_ascii=False)


def _aliases(domain: str, alias: tuple[str, str] | None) -> str:
    first = ""
    if alias:
        source = alias[0] if "@" in alias[0] else f"{alias[0]}@{domain}"
        first = f"\n{_mailbox(source, '--alias')}    {_mailbox(alias[1], '--alias')}\n"
    return f"""\
# Addresses that forward to others, in the format of Postfix's virtual(5). Read again when this file changes.
#
#alice@{domain}    alice@mailbox.example
#team@{domain}     alice@mailbox.example, bob@company.example
#
# Every other user of the domain:
#@{domain}         admin@mailbox.example
{first}"""


def _write(files: Mapping[Path, str]) -> None:
    """Put all of the files in place, or none of them; they, and folders that are missing, are for their owner alone."""
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


def _said(site: Site, port: int, config: Path, written: Mapping[Path, object]) -> Iterator[str]:
    yield f"wrote {', '.join(map(str, written))}"
    if site.is_example:
        name = socket.gethostname()
        yield f"{_EXAMPLE} is only an example, since this host's name ({name}) tells no domain: --force --domain yours"
    if port != _SMTP:
        yield f"port {port}, since only root may bind port {_SMTP} here: {config} says how to change that"
    if not site.postmaster:
        yield f"still to be said, in {config}: routes.postmaster"
    yield f"publish the records above, write your aliases, then: srs-relay serve --config {config}"

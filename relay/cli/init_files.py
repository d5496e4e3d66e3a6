"""The text of the files that `srs-relay init` writes."""

from __future__ import annotations

import json
import tomllib
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from relay.config.values import point_in_time

SELECTOR = "relay1"
HASH = 8  # characters of the hash in SRS addresses: 2^40 to try, where the 4 of other forwarders are 2^20


class Site(NamedTuple):
    """The names and addresses from which the configuration and the records are written."""

    hostname: str
    domain: str
    addresses: tuple[str, ...]
    postmaster: str
    is_example: bool


def hash_lines(folder: Path) -> str:
    """The lines on the hash of SRS addresses; where the secret stays, addresses that it has signed stay valid."""
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
    """From which day on addresses are framed (None: always), and the shortest valid hash, by the old configuration.

    One that cannot be read may have had the defaults.
    """
    try:
        srs = tomllib.loads((folder / "relay.toml").read_text(encoding="utf-8"))["srs"]
        shortest = min(HASH, int(srs.get("hash_min", 4)))
        if srs.get("hash") != "framed":
            return _tomorrow(), shortest
        return point_in_time(srs["framed_since"]).date() if "framed_since" in srs else None, shortest
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return _tomorrow(), 4


def _tomorrow() -> date:
    return datetime.now(UTC).date() + timedelta(days=1)


def config_text(site: Site, port: int, hashes: str, *, has_ipv6: bool) -> str:
    """The configuration file.

    Args:
        hashes: the lines of `hash_lines`.
    """
    ipv6 = "" if has_ipv6 else "#"
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


def aliases_text(domain: str, alias: tuple[str, str] | None) -> str:
    """The alias file, with a first alias where one is given."""
    first = ""
    if alias:
        first = f"\n{alias[0]}    {alias[1]}\n"
    return f"""\
# Addresses that forward to others, in the format of Postfix's virtual(5). Read again when this file changes.
#
#alice@{domain}    alice@mailbox.example
#team@{domain}     alice@mailbox.example, bob@company.example
#
# Every other user of the domain:
#@{domain}         admin@mailbox.example
{first}"""

"""The text of the files that `srs-relay init` writes, and of config/examples, for each of the three uses."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from relay.cli.host_addresses import NAMES
from relay.cli.init_hashes import NEW_SITE
from relay.route.alias_entries import AliasError
from relay.route.alias_file import parse_virtual
from relay.route.alias_table import AliasTable
from relay.sending_addresses import Family

SELECTOR = "relay1"
SMTP = 25  # port
RELAYHOST_PORT = 10025

Use = Literal["forwarding", "mailboxes", "relayhost"]


@dataclass(frozen=True, slots=True)
class Site:
    """What a configuration is written from.

    Attributes:
        domain: the domain whose mail comes in, or whose users send.
        srs_domain: the domain of rewritten senders.
        postmaster: empty where it is not known.
        next_hop: where mail for the domain goes; empty for a forwarding host, whose aliases say it.
        port: the port to listen on.
        families: the address families that mail may leave by; empty for both.
        sources: the address to send from in a family, where the kernel is not to choose it.
        hashes: the lines of `hash_lines`.
    """

    use: Use
    hostname: str
    domain: str
    srs_domain: str
    postmaster: str = ""
    next_hop: str = ""
    port: int = SMTP
    has_ipv6: bool = True
    families: Sequence[Family] = ()
    sources: Mapping[Family, str] = field(default_factory=dict)
    hashes: str = NEW_SITE

    @property
    def signing_domains(self) -> tuple[str, ...]:
        """The domains that get a key: a relayhost signs the mail of its own users, too."""
        if self.use == "relayhost":
            return tuple(dict.fromkeys((self.domain, self.srs_domain)))
        return (self.srs_domain,)

    @property
    def has_aliases(self) -> bool:
        """Whether there is an alias file. Behind Postfix, Postfix has it."""
        return self.use != "relayhost"


def config_text(site: Site) -> str:
    """The configuration file."""
    parts = [_opening(site), _listeners(site), _clients(site), _senders(site), _srs(site)]
    parts += [_key(domain) for domain in site.signing_domains]
    parts += [_routes(site), _delivery(site), '[queue]\nurl = "sqlite:///queue.db"']
    return "\n\n".join(parts) + "\n"


def _opening(site: Site) -> str:
    use = {
        "forwarding": f"""\
# A forwarding host: it is the MX of {site.domain}, whose addresses lead to mailboxes elsewhere.
# docs/forwarding-host.md says more, config/relay.toml has every other key.""",
        "mailboxes": f"""\
# In front of mailboxes: it is the MX of {site.domain} and hands accepted mail to the mailbox host. Aliases forward.
# docs/mailbox-front.md says more, config/relay.toml has every other key.""",
        "relayhost": f"""\
# Behind Postfix, which hands over all outgoing mail (relayhost = [127.0.0.1]:{site.port}). Senders of our domains stay
# as they are, and their mail is signed. All others, the senders of forwarded mail, get an SRS address.
# docs/postfix-relayhost.md says what Postfix needs, config/relay.toml has every other key.""",
    }[site.use]
    return f"""\
{use}
# Paths are relative to this file's folder. Keys that are not here have their defaults.

# This host, as the PTR record of its address names it.
hostname = {_quoted(site.hostname)}"""


def _listeners(site: Site) -> str:
    if site.use == "relayhost":
        return f"""\
# Only Postfix on this host reaches it.
[[listen]]
address = "127.0.0.1:{site.port}\""""
    ipv6 = "" if site.has_ipv6 else "#"
    return f"""\
# Where mail comes in. Port 25 is where other mail hosts look; it needs root, the capability CAP_NET_BIND_SERVICE (with
# systemd: AmbientCapabilities=CAP_NET_BIND_SERVICE), or a redirection from port 25 to another.
[[listen]]
address = "0.0.0.0:{site.port}"

{ipv6}[[listen]]
{ipv6}address = "[::]:{site.port}"

# With a certificate STARTTLS is offered.
#[tls]
#certificate = "fullchain.pem"
#private_key = "privkey.pem\""""


def _clients(site: Site) -> str:
    if site.use == "relayhost":
        return f"""\
# Postfix may send to any recipient.
[clients]
trusted = ["127.0.0.1"]
# The authserv-id of Postfix's milters: their results decide whether From has to change.
#authserv_ids = [{_quoted(site.hostname)}]"""
    return """\
# Clients that may send to any recipient: your own mail hosts. Everyone else reaches the aliases and domains below.
[clients]
trusted = []"""


def _senders(site: Site) -> str:
    return f"""\
# Domains that we may send for: their senders leave as they are, every other one is rewritten.
[senders]
local_domains = [{_quoted(site.domain)}]"""


def _srs(site: Site) -> str:
    about = [
        f"# Rewritten senders are SRS0=...@{site.srs_domain}. A new secret goes on top of its file; the old one stays"
        " for 21 days."
    ]
    if site.srs_domain != site.domain:
        about.append("# A domain of their own keeps them apart from mailboxes.")
    return f"""\
{chr(10).join(about)}
[srs]
domain = {_quoted(site.srs_domain)}
secrets_file = "srs.secret"
# Without these lines the hash in them is that of PostSRSd, with which a secret can be shared.
{site.hashes}"""


def _key(domain: str) -> str:
    return f"""\
[[dkim]]
domain = {_quoted(domain)}
selector = "{SELECTOR}"
private_key = "dkim/{SELECTOR}.pem\""""


def _routes(site: Site) -> str:
    postmaster = (
        f"postmaster = {_quoted(site.postmaster)}" if site.postmaster else '#postmaster = "you@mailbox.example"'
    )
    lines = ["[routes]"]
    if site.has_aliases:
        lines += [
            "# Which addresses forward to where, in the format of Postfix's virtual(5); read again when it changes.",
            'aliases = "aliases"',
        ]
    lines += [
        "# The mailbox for postmaster@ (RFC 5321 section 4.5.1), abuse@ and mailer-daemon@ of every domain that is"
        " served.",
        postmaster,
        "",
    ]
    if site.next_hop:
        lines += {
            "mailboxes": ["# The mailbox host trusts us: it gets the true sender. It is asked which users exist."],
            "relayhost": [
                "# Bounces to our own users go back to Postfix. Their MX is this host, and mail routed by DNS never"
                " goes there."
            ],
        }[site.use]
        lines += [
            f"[routes.domains.{_quoted(site.domain)}]",
            f"next_hop = {_quoted(site.next_hop)}",
            'recipients = "callout"',
            "srs = false",
        ]
    else:
        lines += [
            "# A whole domain that goes to a mailbox host, which is asked for its users:",
            '#[routes.domains."example.org"]',
            '#next_hop = "lmtp://10.0.0.5:24"',
            '#recipients = "callout"',
        ]
    return "\n".join(lines)


def _delivery(site: Site) -> str:
    off = "" if site.families or site.sources else "#"
    lines = [f"{off}[delivery]"]
    if site.families:
        (family,) = site.families
        other = NAMES["ipv6" if family == "ipv4" else "ipv4"]
        lines += [
            f"# The DNS records are for {NAMES[family]} alone: mail by {other} would fail SPF and have no PTR record.",
            f"# Publish the {other} address of this host before you remove this line.",
            f'families = ["{family}"]',
        ]
    for family, source in site.sources.items():
        lines += [
            "# The address that DNS names. The kernel may choose another one of this host.",
            f'source_{family} = "{source}"',
        ]
    if off:
        lines = [
            "# Mail leaves by IPv4 and IPv6, from the address that the kernel chooses. DNS has to name each of them.",
            *lines,
            '#families = ["ipv4"]',
        ]
    return "\n".join(lines)


def _quoted(text: str) -> str:
    """A TOML basic string; for text without DEL, JSON's strings are that."""
    return json.dumps(text, ensure_ascii=False)


def aliases_text(domain: str, aliases: Sequence[tuple[str, str]] = ()) -> str:
    """The alias file.

    Args:
        aliases: the left and the right side of each entry.
    """
    entries = "".join(f"{pattern}    {targets}\n" for pattern, targets in aliases)
    return f"""\
# Addresses that forward to others, in the format of Postfix's virtual(5). Read again when this file changes.
#
#alice@{domain}    alice@mailbox.example
#team@{domain}     alice@mailbox.example, bob@company.example
#
# Every other user of the domain:
#@{domain}         admin@mailbox.example
{chr(10) if entries else ""}{entries}"""


def aliases_not_in(text: str, aliases: Sequence[tuple[str, str]]) -> list[str]:
    """The lines of those entries that an alias file does not have.

    Args:
        text: the file.
        aliases: the left and the right side of each entry.
    """
    lines = [f"{pattern} {targets}" for pattern, targets in aliases]
    try:
        there = parse_virtual(text, "aliases")
    except AliasError:
        return lines
    return [line for line in lines if not _has(there, parse_virtual(line, "aliases"))]


def _has(table: AliasTable, entry: AliasTable) -> bool:
    return entry.entries.items() <= table.entries.items() and entry.closed.items() <= table.closed.items()

"""Writes config/examples, one for each use, and the parts of the pages about them: the text is what `init` writes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from relay.cli.init_files import RELAYHOST_PORT, Site, config_text

EXAMPLES: dict[str, Site] = {
    "forwarding-host": Site(
        "forwarding",
        hostname="mx.fwd.example",
        domain="fwd.example",
        srs_domain="fwd.example",
        postmaster="admin@mailbox.example",
    ),
    "mailbox-front": Site(
        "mailboxes",
        hostname="mx.example.org",
        domain="example.org",
        srs_domain="srs.example.org",
        postmaster="admin@example.org",
        next_hop="lmtp://10.0.0.5:24",
    ),
    "postfix-relayhost": Site(
        "relayhost",
        hostname="mail.example.com",
        domain="example.com",
        srs_domain="srs.example.com",
        postmaster="postmaster@example.com",
        next_hop="smtp://127.0.0.1:25",
        port=RELAYHOST_PORT,
    ),
}


def example_files() -> dict[str, Callable[[], str]]:
    """The files of config/examples, each with the function that makes its text."""
    return {f"config/examples/{name}.toml": partial(config_text, site) for name, site in EXAMPLES.items()}

"""The keys that no other program knows, for sources that tell of one part of a host alone."""

from __future__ import annotations

import secrets
from pathlib import Path

from relay.importer.draft import NEW, Draft, Key, Origin

_SECRET_OCTETS = 32
_POSTSRSD_SECRET = Path("/etc/postsrsd.secret")
_HASH = 8  # characters: a new secret has signed no shorter ones, and 4 can be found by trying


def ask_for_host(draft: Draft, *, domain: str = "example.org") -> None:
    """The name of the host, a listener, and who reads mail to postmaster.

    Args:
        domain: a domain of the site, for the examples.
    """
    text = "the name of this host, as its MX record and the PTR record of its address name it."
    draft.ask((), "hostname", f"mx.{domain}", text)
    if "listen" not in draft.arrays:
        text = (
            "where mail comes in. Port 25 is free once the other mail server has stopped; any port will do behind one."
        )
        draft.entry("listen", {"address": Key("0.0.0.0:25")}, text, "fill in")
    text = "who reads mail to postmaster@, abuse@ and mailer-daemon@ (RFC 5321 section 4.5.1)."
    draft.ask(("routes",), "postmaster", "admin@mailbox.example", text, "if wanted")


def ask_for_srs(draft: Draft, *, domain: str = "example.org") -> None:
    """The domain of rewritten senders, with a new secret."""
    text = "the domain of rewritten senders. Its MX leads here: that is how bounces come back."
    draft.ask(("srs",), "domain", domain, text)
    comment = "If PostSRSd runs here, take its file: `srs-relay import postsrsd` says which."
    draft.new_file(("srs",), "secrets_file", "srs.secret", secrets.token_urlsafe(_SECRET_OCTETS) + "\n", NEW, comment)
    comment = 'The format that PostSRSd reads as well. "framed" is harder to forge, if no other host shares the secret.'
    draft.set(("srs",), "hash", "compatible", comment=comment)
    draft.set(("srs",), "hash_length", _HASH, comment="The new secret has signed no shorter ones.")
    draft.set(("srs",), "hash_min", _HASH, comment="With a secret of PostSRSd: 4, as long as its addresses come back.")


def share_srs(draft: Draft, origin: Origin, *, domain: str) -> None:
    """The domain and the secret of rewritten senders, where PostSRSd answers: bounces to its addresses come home.

    Args:
        origin: what shows that PostSRSd answers.
    """
    text = "the SRS domain of PostSRSd (SRS_DOMAIN, srs-domain): `srs-relay import postsrsd` prints it."
    draft.ask(("srs",), "domain", domain, text)
    comment = (
        f"{origin} asks PostSRSd: addresses that it has sent are good with its secret alone. This is where it is by"
        " default; `srs-relay import postsrsd` says whether it is elsewhere."
    )
    draft.their_file(("srs",), "secrets_file", _POSTSRSD_SECRET, "srs.secret", NEW, comment)
    draft.set(("srs",), "hash", "compatible", comment="PostSRSd's format.")


def tell_routes(draft: Draft) -> None:
    """Say that the source does not know which recipients are ours."""
    draft.remark(
        ("routes",),
        f"{draft.program} does not know which recipients are ours: `aliases` names a file of addresses that forward to"
        " others, [routes.domains] whole domains (docs/configuration.md). `srs-relay import postfix` reads them from"
        " Postfix.",
    )

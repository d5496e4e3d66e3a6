"""The addresses that the way home is tried with: an SRS address of ours, a forged one, and one of a stranger."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice

from relay.check.site import Site
from relay.mail.address import domain_of
from relay.srs import address as srs

STRANGERS = "example.com", "example.net", "example.org"  # RFC 2606 section 3: no mail host is in charge of them
_NOWHERE = "way-home.invalid"  # RFC 2606 section 2
_UNGUESSABLE = 8  # characters of a hash of which the relay says the truth, however many forged ones were tried before
_CHARACTERS = "bcdfghjkmnpqrstvwxz"  # of a local part: without vowels they make no word
_TAG = 5  # characters of `SRS0=`
_NAME = re.compile(r"[a-z0-9-]+(?:\.[a-z0-9-]+)+")  # no address literal, nothing that needs SMTPUTF8
_TARGETS = 1000  # of the alias table that are looked at: a table of a hundred thousand must not hold up mail


@dataclass(frozen=True, slots=True)
class ReturnTrial:
    """Addresses to ask a mail host about.

    Attributes:
        good: an SRS address as we write it, which stands for a foreign sender.
        forged: the same with another hash.
        stranger: at a domain that is not ours.
    """

    good: str
    forged: str
    stranger: str


def return_trial(site: Site) -> ReturnTrial:
    """New addresses for one trial.

    No two trials have the same addresses, because hosts remember what they found out about one: Postfix does so for a
    month (`address_verify_positive_expire_time`).
    """
    scheme = site.files.scheme
    local = "".join(secrets.choice(_CHARACTERS) for _ in range(8))
    for domain in _foreign_domains(site):
        sender = f"{local}@{domain}"
        try:
            good = srs.forward(sender, scheme, site.now)
            longer = replace(scheme, hash_length=max(scheme.hash_length, _UNGUESSABLE))
            forged = _with_another_hash(srs.forward(sender, longer, site.now))
        except srs.SrsError:  # the name is too long for an SRS address, which serve would store
            continue
        return ReturnTrial(good, forged, f"{local}@{_strange_domain(site)}")
    raise AssertionError(f"{_NOWHERE} fits into every SRS address")


def _foreign_domains(site: Site) -> Iterator[str]:
    """Domains of which the relay knows no users, as of most senders: it accepts all of them.

    First that of an alias target: it exists, so that other programs, which look it up, know a way there as well.
    """
    config = site.config
    table = site.files.tables.aliases.listed.entries
    served = _served_domains(site)
    ours = served | config.own_domains | {config.hostname}
    targets = islice((target for entry in table.values() for target in entry), _TARGETS)
    for domain in dict.fromkeys(map(domain_of, targets)):
        if domain not in ours and _NAME.fullmatch(domain):
            yield domain
    if config.hostname not in served | {config.srs.domain}:
        yield config.hostname
    yield _NOWHERE


def _served_domains(site: Site) -> set[str]:
    """Domains whose users the relay knows."""
    return set(site.config.routes.domains) | site.files.tables.aliases.listed.domains


def _strange_domain(site: Site) -> str:
    """A domain that is not ours, and under which no name of ours is: of its own users a mail host takes no others,
    whether it trusts us or not.
    """
    ours = _served_domains(site) | site.config.own_domains | {site.config.hostname}
    strange = (domain for domain in STRANGERS if not any(f".{own}".endswith(f".{domain}") for own in ours))
    return next(strange, STRANGERS[0])


def _with_another_hash(address: str) -> str:
    """The address with every character of its hash changed, so that it differs in whatever part of it is compared."""
    tag, (hashed, _, rest) = address[:_TAG], address[_TAG:].partition("=")
    return f"{tag}{''.join(map(_another, hashed))}={rest}"


def _another(character: str) -> str:
    """Another letter or digit; case does not count in hashes."""
    for alphabet in ("abcdefghijklmnopqrstuvwxyz", "0123456789"):
        if (place := alphabet.find(character.lower())) >= 0:
            return alphabet[(place + 1) % len(alphabet)]
    return "a"

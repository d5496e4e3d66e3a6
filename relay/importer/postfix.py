"""`import postfix`: main.cf, /etc/postfix, or the output of `postconf -n`."""

from __future__ import annotations

from pathlib import Path

from relay.importer import (
    main_cf,
    postfix_delivery,
    postfix_destinations,
    postfix_incoming,
    postfix_recipients,
    postfix_smtpd,
)
from relay.importer.asked import ask_for_host, ask_for_srs, share_srs
from relay.importer.draft import Draft, ImportFailed
from relay.importer.postfix_certificates import set_certificates
from relay.importer.postfix_listeners import set_listeners
from relay.importer.postfix_meanings import KNOWN, asks_postsrsd, tell_services, tell_unmapped
from relay.importer.postfix_users import set_users
from relay.mail.address import is_domain


def read(path: Path) -> Draft:
    """The configuration of an installation.

    Args:
        path: main.cf, a folder that has it, a file with the output of `postconf -n`, or `-` for standard input.

    Raises:
        ImportFailed: it is none of these, or cannot be read.
    """
    parameters = main_cf.read(path)
    if KNOWN.isdisjoint(parameters.parameters):
        names = ", ".join(list(parameters.parameters)[:3])
        raise ImportFailed(f"{parameters.source}: this is no configuration of Postfix: it does not know {names}")
    draft = Draft("Postfix", parameters.source)
    ports, other_services = postfix_smtpd.ports(parameters)
    set_certificates(draft, ports)
    set_listeners(draft, ports)
    postfix_incoming.fill(draft, parameters)
    transports = postfix_recipients.fill(draft, parameters)
    set_users(draft, ports)
    postfix_delivery.fill(draft, parameters)
    postfix_destinations.fill(draft, parameters, transports.entries, transports.routed)
    tell_services(draft, ports, other_services)
    parameters.read.update(*(smtpd.main_cf.read for smtpd in ports))
    tell_unmapped(draft, parameters)
    domain = parameters.get("mydomain")
    domain = domain if is_domain(domain) and "." in domain else "example.org"
    ask_for_host(draft, domain=domain)
    if draft.value(("routes", "domains", domain), "recipients") == "any":
        domain = f"srs.{domain}"  # a forged bounce to a domain that takes every user would go on to its mailbox host
    postsrsd = asks_postsrsd(parameters)
    if postsrsd is None:
        ask_for_srs(draft, domain=domain)
    else:
        share_srs(draft, postsrsd, domain=domain)
    return draft

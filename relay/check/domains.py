"""The domains that the checks look at, by what they mean to this host; each once, in the order of the configuration."""

from __future__ import annotations

from relay.check.site import Site


def sending_domains(site: Site) -> tuple[str, ...]:
    """The SRS domain and the local domains: senders of theirs leave from our addresses."""
    return _distinct(site.config.srs.domain, *site.config.senders.local_domains)


def own_domains(site: Site) -> tuple[str, ...]:
    """The sending domains, and those that we sign as."""
    return _distinct(*sending_domains(site), *sorted(site.files.signer.table.domains))


def receiving_domains(site: Site) -> tuple[str, ...]:
    """The SRS domain, and the domains of the alias table and of the domain routes.

    Names of a single label are left out: DNS of the world does not have them.
    """
    aliased = sorted(site.files.tables.aliases.listed.domains)
    domains = _distinct(site.config.srs.domain, *aliased, *site.config.routes.domains)
    return tuple(domain for domain in domains if "." in domain and not domain.startswith("["))


def _distinct(*domains: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(domains))

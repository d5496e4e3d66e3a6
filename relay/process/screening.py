"""Builds what is asked of mail that could be taken: access tables, DNS lists, the filter, what a client has to show."""

from __future__ import annotations

from relay.config.model import Config
from relay.dns import Resolver
from relay.dns_lists.lists import Lists
from relay.intake.client_requirements import ClientRequirements
from relay.intake.screening import ContentFilter, Screening
from relay.metrics import Metrics
from relay.process.files import Files
from relay.rate import Rates


def build_screening(config: Config, files: Files, resolver: Resolver, metrics: Metrics, rates: Rates) -> Screening:
    """The screening of one worker; its parts are None where they are not configured."""
    clients = config.clients
    requires = clients.require_reverse != "none" or clients.require_helo != "none"
    return Screening(
        access=files.access or None,
        requirements=ClientRequirements(clients, resolver) if requires else None,
        lists=Lists(clients, resolver, metrics.dns_lists.add) if clients.dns_lists else None,
        content=_content_filter(config, resolver, metrics, rates),
    )


def _content_filter(config: Config, resolver: Resolver, metrics: Metrics, rates: Rates) -> ContentFilter | None:
    if config.filter.rspamd is None and config.filter.clamav is None:
        return None
    from relay.content_filter.message_filter import MessageFilter  # it loads an HTTP client

    return MessageFilter(config, resolver, metrics, rates.greylist)

"""Which domains are looked at."""

from __future__ import annotations

from pathlib import Path

from relay.check.domains import own_domains, receiving_domains, sending_domains
from tests.check.sites import site


def test_domains_by_what_they_mean_to_us(tmp_path: Path) -> None:
    aliases = "a@alias.example x@there.test\nb@fwd.example x@there.test\nroot@localhost x@there.test\n"
    routes = {"aliases": "aliases", "domains": {"route.example": {"recipients": "any", "next_hop": "smtp://10.0.0.1"}}}
    key = {"domain": "signed.example", "selector": "s1", "private_key": "relay1.pem"}
    local = {"local_domains": ["local.example", "fwd.example"]}
    here = site(tmp_path, {}, aliases=aliases, routes=routes, dkim=[key], senders=local)
    assert sending_domains(here) == ("fwd.example", "local.example")
    assert own_domains(here) == ("fwd.example", "local.example", "signed.example")
    assert receiving_domains(here) == ("fwd.example", "alias.example", "route.example")


def test_a_site_without_tables(tmp_path: Path) -> None:
    assert receiving_domains(site(tmp_path, {}, routes=None)) == ("fwd.example",)

"""The text that `init` writes; `test_init` has the command."""

from __future__ import annotations

import tomllib
from dataclasses import replace

import pytest

from relay.cli.init_files import Site, Use, aliases_not_in, aliases_text, config_text
from relay.config.file import parse
from relay.network import Endpoint, endpoint
from relay.route.alias_file import parse_virtual
from relay.sending_addresses import Family

SITE = Site("forwarding", "mx.fwd.example", "fwd.example", "fwd.example")
MAILBOXES = Site(
    "mailboxes", "mx.example.org", "example.org", "srs.example.org", "admin@example.org", "lmtp://10.0.0.5:24"
)
RELAYHOST = Site(
    "relayhost", "mail.example.com", "example.com", "srs.example.com", "", "smtp://127.0.0.1:25", port=10025
)


@pytest.mark.parametrize("has_ipv6", [True, False])
def test_the_configuration_listens_where_it_can(has_ipv6: bool) -> None:
    config = tomllib.loads(config_text(replace(SITE, port=2525, has_ipv6=has_ipv6, hashes='hash = "framed"')))
    assert [listener["address"] for listener in config["listen"]] == ["0.0.0.0:2525", "[::]:2525"][: 1 + has_ipv6]
    assert config["srs"] == {"domain": "fwd.example", "secrets_file": "srs.secret", "hash": "framed"}
    assert "postmaster" not in config["routes"]


def test_a_mailbox_of_any_form_is_quoted() -> None:
    site = replace(SITE, postmaster='"the \\"admin"@mailbox.example')
    assert tomllib.loads(config_text(site))["routes"]["postmaster"] == site.postmaster


@pytest.mark.parametrize(
    ("site", "domains", "hops"),
    [
        (SITE, ["fwd.example"], {}),
        (MAILBOXES, ["srs.example.org"], {"example.org": endpoint("lmtp://10.0.0.5:24")}),
        (RELAYHOST, ["example.com", "srs.example.com"], {"example.com": endpoint("smtp://127.0.0.1:25")}),
        (replace(RELAYHOST, srs_domain="example.com"), ["example.com"], {"example.com": endpoint("smtp://127.0.0.1")}),
    ],
)
def test_each_use_has_its_keys_and_its_next_hop(site: Site, domains: list[str], hops: dict[str, Endpoint]) -> None:
    config = parse(config_text(site), None, {}, require_files=False)
    assert [key.domain for key in config.dkim] == domains
    assert {domain: route.next_hop for domain, route in config.routes.domains.items()} == hops
    assert all(route.srs is False and route.recipients == "callout" for route in config.routes.domains.values())
    assert config.senders.local_domains == (site.domain,)


def test_only_postfix_on_the_same_host_reaches_its_relayhost() -> None:
    config = parse(config_text(RELAYHOST), None, {}, require_files=False)
    assert [listener.address for listener in config.listen] == ["127.0.0.1:10025"]
    assert [str(network) for network in config.clients.trusted] == ["127.0.0.1/32"]
    assert config.routes.aliases == ()


@pytest.mark.parametrize("use", ["forwarding", "mailboxes"])
def test_other_hosts_trust_nobody(use: Use) -> None:
    assert tomllib.loads(config_text(replace(SITE, use=use)))["clients"]["trusted"] == []


@pytest.mark.parametrize(
    ("families", "sources", "delivery"),
    [
        ((), {}, None),
        (("ipv4",), {}, {"families": ["ipv4"]}),
        (("ipv6",), {}, {"families": ["ipv6"]}),
        ((), {"ipv6": "2001:db8::5"}, {"source_ipv6": "2001:db8::5"}),
        (("ipv4",), {"ipv4": "203.0.113.5"}, {"families": ["ipv4"], "source_ipv4": "203.0.113.5"}),
    ],
)
def test_mail_leaves_only_from_addresses_that_dns_names(
    families: tuple[Family, ...], sources: dict[Family, str], delivery: dict[str, object] | None
) -> None:
    text = config_text(replace(SITE, families=families, sources=sources))
    assert tomllib.loads(text).get("delivery") == delivery
    if families:
        other = {"ipv4": "IPv6", "ipv6": "IPv4"}[families[0]]
        assert f"mail by {other} would fail SPF" in text


@pytest.mark.parametrize("site", [SITE, MAILBOXES, RELAYHOST], ids=lambda site: site.use)
def test_the_text_fits_the_width_of_the_project(site: Site) -> None:
    assert [line for line in config_text(replace(site, families=("ipv4",))).splitlines() if len(line) > 120] == []


def test_the_alias_file_has_examples_and_the_first_aliases() -> None:
    assert parse_virtual(aliases_text("fwd.example"), "aliases").entries == {}
    entries = [("alice@fwd.example", "al@mailbox.example"), ("team@fwd.example", "a@x.example, b@y.example")]
    table = parse_virtual(aliases_text("fwd.example", entries), "aliases")
    assert table.expand("alice@fwd.example") == ("al@mailbox.example",)
    assert table.expand("team@fwd.example") == ("a@x.example", "b@y.example")


def test_entries_that_an_alias_file_has_are_found_however_they_are_written() -> None:
    aliases = [
        ("alice@fwd.example", "al@mailbox.example"),
        ("@club.example", "REJECT gone"),
        ("bob@fwd.example", "b@x.y"),
    ]
    text = "# mine\nAlice@FWD.example\tal@mailbox.example\n@club.example REJECT gone\nbob@fwd.example other@x.y\n"
    assert aliases_not_in(aliases_text("fwd.example", aliases), aliases) == []
    assert aliases_not_in(text, aliases) == ["bob@fwd.example b@x.y"]
    assert aliases_not_in("", aliases[:1]) == aliases_not_in("no entry\n", aliases[:1])
    assert aliases_not_in("", aliases[:1]) == ["alice@fwd.example al@mailbox.example"]

"""The addresses of a trial: the relay accepts the good one and refuses the forged one, whatever is configured."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from relay.check.return_addresses import return_trial
from relay.mail.address import domain_of, split
from relay.mail.envelope import Client
from relay.mail.reply import Refused
from relay.rate import Rates
from relay.route.router import Router
from relay.route.srs_reverse import RouteRequest
from relay.srs.address import Forged, is_guessable, reverse
from tests.check.local_site import DOMAIN, HOSTNAME, local_site

ALIASES = "info@brand.example someone@mailbox.example\n"


def sender_domain(folder: Path, **tables: Any) -> str:
    """The domain of the sender behind the good address."""
    site = local_site(folder, {}, **tables)
    behind = reverse(return_trial(site).good, site.files.scheme, site.now)
    assert isinstance(behind, str)
    return domain_of(behind)


@pytest.mark.parametrize("separator", ["=", "+", "-"])
@pytest.mark.parametrize(
    "srs",
    [
        {},
        {"hash_length": 8, "hash_min": 8, "hash": "framed"},
        {"hash_length": 27, "hash_min": 27, "alphabet": "url"},
        {"hash": "framed", "framed_since": "2099-01-01"},
    ],
)
def test_the_good_address_is_good_and_the_forged_one_is_forged_by_any_hash(
    tmp_path: Path, srs: dict[str, Any], separator: str
) -> None:
    srs = {"domain": DOMAIN, "secrets_file": "srs.secret", "separator": separator, **srs}
    site = local_site(tmp_path, {}, srs=srs)
    for _ in range(20):
        trial = return_trial(site)
        assert trial.good.startswith(f"SRS0{separator}") and trial.good.endswith(f"@{DOMAIN}")
        assert len(split(trial.forged).local) <= 64
        assert reverse(trial.good, site.files.scheme, site.now)
        assert not is_guessable(trial.forged), "its answer would be hidden after many trials"
        with pytest.raises(Forged):
            reverse(trial.forged, site.files.scheme, site.now)


def test_the_good_address_has_the_hash_that_we_write_and_not_a_longer_one(tmp_path: Path) -> None:
    """PostSRSd refuses hashes that are longer than its own."""
    assert len(return_trial(local_site(tmp_path, {})).good.split("=")[1]) == 4


@pytest.mark.parametrize(
    ("aliases", "domain"),
    [
        (ALIASES, "mailbox.example"),
        ("info@brand.example a@brand.example, b@other.example\na@brand.example c@third.example\n", "other.example"),
        ("@brand.example @other.example\n", "other.example"),
        ("info@brand.example a@[192.0.2.1], b@mx.fwd.example, c@localhost, d@fwd.example\n", HOSTNAME),
        ("info@mx.fwd.example a@fwd.example\n", "way-home.invalid"),
        (f"info@brand.example a@{'x' * 50}.example\n", HOSTNAME),
        ("", HOSTNAME),
    ],
)
def test_the_sender_is_at_a_domain_whose_users_we_do_not_know(tmp_path: Path, aliases: str, domain: str) -> None:
    assert sender_domain(tmp_path, aliases=aliases) == domain


def test_domains_of_routes_are_left_out_too(tmp_path: Path) -> None:
    served = {"recipients": "any", "next_hop": "smtp://127.0.0.1:9"}
    routes = {"aliases": "aliases", "domains": {"mailbox.example": served, HOSTNAME: served}}
    assert sender_domain(tmp_path, routes=routes) == "way-home.invalid"


def test_without_an_alias_table_it_is_the_host_name(tmp_path: Path) -> None:
    assert sender_domain(tmp_path, routes={}) == HOSTNAME


@pytest.mark.parametrize(
    ("tables", "domain"),
    [
        ({}, "example.com"),
        ({"senders": {"local_domains": ["example.com"]}}, "example.net"),
        ({"senders": {"local_domains": ["myexample.com"]}}, "example.com"),
        ({"hostname": "mail.example.com"}, "example.net"),
        ({"hostname": "mail.example.com", "aliases": "info@example.net someone@mailbox.example\n"}, "example.org"),
        (
            {"routes": {"domains": {"example.com": {"recipients": "any", "next_hop": "smtp://127.0.0.1:9"}}}},
            "example.net",
        ),
    ],
)
def test_the_stranger_is_at_a_domain_that_is_not_ours(tmp_path: Path, tables: dict[str, Any], domain: str) -> None:
    """The host of our own users refuses an unknown one, though it may relay to everybody else for us."""
    assert domain_of(return_trial(local_site(tmp_path, {}, **tables)).stranger) == domain


def test_a_large_table_does_not_hold_up_the_mail_that_the_same_process_takes(tmp_path: Path) -> None:
    """Its targets are at domains of its own, so that as many are looked at as ever are."""
    count = 50_000
    lines = (f"info@d{number}.example a@d{(number + 1) % count}.example\n" for number in range(count))
    site = local_site(tmp_path, {}, aliases="".join(lines))
    begin = time.process_time()
    return_trial(site)
    assert time.process_time() - begin < 0.5


@pytest.mark.parametrize(
    "aliases", ["", ALIASES, "info@mx.fwd.example a@fwd.example\n", "@mx.fwd.example a@fwd.example\n"]
)
async def test_the_router_accepts_the_good_address_from_a_stranger_and_no_other(tmp_path: Path, aliases: str) -> None:
    site = local_site(tmp_path, {}, aliases=aliases)

    async def unasked(*_: object) -> Any:
        raise AssertionError("no mailbox host is asked, and nothing is stored")

    router = Router(
        site.config, site.files.scheme, site.files.tables, Rates(site.config.srs), probe=unasked, token_lookup=unasked
    )
    trial = return_trial(site)

    async def asked(recipient: str) -> str:
        request = RouteRequest(recipient, "", Client("198.51.100.9", 4025), site.now)
        try:
            return (await router.route(request, await router.reverse(request))).kind
        except Refused as refused:
            return f"{refused.reply.code} {refused.reply.enhanced}"

    assert [await asked(address) for address in (trial.good, trial.forged, trial.stranger)] == [
        "srs",
        "550 5.1.1",
        "550 5.7.1",
    ]

"""The records of a configuration, and its addresses."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from relay.cli import site_records as module
from relay.cli.records import Group
from relay.cli.site_records import addresses_to_publish, key_group, site_records
from relay.config.file import load
from relay.config.model import Config
from relay.dns import DnsFailure, StaticResolver
from relay.sending_addresses import SendingAddress
from relay.sign import keys
from relay.sign.keys import SigningKey
from relay.sign.signing_table import AUTHORS_DOMAIN
from tests import corpus

CONFIG = """
hostname = "mx.fwd.example"
listen = [{address = "127.0.0.1:2525"}]
srs = {domain = "fwd.example", secrets_file = "srs.secret"}
"""
DAY = 86400.0


def loaded(folder: Path, more: str = "", aliases: str | None = None) -> Config:
    (folder / "relay.toml").write_text(CONFIG + more)
    if aliases is not None:
        (folder / "aliases").write_text(aliases)
    return load(folder / "relay.toml", {}, require_files=False)


def mx(config: Config) -> Group:
    return site_records(config, ["203.0.113.5"])[0]


def test_every_domain_with_an_alias_or_a_route_has_an_mx(tmp_path: Path) -> None:
    config = loaded(
        tmp_path,
        '[routes]\naliases = "aliases"\n[routes.domains."box.example"]\nnext_hop = "lmtp://10.0.0.5"\n'
        'recipients = "callout"\n',
        "a@x.example b@y.example\n@club.example b@y.example\n",
    )
    assert [record.name for record in mx(config).records] == ["fwd.example", "box.example", "club.example", "x.example"]
    assert mx(config).missing == ()


@pytest.mark.parametrize(("aliases", "served"), [("info b@y.example\n", True), ("a@x.example b@y.example\n", False)])
def test_a_user_without_a_domain_is_one_of_the_local_domains(tmp_path: Path, aliases: str, served: bool) -> None:
    more = '[senders]\nlocal_domains = ["own.example"]\n[routes]\naliases = "aliases"\n'
    config = loaded(tmp_path, more, aliases)
    assert ("own.example" in [record.name for record in mx(config).records]) is served


@pytest.mark.parametrize("aliases", [None, "a@ b@y.example\n"])
def test_an_alias_file_that_cannot_be_read_is_named(tmp_path: Path, aliases: str | None) -> None:
    config = loaded(tmp_path, '[routes]\naliases = "aliases"\n', aliases)
    (problem,) = mx(config).missing
    assert "aliases" in problem and "the domains of its addresses are missing here" in problem


def test_a_file_of_users_is_not_asked_for(tmp_path: Path) -> None:
    more = '[routes.domains."box.example"]\nnext_hop = "lmtp://10.0.0.5"\nrecipients = "users"\n'
    assert [record.name for record in mx(loaded(tmp_path, more)).records] == ["fwd.example", "box.example"]


def key(domain: str = "fwd.example", selector: str = "relay1", **times: float) -> SigningKey:
    return SigningKey(domain, selector, keys.parse(corpus.RSA_PEM), **times)


def test_each_key_that_is_needed_has_its_record() -> None:
    now = time.time()
    group = key_group(
        [
            key(),
            key(selector="next", active_from=now + DAY),
            key(selector="past", active_until=now - DAY),
            key(selector="gone", active_until=now - 13 * DAY),
            key(AUTHORS_DOMAIN, "all"),
        ],
        (),
        5 * DAY,
        now,
    )
    assert [record.name.partition(".")[0] for record in group.records] == ["relay1", "next", "past"]
    assert group.records[0].value == corpus.RSA.public_record()
    assert any("gone._domainkey.fwd.example may go" in line for line in group.comments)
    assert any("all._domainkey.% TXT v=DKIM1" in line for line in group.to_complete)


def test_a_key_without_a_file_is_named(tmp_path: Path) -> None:
    config = loaded(tmp_path, '[[dkim]]\ndomain = "fwd.example"\nselector = "a"\nprivate_key = "a.pem"\n')
    dkim = next(group for group in site_records(config, []) if group.purpose == "dkim")
    assert dkim.records == ()
    assert "`srs-relay keys new` makes it" in dkim.missing[0]


V4, V6 = SendingAddress("203.0.113.5", "ipv4"), SendingAddress("2001:db8::5", "ipv6")
NAT, ULA = SendingAddress("10.0.0.5", "ipv4"), SendingAddress("fd00::5", "ipv6")
IN_DNS = {("mx.fwd.example", "A"): ["198.51.100.7"], ("mx.fwd.example", "AAAA"): ["2001:db8::7"]}


@pytest.mark.parametrize(
    ("sending", "zone", "addresses", "unknown"),
    [
        ([V6, V4], IN_DNS, ["2001:db8::5", "203.0.113.5"], []),
        ([V4], IN_DNS, ["203.0.113.5"], []),
        ([NAT], IN_DNS, ["198.51.100.7"], []),
        ([ULA, V4], IN_DNS, ["203.0.113.5", "2001:db8::7"], []),
        ([ULA, V4], {}, ["203.0.113.5"], ["AAAA"]),
        ([NAT], {}, [], ["A"]),
        ([NAT], {("mx.fwd.example", "A"): ["10.0.0.5"]}, [], ["A"]),  # a private address is never published
        ([NAT], {("mx.fwd.example", "A"): DnsFailure("timeout")}, [], ["A"]),
        ([], IN_DNS, ["2001:db8::7", "198.51.100.7"], []),
        ([], {("mx.fwd.example", "A"): ["198.51.100.7"]}, ["198.51.100.7"], []),
        ([], {}, [], ["AAAA", "A"]),
    ],
)
async def test_addresses_are_those_that_mail_leaves_from_or_those_in_dns(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    sending: list[SendingAddress],
    zone: dict[tuple[str, str], list[str] | Exception],
    addresses: list[str],
    unknown: list[str],
) -> None:
    monkeypatch.setattr(module, "sending_addresses", lambda *_: tuple(sending))
    assert await addresses_to_publish(loaded(tmp_path), StaticResolver(zone)) == (addresses, unknown)


async def test_families_and_sources_of_the_configuration_count(tmp_path: Path) -> None:
    more = '[delivery]\nfamilies = ["ipv6"]\nsource_ipv6 = "2001:db8::9"\nsource_ipv4 = "203.0.113.9"\n'
    assert await addresses_to_publish(loaded(tmp_path, more), StaticResolver({})) == (["2001:db8::9"], [])

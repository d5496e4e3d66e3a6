"""Where a delivery goes: the route of its domain, then the smarthost, then the MX."""

from __future__ import annotations

from typing import Any

import pytest

from relay.config.model import Config
from relay.deliver.next_hop import NextHop, NextHops
from relay.network import endpoint
from relay.queue.hop_keys import is_own_hop, shown_hop

SMARTHOST = {"url": "smtp://hub.test:587", "user": "relay", "password_file": "/dev/null", "null_sender": "b@fwd.test"}


def next_hops(password: str = "secret", **delivery: Any) -> NextHops:
    config = Config.model_validate(
        {
            "hostname": "mx.test",
            "listen": [{"address": "127.0.0.1:0"}],
            "srs": {"domain": "fwd.test", "secrets_file": "/dev/null"},
            "delivery": delivery,
            "routes": {
                "domains": {
                    "routed.test": {"next_hop": "lmtp://10.0.0.1:24", "recipients": "any"},
                    "by-mx.test": {"recipients": "any"},
                }
            },
        }
    )
    return NextHops(config, {"smarthost": password})


def test_without_a_route_mail_goes_to_the_mx_of_its_domain() -> None:
    hops = next_hops(tls="require")
    assert hops.of("carol@D.test") == NextHop(domain="d.test", tls="require")
    assert hops.of("carol@by-mx.test").domain == "by-mx.test"
    assert hops.of("carol@bücher.test").domain == "xn--bcher-kva.test"


@pytest.mark.parametrize("delivery", [{"tls": "verify"}, {"tls": "verify", "smarthost": SMARTHOST}])
def test_a_route_goes_before_the_smarthost_and_the_mx(delivery: dict[str, Any]) -> None:
    hop = next_hops(**delivery).of("carol@ROUTED.test")
    assert hop == NextHop(endpoint=endpoint("lmtp://10.0.0.1:24"), tls="verify")
    assert (hop.user, hop.password, hop.null_sender) == ("", "", "")


@pytest.mark.parametrize("recipient", ["carol@d.test", "carol@by-mx.test"])
def test_the_smarthost_takes_all_that_has_no_next_hop_of_its_own(recipient: str) -> None:
    hop = next_hops(smarthost=SMARTHOST).of(recipient)
    assert (hop.domain, hop.endpoint) == ("", endpoint("smtp://hub.test:587"))
    assert (hop.user, hop.password, hop.tls, hop.null_sender) == ("relay", "secret", "verify", "b@fwd.test")


def test_a_destination_goes_to_its_mx_past_the_smarthost() -> None:
    hops = next_hops(
        smarthost=SMARTHOST, destinations=[{"domains": [".direct.test"], "next_hop": "mx", "tls": "require"}]
    )
    hop = hops.of("carol@a.direct.test")
    assert (hop.key, hop.endpoint, hop.user, hop.tls) == ("a.direct.test", None, "", "require")
    assert hops.of("carol@direct.test").key == "smtp://hub.test:587"


def test_a_smarthost_without_credentials_gets_none() -> None:
    hop = next_hops("", smarthost={"url": "smtp://hub.test"}, tls="require").of("carol@d.test")
    assert (hop.user, hop.password, hop.tls, hop.null_sender) == ("", "", "may", "")


def test_a_password_is_not_shown() -> None:
    assert "secret" not in repr(next_hops(smarthost=SMARTHOST).of("carol@d.test"))


def test_the_key_is_the_domain_or_the_url() -> None:
    hops = next_hops()
    assert hops.key("carol@D.test") == "d.test"
    assert hops.key("carol@routed.test") == "lmtp://10.0.0.1:24"
    assert next_hops(smarthost=SMARTHOST).key("carol@d.test") == "smtp://hub.test:587"
    assert hops.key("a@d.test") == hops.key("b@d.test")


def test_an_own_message_has_a_key_of_its_own() -> None:
    own = next_hops().key("carol@d.test", own=True)
    assert own != "d.test" and is_own_hop(own) and shown_hop(own) == "d.test"


def test_a_host_that_is_asked_for_users_has_the_tls_of_deliveries() -> None:
    hop = next_hops(tls="require", smarthost=SMARTHOST).at(endpoint("smtp://10.0.0.9:25"), "carol@d.test")
    assert hop == NextHop(endpoint=endpoint("smtp://10.0.0.9:25"), tls="require")


def destinations(*entries: dict[str, Any], **delivery: Any) -> NextHops:
    return next_hops(
        destinations=list(entries), smarthosts={"backup": {**SMARTHOST, "url": "smtp://b.test"}}, **delivery
    )


def test_a_destination_names_next_hop_tls_and_smarthost() -> None:
    hops = destinations(
        {"domains": ["a.test"], "next_hop": "smtp://10.0.0.7", "tls": "verify"},
        {"domains": [".a.test"], "tls": "require"},
        {"domains": ["b.test"], "smarthost": "backup"},
        {"domains": [".test"], "next_hop": "smtp://10.0.0.8"},
    )
    numbers = {}
    for domain in ("a.test", "x.a.test", "b.test", "routed.test", "other.example"):
        hop = hops.of(f"x@{domain}")
        numbers[domain] = hop.key, hop.tls, None if hop.destination is None else hop.destination.number
        assert hops.key(f"x@{domain}") == hop.key
    assert numbers == {
        "a.test": ("smtp://10.0.0.7:25", "verify", 0),
        "x.a.test": ("x.a.test", "require", 1),
        "b.test": ("smtp://b.test:25", "verify", 2),
        "routed.test": ("lmtp://10.0.0.1:24", "may", 3),  # the route's own next hop goes first
        "other.example": ("other.example", "may", None),
    }


def test_each_smarthost_has_its_own_password() -> None:
    config = Config.model_validate(
        {
            "hostname": "mx.test",
            "listen": [{"address": "127.0.0.1:0"}],
            "srs": {"domain": "fwd.test", "secrets_file": "/dev/null"},
            "delivery": {
                "smarthost": SMARTHOST,
                "smarthosts": {"backup": {**SMARTHOST, "url": "smtp://b.test:587"}},
                "destinations": [{"domains": ["b.test"], "smarthost": "backup"}],
            },
        }
    )
    hops = NextHops(config, {"smarthost": "one", "smarthosts.backup": "two"})
    assert [hops.of(f"x@{domain}").password for domain in ("a.test", "b.test")] == ["one", "two"]
    assert "two" not in repr(hops.of("x@b.test"))


@pytest.mark.parametrize(
    ("of_smarthost", "of_destination", "level"),
    [("may", "verify", "verify"), ("require", "may", "require"), ("verify", "none", "verify"), ("may", None, "may")],
)
def test_a_destination_asks_a_smarthost_for_more_tls_never_for_less(
    of_smarthost: str, of_destination: str | None, level: str
) -> None:
    hops = next_hops(
        smarthost={"url": "smtp://hub.test", "tls": of_smarthost},
        destinations=[{"domains": ["a.test"], **({"tls": of_destination} if of_destination else {})}],
    )
    assert (hops.of("x@a.test").tls, hops.of("x@b.test").tls) == (level, of_smarthost)


def test_nothing_is_encrypted_through_a_unix_socket() -> None:
    hops = next_hops(tls="verify", destinations=[{"domains": ["a.test"], "next_hop": "lmtp:///run/lmtp"}])
    assert hops.of("x@a.test").tls == "none" and hops.of("x@a.test").key == "lmtp:///run/lmtp"
    assert hops.at(endpoint("lmtp:///run/lmtp"), "x@b.test").tls == "none"

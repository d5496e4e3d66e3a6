"""transport_maps, smtp_tls_policy_maps and master.cf as destinations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from relay.config.sections import DestinationSection
from relay.importer.text import config_text, summary
from tests.importer.loading import loaded, meanings
from tests.importer.postfix_site import site

MAPS = "transport_maps = texthash:/etc/postfix/transport\nsmtp_tls_policy_maps = texthash:/etc/postfix/policy\n"
MASTER = """
smtp      unix  -       -       y       -       -       smtp
relay     unix  -       -       y       -       -       smtp -o syslog_name=postfix/$service_name
slow      unix  -       -       y       -       2       smtp
    -o smtp_bind_address=192.0.2.26 -o { smtp_helo_name = bulk.$mydomain }
    -o inet_protocols=ipv4 -o smtp_tls_security_level=encrypt -o syslog_name=slow
odd       unix  -       -       y       -       -       smtp -o smtp_bind_address=x -osmtp_fallback_relay=b.example
tlsout    unix  -       -       y       -       -       smtp -o smtp_tls_wrappermode=yes
boxes     unix  -       -       y       -       -       lmtp
"""


def tables(folder: Path, text: str, transport: str = "", policy: str = "", **files: str) -> list[dict[str, Any]]:
    """The keys of each destination that are set."""
    draft = site(folder, MAPS + text, transport=transport or "#\n", policy=policy or "#\n", **files)
    config = loaded(folder, draft)
    return [shown(entry) for entry in config.delivery.destinations]


def shown(entry: DestinationSection) -> dict[str, Any]:
    values = {name: getattr(entry, name) for name in DestinationSection.model_fields if name in entry.model_fields_set}
    return {
        name: value if isinstance(value, int) else " ".join(value) if name in ("domains", "families") else str(value)
        for name, value in values.items()
    }


def test_next_hops_of_domains_that_are_not_ours(tmp_path: Path) -> None:
    transport = (
        "partner.example smtp:[10.0.0.7]:2525\nOther.Example relay:[10.0.0.7]:2525\n.below.example smtps:[h.example]\n"
        "boxes.example lmtp:unix:/run/dovecot/lmtp\nmx.example smtp:\n"
    )
    assert tables(tmp_path, "", transport) == [
        {"domains": "partner.example other.example", "next_hop": "smtp://10.0.0.7:2525"},
        {"domains": ".below.example", "next_hop": "smtps://h.example:465"},
        {"domains": "boxes.example", "next_hop": "lmtp:///run/dovecot/lmtp"},
    ]


def test_a_transport_of_its_own_has_its_settings_in_master_cf(tmp_path: Path) -> None:
    text = (
        "mydomain = fwd.example\nrelay_domains = ours.example\nslow_destination_rate_delay = 2s\n"
        "tlsout_destination_concurrency_limit = 7\n"
    )
    transport = (
        "big.example slow:\n.big.example slow:\npartner.example slow:[10.0.0.7]\nours.example slow:[10.0.0.8]\n"
        "odd.example odd:\ntls.example tlsout:[10.0.0.9]\nboxes.example boxes:unix:/run/lmtp\n"
    )
    slow = {
        "tls": "require",
        "concurrency": 1,
        "rate": 30,
        "source_ipv4": "192.0.2.26",
        "families": "ipv4",
        "helo": "bulk.fwd.example",
    }
    assert tables(tmp_path, text, transport, **{"master.cf": MASTER}) == [
        {"domains": "big.example .big.example ours.example", **slow},
        {"domains": "partner.example", "next_hop": "smtp://10.0.0.7:25", **slow},
        {"domains": "tls.example", "next_hop": "smtps://10.0.0.9:465", "concurrency": 7},
        {"domains": "boxes.example", "next_hop": "lmtp:///run/lmtp"},
    ]


def test_what_a_transport_does_that_has_no_counterpart_is_named(tmp_path: Path) -> None:
    transport = "odd.example odd:\ngone.example error:closed\nlocal.example local:\nann@x.example smtp:[h.example]\n"
    draft = site(tmp_path, MAPS, transport=transport + "a!b smtp:[h.example]\n", policy="#\n", **{"master.cf": MASTER})
    said = meanings(draft)
    assert "no IPv4 address" in said["-o smtp_bind_address of odd"]
    assert "does not read this option" in said["-o smtp_fallback_relay of odd"]
    assert "neither refused nor thrown away" in said["transport_maps gone.example"]
    assert "not delivered on this host" in said["transport_maps local.example"]
    assert "an alias can lead it elsewhere" in said["transport_maps ann@x.example"]
    assert "no domain name" in said["transport_maps a!b"]
    assert not loaded(tmp_path, draft).delivery.destinations


@pytest.mark.parametrize(
    ("policy", "tls", "said"),
    [
        ("none", "none", ""),
        ("may", "may", ""),
        ("encrypt protocols=>=TLSv1.2", "require", ""),
        ("verify", "verify", ""),
        ("secure match=nexthop:dot-nexthop", "verify", "that of the MX host"),
        ("verify match=other.example", "verify", "that of the host itself"),
        ("dane", "may", ""),
        ("dane-only", "require", "without usable TLSA records"),
        ("fingerprint match=AB:CD", "require", "no fingerprints"),
        ("verify tafile=/x", "verify", "tafile=/x is not read"),
        ("nonsense", None, "no level of TLS"),
    ],
)
def test_tls_policies(tmp_path: Path, policy: str, tls: str | None, said: str) -> None:
    draft = site(tmp_path, MAPS, transport="#\n", policy=f"D.example {policy}\n")
    found = [(entry.domains, entry.tls) for entry in loaded(tmp_path, draft).delivery.destinations]
    assert found == ([(("d.example",), tls)] if tls else [])
    told = meanings(draft).get("smtp_tls_policy_maps D.example", "")
    assert said in told and bool(said) is bool(told)


def test_a_program_that_looks_up_published_policies_is_not_needed(tmp_path: Path) -> None:
    draft = site(tmp_path, "smtp_tls_policy_maps = socketmap:inet:127.0.0.1:8461:postfix\n")
    found = next(setting for setting in draft.unmapped if setting.name.startswith("smtp_tls_policy_maps"))
    assert "delivery.mta_sts" in found.meaning and not found.matters
    assert loaded(tmp_path, draft).delivery.mta_sts


def test_a_policy_belongs_to_the_next_hop(tmp_path: Path) -> None:
    transport = "a.example smtp:[10.0.0.7]:26\nb.example smtp:[10.0.0.7]:26\nc.example smtp:[10.0.0.8]\n"
    policy = "[10.0.0.7]:26 verify\nc.example encrypt\n[nobody.example] encrypt\n.d.example encrypt\n"
    assert tables(tmp_path, "", transport, policy) == [
        {"domains": "a.example b.example", "next_hop": "smtp://10.0.0.7:26", "tls": "verify"},
        {"domains": "c.example", "next_hop": "smtp://10.0.0.8:25"},
        {"domains": ".d.example", "tls": "require"},
    ]


def test_a_transport_alone_goes_to_the_mx_past_the_relayhost(tmp_path: Path) -> None:
    transport = "direct.example smtp:\n.below.example relay:\nsame.example :\n"
    maps = f"relayhost = [h.example]:587\n{MAPS}"
    draft = site(tmp_path, maps, transport=transport, policy="direct.example verify\n")
    config = loaded(tmp_path, draft)
    assert [shown(entry) for entry in config.delivery.destinations] == [
        {"domains": "direct.example", "next_hop": "mx", "tls": "verify"},
        {"domains": ".below.example", "next_hop": "mx"},
    ]
    assert config.smarthost("same.example") == "smarthost"
    assert config.smarthost("direct.example") == config.smarthost("a.below.example") == ""


def test_with_a_relayhost_its_policy_counts_for_all(tmp_path: Path) -> None:
    draft = site(
        tmp_path,
        f"relayhost = [h.example]:587\n{MAPS}",
        policy="[h.example]:587 secure\nd.example verify\n",
    )
    delivery = loaded(tmp_path, draft).delivery
    assert delivery.smarthost is not None and delivery.smarthost.tls == "verify" and not delivery.destinations
    said = meanings(draft)
    assert "another host" in said["smtp_tls_policy_maps d.example"]


def test_a_host_that_wants_a_login_is_a_smarthost_with_a_name(tmp_path: Path) -> None:
    draft = site(
        tmp_path,
        f"smtp_sasl_auth_enable = yes\nsmtp_sasl_password_maps = texthash:/etc/postfix/sasl\n{MAPS}",
        transport="a.example smtp:[Relay.provider.example]:587\n.a.example smtp:[Relay.provider.example]:587\n",
        policy="[Relay.provider.example]:587 encrypt\n",
        sasl="[Relay.provider.example]:587 fwd:s3cret\n",
    )
    config = loaded(tmp_path, draft)
    assert [shown(entry) for entry in config.delivery.destinations] == [
        {"domains": "a.example .a.example", "smarthost": "relay-provider-example"}
    ]
    smarthost = config.delivery.smarthosts["relay-provider-example"]
    assert (str(smarthost.url), smarthost.user, smarthost.tls) == (
        "smtp://relay.provider.example:587",
        "fwd",
        "require",
    )
    assert smarthost.password_file is not None and smarthost.password_file.read_text() == "s3cret\n"
    assert "s3cret" not in config_text(draft) + "\n".join(summary(draft))


def test_each_domain_says_where_it_comes_from(tmp_path: Path) -> None:
    draft = site(tmp_path, MAPS, transport="a.example smtp:[10.0.0.7]\nb.example smtp:[10.0.0.7]\n", policy="#\n")
    text = config_text(draft)
    assert "[[delivery.destinations]]" in text
    assert "transport_maps a.example (" in text and "transport_maps b.example (" in text

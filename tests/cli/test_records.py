"""The records that `init` prints, as a zone file."""

from __future__ import annotations

import dns.rdatatype
import dns.zone
import pytest

from relay.cli.records import records
from relay.sign import keys
from relay.sign.keys import SigningKey

KEY = SigningKey("fwd.example", "relay1", keys.parse(keys.generate("rsa2048")))


def zone(hostname: str = "mx.fwd.example", addresses: tuple[str, ...] = ()) -> dns.zone.Zone:
    text = "\n".join(records(hostname, "fwd.example", addresses, KEY))
    return dns.zone.from_text(text, origin="fwd.example", relativize=False, check_origin=False)


def strings(published: dns.zone.Zone, name: str) -> list[bytes]:
    (record,) = published.find_rdataset(f"{name}.", dns.rdatatype.TXT)
    return list(record.strings)


def test_spf_is_for_rewritten_senders_and_for_bounces() -> None:
    published = zone()
    assert strings(published, "fwd.example") == [b"v=spf1 mx -all"]
    assert strings(published, "mx.fwd.example") == [b"v=spf1 a -all"]


def test_a_host_named_like_its_domain_has_one_spf_record() -> None:
    # RFC 7208 section 4.5: two are a permanent error
    assert strings(zone("fwd.example"), "fwd.example") == [b"v=spf1 a mx -all"]


def test_no_string_of_a_record_is_longer_than_dns_allows() -> None:
    assert [len(string) for string in strings(zone(), "relay1._domainkey.fwd.example")][:-1] == [255]


@pytest.mark.parametrize(
    ("address", "line"),
    [
        ("198.51.100.4", ";4.100.51.198.in-addr.arpa. 3600 IN PTR mx.fwd.example."),
        ("2001:db8::1", f";{'0.' * 7}".replace("0.0.0.0.0.0.0.", "1.0.0.0.0.0.0.")),
    ],
)
def test_each_address_has_its_reverse_name_in_a_comment(address: str, line: str) -> None:
    lines = list(records("mx.fwd.example", "fwd.example", [address], KEY))
    assert any(said.startswith(line) and said.endswith("PTR mx.fwd.example.") for said in lines)


def test_without_an_address_a_line_is_left_to_complete() -> None:
    lines = list(records("mx.fwd.example", "fwd.example", [], KEY))
    assert ";mx.fwd.example. 3600 IN A 192.0.2.1" in lines
    assert zone().get_rdataset("mx.fwd.example.", dns.rdatatype.A) is None


def test_the_key_is_one_that_verifies() -> None:
    assert b"".join(strings(zone(), KEY.record_name)).decode() == KEY.public_record()

"""Which records a relay needs; `test_record_view` writes them, `test_dns` has the command."""

from __future__ import annotations

import pytest

from relay.cli.records import Group, Names, Record, groups

KEYS = Group("dkim", (), ())


def values(names: Names, kind: str, *addresses: str, smarthost: str = "") -> dict[str, str]:
    """The records of one type by their names; a name with two of them would be an error here."""
    found = [
        record
        for group in groups(names, addresses, KEYS, smarthosts=[smarthost] if smarthost else [])
        for record in group.records
        if record.type == kind
    ]
    assert len({record.name for record in found}) == len(found)
    return {record.name: record.value for record in found}


FORWARDING = Names("mx.fwd.example", "fwd.example", ("fwd.example", "club.example"), ("fwd.example",))
RELAYHOST = Names("mail.example.com", "srs.example.com", ("example.com",), ("example.com",))


def test_every_domain_whose_mail_comes_in_has_an_mx() -> None:
    to_here = "10 mx.fwd.example."
    assert values(FORWARDING, "MX") == {"fwd.example": to_here, "club.example": to_here}


def test_an_address_literal_has_no_mx() -> None:
    assert list(values(Names("mx.fwd.example", "fwd.example", ("[192.0.2.1]",)), "MX")) == ["fwd.example"]


def test_a_local_domain_whose_mail_goes_elsewhere_keeps_its_mx() -> None:
    names = Names("mx.fwd.example", "fwd.example", (), ("fwd.example", "corp.example"))
    assert list(values(names, "MX")) == ["fwd.example"]
    (mx, *_) = groups(names, (), KEYS)
    assert mx.missing == (
        "corp.example is in senders.local_domains, but has no alias and no domain route here: its MX stays as it is.",
    )
    assert values(names, "TXT")["corp.example"] == "v=spf1 a:mx.fwd.example ~all"


def test_spf_is_for_senders_of_ours_and_for_bounces_and_not_for_domains_that_only_receive() -> None:
    spf = {name: text for name, text in values(FORWARDING, "TXT").items() if "spf1" in text}
    assert spf == {"fwd.example": "v=spf1 mx -all", "mx.fwd.example": "v=spf1 a -all"}


def test_a_host_named_like_its_domain_has_one_spf_record() -> None:
    # RFC 7208 section 4.5: two are a permanent error
    names = Names("fwd.example", "fwd.example", (), ("fwd.example",))
    assert values(names, "TXT")["fwd.example"] == "v=spf1 a mx -all"


def test_a_domain_that_others_may_send_for_is_not_closed_to_them() -> None:
    assert values(RELAYHOST, "TXT") == {
        "srs.example.com": "v=spf1 mx -all",
        "example.com": "v=spf1 mx ~all",
        "mail.example.com": "v=spf1 a -all",
        "_dmarc.srs.example.com": "v=DMARC1; p=reject",
        "_dmarc.example.com": "v=DMARC1; p=none",
    }


def test_a_smarthost_has_to_be_in_spf() -> None:
    comments = [
        line for group in groups(FORWARDING, (), KEYS, smarthosts=["smtp.isp.example"]) for line in group.comments
    ]
    assert any("smtp.isp.example" in line for line in comments)
    assert not any("operator" in line for group in groups(FORWARDING, (), KEYS) for line in group.comments)


@pytest.mark.parametrize(
    ("address", "kind", "reverse"),
    [
        ("198.51.100.4", "A", "4.100.51.198.in-addr.arpa"),
        ("2001:db8::1", "AAAA", f"1.{'0.' * 23}8.b.d.0.1.0.0.2.ip6.arpa"),
    ],
)
def test_each_address_has_its_reverse_name_in_the_zone_of_somebody_else(address: str, kind: str, reverse: str) -> None:
    (_, addresses, *_) = groups(FORWARDING, [address], KEYS)
    assert addresses.records == (
        Record("mx.fwd.example", kind, address),  # type: ignore[arg-type]
        Record(reverse, "PTR", "mx.fwd.example.", elsewhere=True),
    )
    assert not addresses.missing and not addresses.to_complete


def test_an_address_that_is_not_known_is_left_to_complete() -> None:
    (_, addresses, *_) = groups(FORWARDING, ["198.51.100.4"], KEYS, unknown=["AAAA"])
    assert addresses.to_complete == ("mx.fwd.example. 3600 IN AAAA 2001:db8::1",)
    assert "IPv6" in addresses.missing[0]

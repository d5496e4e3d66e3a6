"""TLSA records against a chain of certificates, as RFC 7671 and RFC 7672 have it."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest
from cryptography import x509

from relay.dns import UNREADABLE_TLSA, Tlsa
from relay.transport_security.tlsa import Match, data, is_usable, match, text
from tests.check.chains import Authority

HOST = "mx.fwd.example"


class Chain(NamedTuple):
    host: x509.Certificate
    between: x509.Certificate
    root: x509.Certificate
    other: x509.Certificate


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Chain:
    root, other = Authority("root"), Authority("other")
    between = Authority("between", root)
    host = between.host(tmp_path_factory.mktemp("key"), HOST)
    return Chain(host, between.certificate, root.certificate, other.certificate)


EVERY_FORM = [(selector, matching) for selector in (0, 1) for matching in (0, 1, 2)]


@pytest.mark.parametrize(("selector", "matching"), EVERY_FORM)
def test_every_form_of_record_finds_its_certificate(chain: Chain, selector: int, matching: int) -> None:
    shown = chain.host, chain.between
    for usage, certificate, found in (
        (3, chain.host, "matches"),
        (3, chain.between, "differs"),
        (3, chain.other, "differs"),
        (2, chain.between, "matches"),
        (2, chain.host, "differs"),
        (2, chain.other, "differs"),
        (0, chain.between, "useless"),
        (1, chain.host, "useless"),
    ):
        record = Tlsa(usage, selector, matching, data(certificate, selector, matching))
        assert match(record, shown, HOST) == found, (usage, certificate.subject)


@pytest.mark.parametrize(("selector", "matching"), EVERY_FORM)
def test_an_authority_that_is_not_shown_has_to_be_in_the_record(chain: Chain, selector: int, matching: int) -> None:
    record = Tlsa(2, selector, matching, data(chain.root, selector, matching))
    whole: Match = "matches" if (selector, matching) == (0, 0) else "differs"
    assert match(record, (chain.host, chain.between), HOST) == whole
    assert match(record, (chain.host, chain.between, chain.root), HOST) == "matches"


def test_below_an_authority_the_name_counts(chain: Chain) -> None:
    shown = chain.host, chain.between
    assert match(Tlsa(2, 1, 1, data(chain.between, 1, 1)), shown, "mx.other.example") == "differs"
    assert match(Tlsa(3, 1, 1, data(chain.host, 1, 1)), shown, "mx.other.example") == "matches"


def test_a_name_may_stand_for_one_label(tmp_path: Path) -> None:
    root = Authority("root")
    shown = root.host(tmp_path, "*.fwd.example"), root.certificate
    record = Tlsa(2, 0, 1, data(root.certificate, 0, 1))
    assert [match(record, shown, host) for host in (HOST, "a.mx.fwd.example", "fwd.example")] == [
        "matches",
        "differs",
        "differs",
    ]


def test_a_chain_that_is_none_leads_nowhere(chain: Chain) -> None:
    record = Tlsa(2, 1, 1, data(chain.root, 1, 1))
    assert match(record, (chain.host, chain.root), HOST) == "differs"


@pytest.mark.parametrize(
    "record",
    [
        UNREADABLE_TLSA,
        Tlsa(3, 1, 1, b"x" * 31),
        Tlsa(3, 1, 2, b"x" * 32),
        Tlsa(3, 2, 1, b"x" * 32),
        Tlsa(3, 1, 3, b"x" * 32),
        Tlsa(4, 1, 1, b"x" * 32),
        Tlsa(3, 0, 0, b""),
        Tlsa(3, 0, 0, b"no certificate"),
        Tlsa(2, 1, 0, b"no key"),
    ],
)
def test_what_nobody_can_use(chain: Chain, record: Tlsa) -> None:
    assert not is_usable(record)
    assert match(record, (chain.host,), HOST) == "useless"


def test_as_in_a_zone_file() -> None:
    assert text(Tlsa(3, 1, 1, b"\x01\xff")) == "3 1 1 01ff"

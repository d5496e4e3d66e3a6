"""OpenSSL's own cases of DANE (`test/danetest.in` of its sources), as far as SMTP has them.

OpenSSL's file has 54 cases for all protocols. RFC 7672 differs from it in two points, which `DEVIATIONS` names.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from relay.dns import Tlsa
from relay.transport_security.dane import Mismatch, authenticate
from tests.debian_sources import debian_source
from tests.peers import needs

pytestmark = needs("apt-get")

FILE, SHA256 = "test/danetest.in", "5bd48cdbee806e26385d27d7d073200fd2f01f4c3a1141c9f9ca77506f0d1306"
BASE = "example.com"
NO_PKIX = "usages 0 and 1 are useless in SMTP (RFC 7672 section 3.1.3): they prove nothing"
NO_NAME = "the names in a certificate that a record of usage 3 names do not count (RFC 7671 section 5.1)"
DEVIATIONS = {**dict.fromkeys([*range(23, 38), 39], NO_PKIX), 54: NO_NAME}


@dataclass(frozen=True)
class Case:
    number: int
    records: tuple[Tlsa, ...]
    chain: tuple[bytes, ...]
    error: int  # of OpenSSL; 0 where the server is authenticated


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    return list(_read(debian_source("openssl", FILE, SHA256).decode()))


def _read(text: str) -> Iterator[Case]:
    lines = iter([line for line in text.splitlines() if line and not line.startswith("#")])
    for number, line in enumerate(lines, 1):
        records, certificates, _, error, _ = map(int, line.split())
        yield Case(
            number,
            tuple(_record(next(lines)) for _ in range(records)),
            tuple(_certificate(lines) for _ in range(certificates)),
            error,
        )


def _record(line: str) -> Tlsa:
    usage, selector, matching, octets = line.split()
    return Tlsa(int(usage), int(selector), int(matching), bytes.fromhex(octets))


def _certificate(lines: Iterator[str]) -> bytes:
    pem = []
    for line in lines:
        pem.append(line)
        if line.startswith("-----END"):
            break
    return x509.load_pem_x509_certificate("\n".join(pem).encode()).public_bytes(Encoding.DER)


def test_every_case(cases: list[Case]) -> None:
    assert len(cases) == 54
    differ = {case.number for case in cases if _authenticates(case) != (case.error == 0)}
    assert differ == set(DEVIATIONS)


def test_where_we_deviate_we_do_so_for_the_reason_given(cases: list[Case]) -> None:
    for case in cases:
        usages = {record.usage for record in case.records}
        if DEVIATIONS.get(case.number) == NO_PKIX:
            assert usages <= {0, 1} and not _authenticates(case)
        elif DEVIATIONS.get(case.number) == NO_NAME:
            assert usages == {3} and _authenticates(case)


def _authenticates(case: Case) -> bool:
    try:
        authenticate(case.records, case.chain, [BASE], datetime.datetime.now(datetime.UTC))
    except Mismatch:
        return False
    return True

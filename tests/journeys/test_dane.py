"""DANE towards others: mail leaves where the TLSA records hold, and waits where they do not.

Every row of `ROWS` is a domain with its mail host, its certificates, and what a zone says of them, in a DNS that is
signed and validated. The relay sends mail to each. Postfix (`posttls-finger`) and OpenSSL (`s_client`) judge the same
hosts: their verdict has to be ours, but where a row says why not.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import pytest

from relay.transport_security import tlsa
from tests.journeys.sinks import RecordingSink
from tests.journeys.validating_unbound import ValidatingUnbound
from tests.journeys.world import World, opened
from tests.peers import needs, program
from tests.transport_security.issued import BETWEEN, HOUR, NOW, OTHER, ROOT, Issued, host, server_context

pytestmark = [needs("unbound", "posttls-finger", "openssl", root=True), pytest.mark.slow]

Verdict = Literal["dane", "encrypted", "may", "deferred"]
"""What becomes of mail: it leaves to an authenticated host; to any with TLS; to any; it waits."""

SIGNED, PLAIN, RESOLVER = "far.example", "plain.example", "127.53.0.1"
INSECURE_MX = "Postfix authenticates a host whose records are secure, although its MX record is not; we take neither"


@dataclass(frozen=True)
class Row:
    """A domain, NAME.far.example, whose one mail host is mx.NAME.far.example.

    Attributes:
        own: makes the host's certificate for a name; None for a host without TLS.
        above: the certificates that the host shows besides.
        records: from the host's certificate.
        at: the name of the host that the records are for.
        more: further records of the zone by name and type, without NAME.far.example; None takes one away.
        bogus: what is signed wrongly: likewise.
        postfix, openssl: why the judge says something else; empty where it does not.
    """

    name: str
    expected: Verdict
    own: Callable[[str], Issued] | None = field(default=lambda name: host(BETWEEN, name))
    above: Sequence[Issued] = (BETWEEN,)
    records: Callable[[Issued], Sequence[str]] = field(default=lambda own: ())
    at: str = "mx"
    zone: str = SIGNED
    more: dict[tuple[str, str], str | None] = field(default_factory=dict)
    bogus: Sequence[tuple[str, str]] = ()
    postfix: str = ""
    openssl: str = ""

    @property
    def domain(self) -> str:
        return f"{self.name}.{self.zone}"

    def below(self, name: str) -> str:
        """A name of this row."""
        return name.removesuffix(".") if name.endswith(".") else f"{name}.{self.domain}".removeprefix("@.")


def _r(named: Issued, usage: int, selector: int, matching: int) -> str:
    return tlsa.text(named.record(usage, selector, matching))


ROWS = [
    Row("ee-sha256", "dane", records=lambda own: [_r(own, 3, 1, 1)]),
    Row("ee-sha512", "dane", records=lambda own: [_r(own, 3, 0, 2)]),
    Row("ee-certificate", "dane", records=lambda own: [_r(own, 3, 0, 0)]),
    Row("ee-key", "dane", records=lambda own: [_r(own, 3, 1, 0)]),
    Row("ee-other-name", "dane", lambda _: host(BETWEEN, "elsewhere.example"), records=lambda own: [_r(own, 3, 1, 1)]),
    Row("ee-expired", "dane", lambda n: host(BETWEEN, n, until=NOW - HOUR), records=lambda own: [_r(own, 3, 1, 1)]),
    Row("ee-wrong", "deferred", records=lambda own: [_r(OTHER, 3, 1, 1)]),
    Row("ee-one-right", "dane", records=lambda own: [_r(OTHER, 3, 1, 1), _r(OTHER, 2, 0, 1), _r(own, 3, 1, 1)]),
    Row("ee-stale-sha512", "deferred", records=lambda own: [_r(own, 3, 1, 1), _r(OTHER, 3, 1, 2)]),
    Row("ta-shown", "dane", records=lambda own: [_r(BETWEEN, 2, 0, 1)]),
    Row("ta-root-shown", "dane", above=[BETWEEN, ROOT], records=lambda own: [_r(ROOT, 2, 1, 2)]),
    Row("ta-not-shown", "deferred", records=lambda own: [_r(ROOT, 2, 0, 1)]),
    Row("ta-in-dns", "dane", records=lambda own: [_r(ROOT, 2, 0, 0)]),
    Row("ta-bare-key", "dane", records=lambda own: [_r(ROOT, 2, 1, 0)]),
    Row("ta-bare-key-next", "dane", above=[], records=lambda own: [_r(BETWEEN, 2, 1, 0)]),
    Row("ta-wrong", "deferred", records=lambda own: [_r(OTHER, 2, 0, 1)]),
    Row(
        "ta-other-name",
        "deferred",
        lambda _: host(BETWEEN, "elsewhere.example"),
        records=lambda own: [_r(BETWEEN, 2, 0, 1)],
    ),
    Row("ta-wildcard", "dane", lambda n: host(BETWEEN, "*" + n[2:]), records=lambda own: [_r(BETWEEN, 2, 0, 1)]),
    Row(
        "ta-domain",
        "dane",
        lambda n: host(BETWEEN, n.removeprefix("mx.")),
        records=lambda own: [_r(BETWEEN, 2, 0, 1)],
        openssl="s_client knows the host only, and not for which domain it takes mail (RFC 7672 section 3.2.2)",
    ),
    Row("ta-expired", "deferred", lambda n: host(BETWEEN, n, until=NOW - HOUR), records=lambda o: [_r(ROOT, 2, 1, 0)]),
    Row("usage-0", "encrypted", records=lambda own: [_r(ROOT, 0, 0, 1)]),
    Row("usage-1-wrong", "encrypted", records=lambda own: [_r(OTHER, 1, 1, 1)]),
    Row("malformed", "encrypted", records=lambda own: ["\\# 34 030101" + 31 * "00"]),
    Row("malformed-and-right", "dane", records=lambda own: ["\\# 34 030101" + 31 * "00", _r(own, 3, 1, 1)]),
    Row("none", "may"),
    Row("no-starttls", "deferred", own=None, records=lambda own: [_r(OTHER, 3, 1, 1)]),
    Row("no-starttls-useless", "deferred", own=None, records=lambda own: [_r(OTHER, 1, 1, 1)]),
    Row("bogus-tlsa", "deferred", records=lambda own: [_r(own, 3, 1, 1)], bogus=[("mx", "TLSA")]),
    Row("bogus-address", "deferred", records=lambda own: [_r(own, 3, 1, 1)], bogus=[("mx", "A")]),
    Row("bogus-mx", "deferred", records=lambda own: [_r(own, 3, 1, 1)], bogus=[("@", "MX")]),
    Row("unsigned", "may", records=lambda own: [_r(OTHER, 3, 1, 1)], zone=PLAIN),
    Row(
        "unsigned-mx",
        "may",
        records=lambda own: [_r(OTHER, 3, 1, 1)],
        zone=PLAIN,
        at="mx.unsigned-mx.far.example.",
        more={("@", "MX"): "10 mx.unsigned-mx.far.example.", ("mx.unsigned-mx.far.example.", "A"): "{address}"},
        postfix=INSECURE_MX,
    ),
    Row(
        "alias",
        "dane",
        records=lambda own: [_r(own, 3, 1, 1)],
        at="real",
        more={("mx", "A"): None, ("mx", "CNAME"): "real.alias.far.example.", ("real", "A"): "{address}"},
    ),
    Row(
        "alias-own-records",
        "dane",
        records=lambda own: [_r(own, 3, 1, 1)],
        more={("mx", "A"): None, ("mx", "CNAME"): "real.alias-own-records.far.example.", ("real", "A"): "{address}"},
    ),
    Row(
        "alias-outward",
        "dane",
        records=lambda own: [_r(own, 3, 1, 1)],
        more={("mx", "A"): None, ("mx", "CNAME"): "out.plain.example.", ("out.plain.example.", "A"): "{address}"},
    ),
    Row(
        "alias-outward-wrong",
        "deferred",
        records=lambda own: [_r(OTHER, 3, 1, 1)],
        more={("mx", "A"): None, ("mx", "CNAME"): "out2.plain.example.", ("out2.plain.example.", "A"): "{address}"},
    ),
    Row(
        "alias-inward",
        "may",
        records=lambda own: [_r(OTHER, 3, 1, 1)],
        zone=PLAIN,
        at="mx.alias-inward.far.example.",
        more={
            ("mx", "A"): None,
            ("mx", "CNAME"): "mx.alias-inward.far.example.",
            ("mx.alias-inward.far.example.", "A"): "{address}",
        },
    ),
    Row(
        "no-mx",
        "dane",
        lambda n: host(BETWEEN, n.removeprefix("mx.")),
        records=lambda own: [_r(BETWEEN, 2, 0, 1)],
        at="@",
        more={("@", "MX"): None, ("mx", "A"): None, ("@", "A"): "{address}"},
    ),
]


class House:
    """All rows: a DNS, a host for each row, and a relay that sends mail to each of them."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.port = world.port
        self.sinks: dict[str, RecordingSink] = {}
        self.records: dict[str, Sequence[str]] = {}
        zone = {key: [value] for key, [value] in world.zone.items()}
        for number, row in enumerate(ROWS):
            zone |= self._host(row, f"127.0.53.{number + 10}")
        bogus = [
            (f"_{self.port}._tcp.{row.below(name)}" if rdtype == "TLSA" else row.below(name), rdtype)
            for row in ROWS
            for name, rdtype in row.bogus
        ]
        self.dns = ValidatingUnbound(
            world.base / "unbound", zone, signed=(SIGNED,), unsigned=(PLAIN,), bogus=bogus, address=RESOLVER
        )
        world.start_all(self.dns, *self.sinks.values())

    def _host(self, row: Row, address: str) -> dict[tuple[str, str], list[str]]:
        folder = self.world.base / row.name
        folder.mkdir()
        own = row.own(row.below("mx")) if row.own else None
        context = server_context(folder, own, *row.above) if own else None
        self.sinks[row.domain] = RecordingSink(address, self.port, tls=context)
        self.records[row.domain] = row.records(own or OTHER)
        records = {
            ("@", "MX"): f"10 mx.{row.domain}.",
            ("mx", "A"): address,
            **{key: value and value.format(address=address) for key, value in row.more.items()},
        }
        zone = {(row.below(name), rdtype): [value] for (name, rdtype), value in records.items() if value}
        if self.records[row.domain]:
            zone[f"_{self.port}._tcp.{row.below(row.at)}", "TLSA"] = list(self.records[row.domain])
        return zone


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    with opened() as world:
        yield House(world)


# --- Postfix ----------------------------------------------------------------------------------------------------------


def finger(house: House, row: Row, level: str = "dane") -> str:
    resolver = house.world.base / "resolv.conf"
    resolver.write_text(f"nameserver {RESOLVER}\noptions trust-ad edns0\n")
    shell = f"mount --bind {resolver} /etc/resolv.conf && exec {program('posttls-finger')} -c -l {level} -L untrusted,summary {row.domain}:{house.port}"
    done = subprocess.run(["unshare", "--mount", "sh", "-c", shell], capture_output=True, text=True, timeout=60)
    return done.stdout + done.stderr


def test_show(house: House) -> None:
    for row in ROWS:
        print("=====", row.name, row.expected)
        print(finger(house, row))
        print("---only")
        print(finger(house, row, "dane-only"))

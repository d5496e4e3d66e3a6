"""DANE towards others: mail leaves where the TLSA records hold, and waits where they do not.

Every row of `ROWS` is a domain with its mail host, its certificates, and what a zone says of them, in a DNS that is
signed and validated. The relay sends mail to each. Postfix (`posttls-finger`) and OpenSSL (`s_client`) judge the same
hosts: their verdict has to be ours, but where a row says why not.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest

from relay.transport_security import tlsa
from tests.journeys.clients import Dialogue
from tests.journeys.postfix import Postfix
from tests.journeys.relay_process import RelayProcess
from tests.journeys.sinks import RecordingSink
from tests.journeys.validating_unbound import ValidatingUnbound
from tests.journeys.world import SENDER, World, opened
from tests.peers import needs, program, wait_until
from tests.transport_security.issued import BETWEEN, HOUR, NOW, OTHER, ROOT, Issued, host, server_context

pytestmark = [needs("unbound", "posttls-finger", "openssl", root=True), pytest.mark.slow]

Verdict = Literal["dane", "encrypted", "may", "deferred"]
"""What becomes of mail: it leaves to an authenticated host; to any with TLS; to any; it waits."""

SIGNED, PLAIN = "far.example", "plain.example"
INSECURE_MX = "Postfix authenticates a host whose records are secure, although its MX record is not; we take neither"


@dataclass(frozen=True)
class Row:
    """A domain, NAME.far.example, whose one mail host is mx.NAME.far.example.

    Attributes:
        own: makes the host's certificate for a name; None for a host without TLS.
        above: the certificates that the host shows besides.
        records: from the host's certificate.
        at: the name of the host that the records are for.
        more: further records of the zone by name and type, without NAME.far.example; None takes one away. `{address}`
            is that of the host, `{tlsa}` what stands before its name where the records are.
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
        "records-alias",
        "dane",
        records=lambda own: [_r(own, 3, 1, 1)],
        at="shared",
        more={("{tlsa}.mx", "CNAME"): "{tlsa}.shared.records-alias.far.example."},
    ),
    Row(
        "records-alias-outward",
        "may",
        records=lambda own: [_r(OTHER, 3, 1, 1)],
        at="shared.plain.example.",
        more={("{tlsa}.mx", "CNAME"): "{tlsa}.shared.plain.example."},
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
        self.tlsa = f"_{self.port}._tcp"
        # Port 53 of an address that no other process has.
        self.resolver = f"127.53.{self.port >> 8}.{self.port & 255}"
        self.sinks: dict[str, RecordingSink] = {}
        self.records: dict[str, Sequence[str]] = {}
        zone = dict(world.zone)
        for number, row in enumerate(ROWS):
            zone |= self._host(row, f"127.0.53.{number + 10}")
        bogus = [
            (f"{self.tlsa}.{row.below(name)}" if rdtype == "TLSA" else row.below(name), rdtype)
            for row in ROWS
            for name, rdtype in row.bogus
        ]
        self.dns = ValidatingUnbound(
            world.base / "unbound", zone, signed=(SIGNED,), unsigned=(PLAIN,), bogus=bogus, address=self.resolver
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
            **{
                (name.format(tlsa=self.tlsa), rdtype): value and value.format(address=address, tlsa=self.tlsa)
                for (name, rdtype), value in row.more.items()
            },
        }
        zone = {(row.below(name), rdtype): [value] for (name, rdtype), value in records.items() if value}
        if self.records[row.domain]:
            zone[f"{self.tlsa}.{row.below(row.at)}", "TLSA"] = list(self.records[row.domain])
        return zone

    def relay(self) -> RelayProcess:
        """A started relay that asks this DNS."""
        return self.world.relay(
            dns={"nameservers": [self.dns.endpoint], "timeout": "4s"},
            clients={"trusted": [SENDER]},
            queue={"retry_min": "1h", "retry_max": "1h"},
        )


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    with opened() as world:
        yield House(world)


# --- The relay --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def outcomes(house: House) -> dict[str, dict[str, Any]]:
    """What the relay's log says of a message to each domain."""
    relay = house.relay()
    with Dialogue((relay.address, relay.port), source=SENDER) as client:
        for row in ROWS:
            content = f"From: bob@sender.example\r\nSubject: {row.name}\r\n\r\nHello\r\n".encode()
            assert client.deliver("bob@sender.example", f"user@{row.domain}", content).code == 250
    found: dict[str, dict[str, Any]] = {}

    def all_there() -> bool:
        for event in [*relay.events("delivered"), *relay.events("deferred")]:
            found.setdefault(event["to"][0].partition("@")[2], event)
        return len(found) == len(ROWS)

    wait_until(all_there, "an outcome for each domain", 60)
    return found


def ours(house: House, row: Row, event: Mapping[str, Any]) -> Verdict:
    taken = house.sinks[row.domain].received
    if event["event"] == "deferred":
        assert not taken
        return "deferred"
    assert len(taken) == 1 and event["tls"].startswith("TLS")
    verdicts: dict[str, Verdict] = {"dane": "dane", "require": "encrypted", "may": "may"}
    return verdicts[event["policy"]]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_what_becomes_of_mail(house: House, outcomes: dict[str, dict[str, Any]], row: Row) -> None:
    event = outcomes[row.domain]
    assert ours(house, row, event) == row.expected, event
    if row.expected == "deferred":
        by_policy = "4.7.5", True
        no_host = "4.4.3", False  # DNS proves that what it says of the way to the host is wrong
        expected = no_host if row.name in ("bogus-mx", "bogus-address") else by_policy
        assert (event["status"], "DANE" in event["text"]) == expected, event


# --- Postfix ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_postfix_agrees(house: House, row: Row) -> None:
    said = posttls_finger(house, row.domain)
    assert (postfix_verdict(said) != row.expected) == bool(row.postfix), said


def posttls_finger(house: House, domain: str) -> str:
    """What Postfix says of the hosts of a domain; it asks the resolver of /etc/resolv.conf, which is ours for it."""
    resolver = house.world.base / "resolv.conf"
    resolver.write_text(f"nameserver {house.resolver}\noptions trust-ad edns0\n")
    finger = f"{program('posttls-finger')} -c -l dane -L untrusted,summary {domain}:{house.port}"
    command = ["unshare", "--mount", "sh", "-c", f"mount --bind {resolver} /etc/resolv.conf && exec {finger}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    return done.stdout + done.stderr


def postfix_verdict(said: str) -> Verdict:
    if "Verified TLS connection established" in said:
        return "dane"
    if "TLS connection established" not in said or re.search("(server|CA) certificate verification failed", said):
        return "deferred"
    if re.search("unsupported TLSA certificate usage|all TLSA records unusable", said):
        return "encrypted"
    return "may"


# --- OpenSSL ----------------------------------------------------------------------------------------------------------

JUDGED = [row for row in ROWS if row.own and row.expected in ("dane", "deferred") and not row.bogus]


@pytest.mark.parametrize("row", JUDGED, ids=lambda row: row.name)
def test_openssl_agrees(house: House, row: Row) -> None:
    """It is told the records and the base domain, and judges the certificates alone."""
    records = [record for record in house.records[row.domain] if not record.startswith("\\#")]
    done = subprocess.run(
        [
            *(program("openssl"), "s_client", "-starttls", "smtp"),
            *("-connect", f"{house.sinks[row.domain].address}:{house.port}"),
            *("-dane_tlsa_domain", row.below(row.at), "-dane_ee_no_namechecks", "-verify_return_error"),
            *(part for record in records for part in ("-dane_tlsa_rrdata", record)),
        ],
        input="QUIT\r\n",
        capture_output=True,
        text=True,
        timeout=60,
    )
    verdict = "dane" if "Verification: OK" in done.stdout and done.returncode == 0 else "deferred"
    assert (verdict != row.expected) == bool(row.openssl), done.stdout + done.stderr


# --- Several hosts ----------------------------------------------------------------------------------------------------


class Pair:
    """A domain with two hosts: the preferred one, 127.0.54.1, is a sink, and the other one, 127.0.54.2, a Postfix."""

    def __init__(self, world: World, wrong: Sequence[str] = (), bogus: Sequence[str] = ()) -> None:
        own = {name: host(BETWEEN, f"{name}.far.example") for name in ("mx1", "mx2")}
        named = {name: OTHER if name in wrong else certificate for name, certificate in own.items()}
        for name in own:
            (world.base / name).mkdir()
        self.sink = RecordingSink("127.0.54.1", world.port, tls=server_context(world.base / "mx1", own["mx1"]))
        server_context(world.base / "mx2", own["mx2"])
        self.postfix = Postfix(
            world.base / "mx2",
            "mx2.far.example",
            "127.0.54.2",
            world.port,
            mailboxes=["user@far.example"],
            settings={"smtpd_tls_security_level": "may", "smtpd_tls_chain_files": str(world.base / "mx2/chain.pem")},
        )
        zone = {
            **world.zone,
            (SIGNED, "MX"): [f"10 mx1.{SIGNED}.", f"20 mx2.{SIGNED}."],
            (f"mx1.{SIGNED}", "A"): ["127.0.54.1"],
            (f"mx2.{SIGNED}", "A"): ["127.0.54.2"],
            **{(self._tlsa(world, name), "TLSA"): [_r(each, 3, 1, 1)] for name, each in named.items()},
        }
        bogus_records = [(self._tlsa(world, name), "TLSA") for name in bogus]
        dns = ValidatingUnbound(world.base / "unbound", zone, signed=(SIGNED,), bogus=bogus_records)
        world.start_all(dns, self.sink, self.postfix)
        self.relay = world.relay(
            dns={"nameservers": [dns.endpoint], "timeout": "4s"},
            clients={"trusted": [SENDER]},
            queue={"retry_min": "1h", "retry_max": "1h"},
        )
        with Dialogue((self.relay.address, self.relay.port), source=SENDER) as client:
            content = b"From: bob@sender.example\r\nSubject: two hosts\r\n\r\nHello\r\n"
            assert client.deliver("bob@sender.example", f"user@{SIGNED}", content).code == 250

    def _tlsa(self, world: World, name: str) -> str:
        return f"_{world.port}._tcp.{name}.{SIGNED}"

    def event(self, name: str) -> dict[str, Any]:
        """The log line of this step, once it is there."""
        return wait_until(lambda: self.relay.events(name), name)[0]


def test_the_preferred_host_takes_it(world: World) -> None:
    pair = Pair(world)
    event = pair.event("delivered")
    assert (event["host"], event["policy"], len(pair.sink.received)) == ("mx1.far.example", "dane", 1)


@pytest.mark.parametrize("fault", ["wrong", "bogus"])
def test_the_next_host_takes_what_the_first_one_must_not_have(world: World, fault: str) -> None:
    pair = Pair(world, **{fault: ["mx1"]})
    event = pair.event("delivered")
    assert (event["host"], event["policy"]) == ("mx2.far.example", "dane")
    pair.postfix.wait_for_mail(f"user@{SIGNED}")
    assert not pair.sink.received


def test_where_no_host_may_have_it_it_waits(world: World) -> None:
    pair = Pair(world, wrong=["mx1"], bogus=["mx2"])
    event = pair.event("deferred")
    assert event["status"] == "4.7.5" and "DANE" in event["text"]
    assert not pair.sink.received and not pair.postfix.inbox(f"user@{SIGNED}")

"""Behind a real proxy the client is who came to the proxy: in Received, in SPF, and in what it may do."""

from __future__ import annotations

import re
import smtplib
import ssl
from collections.abc import Iterator

import pytest

from tests.certificates import write_certificate
from tests.journeys.clients import Dialogue
from tests.journeys.haproxy import HAProxy, Service
from tests.journeys.sinks import RecordingSink
from tests.journeys.world import FWD, MAILBOX, SENDER, World, opened
from tests.peers import free_port, needs, require, wait_until

pytestmark = [needs("haproxy"), pytest.mark.slow]

ANN, ALICE = "ann@sender.example", "alice@fwd.example"
PROXY, STRANGER = "127.0.0.77", "127.0.0.66"
V1 = b"PROXY TCP4 127.0.0.11 127.0.0.1 40000 25\r\n"


class House:
    """A relay behind a proxy that stands on a trusted address: what it does not vouch for must not inherit that."""

    def __init__(self, world: World) -> None:
        require("haproxy")
        world.zone["sender.example", "TXT"] = [f'"v=spf1 ip4:{SENDER} ip6:::1 -all"']
        self._taken = 0
        self.plain, self.implicit = free_port(), free_port()
        self.sink = world.start(RecordingSink(MAILBOX, world.port))
        (world.base / "fwd.example").mkdir()
        write_certificate(world.base / "fwd.example", "fwd", "mx.fwd.example")
        behind = {"proxy_protocol": True, "proxies": [PROXY]}
        self.relay = world.relay(
            aliases=f"{ALICE} carol@mailbox.example\n",
            listen=[
                {"address": f"{FWD}:{world.port}", "tls": "none"},
                {"address": f"127.0.0.1:{self.plain}", **behind},
                {"address": f"127.0.0.1:{self.implicit}", "tls": "implicit", **behind},
            ],
            tls={"certificate": "cert.pem", "private_key": "key.pem"},
            clients={"trusted": [PROXY]},
            spf={"fail": "tag"},
        )
        chain = world.base / "proxy.pem"
        chain.write_bytes(b"".join((self.relay.folder / name).read_bytes() for name in ("cert.pem", "key.pem")))
        smtp = "option smtpchk EHLO check.example"
        plain, implicit = f"127.0.0.1:{self.plain}", f"127.0.0.1:{self.implicit}"
        self.services = {
            "v1": Service(f"{plain} send-proxy check inter 500ms", smtp),
            "v2": Service(f"{plain} send-proxy-v2 check inter 500ms", smtp),
            "through": Service(f"{implicit} send-proxy-v2 check inter 500ms"),
            "offloaded": Service(
                f"{plain} send-proxy-v2 proxy-v2-options ssl,cert-cn,crc32c check inter 500ms",
                smtp,
                bind=f"ssl crt {chain}",
            ),
        }
        self.proxy = world.start(HAProxy(world.base / "haproxy", PROXY, self.services))

    def client(self, service: str, source: str) -> smtplib.SMTP:
        """A client of one of the proxy's ports, by the address family of its own address."""
        host, port = ("::1" if ":" in source else "127.0.0.1"), self.services[service].port
        if service in ("v1", "v2"):
            return smtplib.SMTP(host, port, "mx.sender.example", 20, (source, 0))
        context = ssl.create_default_context(cafile=str(self.relay.folder / "cert.pem"))
        context.check_hostname = False
        return smtplib.SMTP_SSL(
            host, port, "mx.sender.example", timeout=20, source_address=(source, 0), context=context
        )

    def passes_on(self, service: str, source: str) -> str:
        """The header that we put on top of a message, unfolded."""
        with self.client(service, source) as client:
            client.sendmail(ANN, [ALICE], f"From: {ANN}\r\nSubject: hello\r\n\r\nhello\r\n")
        self._taken += 1
        arrived = self.sink.wait(self._taken)[-1].content
        return re.sub(r"\r\n[ \t]+", " ", arrived.partition(b"From: ")[0].decode())


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    with opened() as world:
        yield House(world)


@pytest.mark.parametrize(
    ("source", "shown", "spf"),
    [
        (SENDER, SENDER, "spf=pass"),
        (STRANGER, STRANGER, "spf=fail"),
        ("::1", "IPv6:::1", "spf=pass"),
    ],
    ids=["IPv4", "a stranger", "IPv6"],
)
@pytest.mark.parametrize(
    ("service", "protocol"), [("v1", "ESMTP"), ("v2", "ESMTP"), ("through", "ESMTPS"), ("offloaded", "ESMTP")]
)
def test_the_client_is_the_one_of_the_proxy(
    house: House, service: str, protocol: str, source: str, shown: str, spf: str
) -> None:
    header = house.passes_on(service, source)
    assert re.search(
        rf"^Received: from mx\.sender\.example \(unknown \[{re.escape(shown)}\]\)( \(using TLS[^)]*\)\))? by",
        header,
        re.MULTILINE,
    )
    assert f" with {protocol} id " in header
    results = re.search(r"^Authentication-Results: (.*)\r$", header, re.MULTILINE)
    assert results is not None and f"; {spf} ({source} is " in results[1]


@pytest.mark.parametrize("service", ["v1", "v2", "through"])
def test_behind_a_trusted_proxy_nobody_is_trusted(house: House, service: str) -> None:
    with house.client(service, STRANGER) as client:
        client.ehlo()
        client.mail(ANN)
        code, text = client.rcpt("x@elsewhere.example")
        assert (code, text[:5]) == (550, b"5.7.1")


def test_health_checks_are_answered(house: House) -> None:
    """They say UNKNOWN in version 1 and LOCAL in version 2."""
    assert house.proxy.checks() == {"v1": "L7OK", "v2": "L7OK", "through": "L4OK", "offloaded": "L7OK"}
    assert not [event for event in house.relay.events("proxy_refused") if event["ip"] == PROXY]


@pytest.mark.parametrize("source", ["127.0.0.1", STRANGER])
def test_who_is_no_named_proxy_is_dropped(house: House, source: str) -> None:
    for port in (house.plain, house.implicit):
        with pytest.raises((EOFError, ConnectionResetError)):
            Dialogue(("127.0.0.1", port), source=source, proxy=V1)

    def refused() -> bool:
        return len([event for event in house.relay.events("proxy_refused") if event["ip"] == source]) == 2

    wait_until(refused, "a word on both in the log")

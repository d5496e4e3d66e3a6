"""The embedded DNS server as any client sees it, here dnspython's own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import dns.asyncquery
import dns.exception
import dns.flags
import dns.message
import dns.rcode
import pytest

from relay.cli.zone import ZoneServer

LONG = " ".join(f'"{letter * 200}"' for letter in "abcd")


@pytest.fixture
async def zone() -> AsyncIterator[ZoneServer]:
    server = ZoneServer(
        {
            ("example", "MX"): ["10 mail.example."],
            ("deep.below.example", "A"): ["192.0.2.1"],
            ("alias.example", "CNAME"): ["deep.below.example."],
            ("dangling.example", "CNAME"): ["nowhere.example."],
            ("long.example", "TXT"): [LONG],
            ("half.example", "A"): ["192.0.2.2"],
        },
        failures={"half.example": "servfail"},
    )
    yield server
    await server.close()


Ask = Callable[..., Awaitable[dns.message.Message]]


@pytest.fixture
async def ask(zone: ZoneServer) -> Ask:
    host, port = await zone.start()

    async def question(name: str, rdtype: str, tcp: bool = False, edns: bool = True) -> dns.message.Message:
        query = dns.message.make_query(name, rdtype, use_edns=edns)
        send = dns.asyncquery.tcp if tcp else dns.asyncquery.udp
        return await send(query, host, 5, port)

    return question


@pytest.mark.parametrize(
    ("name", "rdtype", "rcode", "answer"),
    [
        ("EXAMPLE", "MX", dns.rcode.NOERROR, ["10 mail.example."]),
        ("example", "A", dns.rcode.NOERROR, []),
        ("below.example", "A", dns.rcode.NOERROR, []),
        ("mail.example", "A", dns.rcode.NXDOMAIN, []),
        ("alias.example", "A", dns.rcode.NOERROR, ["deep.below.example.", "192.0.2.1"]),
        ("dangling.example", "A", dns.rcode.NXDOMAIN, ["nowhere.example."]),
        ("half.example", "A", dns.rcode.NOERROR, ["192.0.2.2"]),
        ("half.example", "MX", dns.rcode.SERVFAIL, []),
    ],
)
@pytest.mark.parametrize("tcp", [False, True])
async def test_answers(ask: Ask, name: str, rdtype: str, rcode: dns.rcode.Rcode, answer: list[str], tcp: bool) -> None:
    response = await ask(name, rdtype, tcp)
    assert response.rcode() == rcode
    assert [str(record).lower() for rrset in response.answer for record in rrset] == answer
    negative = rcode != dns.rcode.SERVFAIL and (not answer or rcode == dns.rcode.NXDOMAIN)
    assert bool(response.authority) == negative, "a negative answer needs its SOA to be kept (RFC 2308)"


async def test_past_512_octets_a_client_without_edns_is_sent_to_tcp(ask: Ask) -> None:
    assert (await ask("long.example", "TXT", edns=False)).flags & dns.flags.TC
    assert not (await ask("long.example", "TXT", edns=True)).flags & dns.flags.TC
    assert not (await ask("long.example", "TXT", tcp=True, edns=False)).flags & dns.flags.TC


async def test_records_change_while_it_runs(zone: ZoneServer, ask: Ask) -> None:
    zone.put("new.example", "TXT", '"one"')
    assert (await ask("new.example", "TXT")).answer[0][0].strings == (b"one",)
    zone.put("new.example", "TXT")
    assert (await ask("new.example", "TXT")).rcode() == dns.rcode.NXDOMAIN


@pytest.mark.parametrize("garbage", [b"", b"\x00", b"\xff" * 40, b"\x12\x34\x81\x80\x00\x01" + b"\x00" * 11])
def test_what_is_no_question_gets_no_answer(zone: ZoneServer, garbage: bytes) -> None:
    assert zone.respond(garbage) == b""


def test_a_malformed_record_is_refused() -> None:
    with pytest.raises(dns.exception.DNSException):
        ZoneServer({("example", "A"): ["not an address"]})

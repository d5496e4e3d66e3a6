"""The seeds of the fuzzers of PostSRSd 2.4.1: each of them, and what hypothesis makes of it, gets an answer."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.postfix_tables.request import BadRequest, Map, Request
from relay.postfix_tables.socketmap import Socketmap
from relay.postfix_tables.tcp_table import TcpTable
from tests.postfix_tables.conftest import Serve
from tests.postfix_tables.test_lookups import Asked
from tests.postfix_tables.test_socketmap import cut

SOCKETMAP = {  # with what PostSRSd answers on 2020-01-01
    b"28:forward test@otherdomain.com,": "OK SRS0=vmyz=2W=otherdomain.com=test@example.com",
    b"53:reverse SRS0=XjO9=2V=otherdomain.com=test@example.com,": "OK test@otherdomain.com",
}
# Most end with octets that begin no netstring, and the last is two octets short: it ends with its connection.
NETSTRINGS = {b"0:,\n": 2, b"1:a,\n\n": 2, b"4:test,\n\n": 2, b"17:forward foo@bar,\n": 0}
ADDRESSES = {
    "": "notfound",
    "test@example.com": "notfound",
    "SRS0=": "notfound",
    "SRS0=AAAA=": "notfound",
    "SRS0=AAAA=AA=": "notfound",
    "SRS0=XjO9=2V=otherdomain.com=test@example.com": "ok",
}


@pytest.mark.parametrize(("octets", "answer"), SOCKETMAP.items())
async def test_the_seeds_of_its_socketmap_get_its_answers(octets: bytes, answer: str) -> None:
    [request] = Socketmap().feed(octets)
    assert isinstance(request, Request)
    reply = Socketmap().answer(await Asked().ask(request.map, request.key))
    assert reply.decode() == f"{len(answer)}:{answer},"


@pytest.mark.parametrize(("octets", "refusals"), NETSTRINGS.items())
async def test_the_seeds_of_its_netstrings_end_their_connection_alone(
    serve: Serve, octets: bytes, refusals: int
) -> None:
    served = await serve()
    other, client = await served.client(), await served.client()
    client.send(octets)
    client.writer.write_eof()
    assert [(await client.reply())[:5] for _ in range(refusals)] == ["PERM "] * refusals
    assert await client.closed()
    other.send(b"".join(SOCKETMAP))
    assert (await other.reply()).startswith("OK SRS0=")
    assert await other.reply() == "NOTFOUND ", "the address is of 2020, and has expired"


@pytest.mark.parametrize(("address", "result"), ADDRESSES.items())
async def test_the_seeds_of_its_addresses_are_found_or_not(address: str, result: str) -> None:
    assert (await Asked().ask("reverse", address)).result == result


WHERE = st.integers(0, 60)
MUTANTS = st.builds(  # a part of a seed is repeated, replaced or left out
    lambda seed, start, end, put: seed[:start] + put + seed[end:],
    st.sampled_from([*SOCKETMAP, *NETSTRINGS, *(f"get {address}\n".encode() for address in ADDRESSES)]),
    WHERE,
    WHERE,
    st.binary(max_size=8),
)


@given(st.lists(MUTANTS, max_size=5).map(b"".join), st.lists(st.integers(1, 30), max_size=20), st.booleans())
async def test_mutants_of_the_seeds_end_nothing_but_their_connection(octets: bytes, cuts: list[int], tcp: bool) -> None:
    dialect = TcpTable("reverse") if tcp else Socketmap()
    for piece in cut(octets, cuts):
        for request in dialect.feed(piece):
            if isinstance(request, BadRequest):
                assert dialect.refusal(request)
                if request.final:
                    return
                continue
            answer = await Asked().ask(request.map, request.key)
            assert answer.result != "unavailable" and dialect.answer(answer)


@pytest.mark.parametrize("name", ["forward", "reverse"])
async def test_no_seed_is_an_error_in_either_map(name: Map) -> None:
    for address in ADDRESSES:
        answer = await Asked().ask(name, address)
        assert Socketmap().answer(answer).partition(b":")[2].startswith((b"OK ", b"NOTFOUND "))
        assert TcpTable(name).answer(answer).startswith((b"200 ", b"500 "))

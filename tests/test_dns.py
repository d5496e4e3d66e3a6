"""The resolver against a real server on loopback: what it makes of answers, what it keeps, and what it does without."""

from __future__ import annotations

import asyncio
import functools
import socket
import threading
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.resolver
import pytest
import uvloop

from relay.cli.zone import ZoneServer
from relay.dns import UNREADABLE_TLSA, Answer, CachingResolver, DnsFailure, StaticResolver, Tlsa, is_on_this_host

DAY = 86400
ZONE = {
    ("mail.example", "A"): ["192.0.2.1", "192.0.2.2"],
    ("mail.example", "AAAA"): ["2001:DB8:0::1"],
    ("example", "MX"): ["10 MAIL.Example."],
    ("null.example", "MX"): ["0 ."],
    ("1.2.0.192.in-addr.arpa", "PTR"): ["Mail.Example.", "odd\\032name.example."],
    ("text.example", "TXT"): ['"v=spf1 " "-all"', '"\\195\\169"'],
    ("long.example", "TXT"): [" ".join(f'"{letter * 250}"' for letter in "abcdefgh")],
    ("longer.example", "TXT"): [f'"{number:0250}"' for number in range(50)],
    ("monster.example", "TXT"): [f'"{number:0250}"' for number in range(100)],
    ("alias.example", "CNAME"): ["other.example."],
    ("other.example", "CNAME"): ["mail.example."],
    ("round.example", "CNAME"): ["round.example."],
}


class CountingZone(ZoneServer):
    """Counts its questions, and answers SERVFAIL to all of them while `failing`."""

    def __init__(self, **options: int) -> None:
        super().__init__(ZONE, {"silent.example": "timeout", "broken.example": "servfail"}, **options)
        self.asked: Counter[tuple[str, str]] = Counter()
        self.failing = False

    def answer(self, request: dns.message.Message) -> dns.message.Message | None:
        question = request.question[0]
        self.asked[question.name.to_text(omit_final_dot=True), dns.rdatatype.to_text(question.rdtype)] += 1
        response = super().answer(request)
        if self.failing and response is not None:
            response.set_rcode(dns.rcode.SERVFAIL)
        return response


class Clock:
    """Seconds that pass when the test says so."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
async def zone() -> AsyncIterator[CountingZone]:
    server = CountingZone()
    yield server
    await server.close()


async def ask(
    server: ZoneServer, timeout: float = 5.0, entries: int = 100, clock: Clock | None = None
) -> CachingResolver:
    host, port = await server.start()
    return CachingResolver([f"{host}:{port}"], timeout, entries, clock or Clock())


@contextmanager
def silent_port() -> Iterator[str]:
    """An address where datagrams arrive and nobody answers."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{taken.getsockname()[1]}"


@pytest.mark.parametrize(
    ("name", "rdtype", "answer"),
    [
        ("Mail.Example.", "AAAA", Answer(("2001:db8::1",))),
        ("example", "MX", Answer(((10, "mail.example"),))),
        ("null.example", "MX", Answer(((0, ""),))),
        ("text.example", "A", Answer()),
        ("nowhere.example", "A", Answer(exists=False)),
        ("in-addr.arpa", "PTR", Answer()),
        ("a..example", "A", Answer(exists=False)),
        (f"{'a' * 64}.example", "A", Answer(exists=False)),
        (".".join(["a" * 60] * 5), "A", Answer(exists=False)),
        ("", "A", Answer(exists=False)),
        ("münchen.example", "A", Answer(exists=False)),
        ("broken\udcff.example", "A", Answer(exists=False)),
    ],
)
async def test_answers_come_in_one_form(zone: CountingZone, name: str, rdtype: str, answer: Answer) -> None:
    assert await (await ask(zone)).query(name, rdtype) == answer


async def test_names_and_strings_lose_nothing(zone: CountingZone) -> None:
    resolver = await ask(zone)
    pointers = await resolver.query("1.2.0.192.in-addr.arpa", "PTR")
    assert set(pointers.records) == {"mail.example", "odd\\032name.example"}
    texts = await resolver.query("text.example", "TXT")
    assert set(texts.records) == {(b"v=spf1 ", b"-all"), ("é".encode(),)}


async def test_reading_a_long_answer_holds_nobody_up(zone: CountingZone, monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes a good part of a second at worst, and those who want to hurt us write it."""
    resolver, loop_runs = await ask(zone), threading.Event()
    read = dns.message.from_wire

    def from_wire(wire: bytes, *arguments: Any, **options: Any) -> dns.message.Message:
        assert len(wire) < 4096 or loop_runs.wait(10)
        return read(wire, *arguments, **options)

    monkeypatch.setattr(dns.message, "from_wire", from_wire)
    asking = asyncio.create_task(resolver.query("longer.example", "TXT"))
    while not asking.done():
        await asyncio.sleep(0.01)
        if zone.asked["longer.example", "TXT"] > 1:
            loop_runs.set()
    assert len((await asking).records) == 50


async def test_an_answer_past_all_measure_is_none(zone: CountingZone) -> None:
    with pytest.raises(DnsFailure, match=r"monster\.example\. IN TXT: an answer of 2\d{4} octets"):
        await (await ask(zone)).query("monster.example", "TXT")
    assert zone.asked["monster.example", "TXT"] == 2, "once over UDP and once over TCP"


async def test_a_long_answer_comes_over_tcp(zone: CountingZone) -> None:
    (strings,) = (await (await ask(zone)).query("long.example", "TXT")).records
    assert [len(string) for string in strings] == [250] * 8
    assert zone.asked["long.example", "TXT"] == 2


async def test_an_answer_that_is_cut_off_is_none() -> None:
    class ShortOverTcpToo(CountingZone):
        def respond(self, wire: bytes, limit: int = 512) -> bytes:
            return super().respond(wire, 512)

    server = ShortOverTcpToo()
    resolver = await ask(server)
    with pytest.raises(DnsFailure, match="truncated"):
        await resolver.query("long.example", "TXT")
    await server.close()


async def test_cnames_are_followed(zone: CountingZone) -> None:
    resolver = await ask(zone)
    assert set((await resolver.query("alias.example", "A")).records) == {"192.0.2.1", "192.0.2.2"}
    assert await resolver.query("alias.example", "TXT") == Answer(canonical="mail.example")
    assert (await resolver.query("alias.example", "CNAME")).records == ("other.example",)
    with pytest.raises(DnsFailure):
        await resolver.query("round.example", "A")


async def test_cnames_are_followed_across_answers() -> None:
    class OneLinkAtATime(CountingZone):
        def answer(self, request: dns.message.Message) -> dns.message.Message | None:
            response = super().answer(request)
            if response is not None and len(response.answer) > 1:
                response.answer = response.answer[:1]
            return response

    server = OneLinkAtATime()
    resolver = await ask(server)
    assert set((await resolver.query("alias.example", "A")).records) == {"192.0.2.1", "192.0.2.2"}
    await server.close()


@pytest.mark.parametrize(
    ("ttl", "name", "kept"),
    [
        (60, "mail.example", 60),
        (0, "mail.example", 1),
        (10 * DAY, "mail.example", DAY),
        (60, "nowhere.example", 60),
        (60, "text.example", 60),
        (10 * DAY, "nowhere.example", 10800),
    ],
)
async def test_an_answer_is_kept_for_its_ttl_within_bounds(ttl: int, name: str, kept: int) -> None:
    server, clock = CountingZone(ttl=ttl), Clock()
    resolver = await ask(server, clock=clock)
    first = await resolver.query(name, "A")
    assert first.expires == clock.now + kept
    clock.now += kept - 0.5
    assert await resolver.query(name.upper(), "A") is first
    assert server.asked[name, "A"] == 1
    clock.now += 1
    await resolver.query(name, "A")
    assert server.asked.total() == 2
    await server.close()


async def test_without_a_cache_an_answer_holds_only_now(zone: CountingZone) -> None:
    resolver = await ask(zone, entries=0)
    assert (await resolver.query("mail.example", "A")).expires == 0.0
    await resolver.query("mail.example", "A")
    assert zone.asked["mail.example", "A"] == 2


async def test_a_failure_is_not_kept(zone: CountingZone) -> None:
    resolver = await ask(zone)
    zone.failing = True
    with pytest.raises(DnsFailure, match="SERVFAIL"):
        await resolver.query("mail.example", "A")
    zone.failing = False
    assert (await resolver.query("mail.example", "A")).records


async def test_one_question_however_many_ask_and_whoever_gives_up(zone: CountingZone) -> None:
    resolver = await ask(zone)
    tasks = [asyncio.create_task(resolver.query("mail.example", "A")) for _ in range(20)]
    await asyncio.sleep(0)
    tasks[0].cancel()
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(answers[0], asyncio.CancelledError)
    assert all(isinstance(answer, Answer) and answer.records for answer in answers[1:])
    assert zone.asked.total() == 1


async def test_the_least_recently_used_goes_first(zone: CountingZone) -> None:
    resolver = await ask(zone, entries=2)
    for name in ("a.example", "b.example", "a.example", "c.example", "a.example", "b.example"):
        await resolver.query(name, "A")
    assert zone.asked == {("a.example", "A"): 1, ("b.example", "A"): 2, ("c.example", "A"): 1}


async def test_large_answers_take_the_room_of_many(zone: CountingZone) -> None:
    resolver = await ask(zone, entries=4)
    for name in ("a.example", "long.example", "a.example"):
        await resolver.query(name, "TXT")
    assert zone.asked["a.example", "TXT"] == 2


async def test_no_cache(zone: CountingZone) -> None:
    resolver = await ask(zone, entries=0)
    for _ in range(2):
        assert (await resolver.query("mail.example", "A")).records
    assert zone.asked.total() == 2


async def test_a_silent_server_delays_one_question_only(zone: CountingZone) -> None:
    host, port = await zone.start()
    with silent_port() as silent:
        resolver = CachingResolver([silent, f"{host}:{port}"], timeout=4.0)
        assert (await resolver.query("mail.example", "A")).records
        async with asyncio.timeout(0.9):  # below the second that the silent one is given
            assert (await resolver.query("example", "MX")).records


async def test_a_failing_server_is_passed_over(zone: CountingZone) -> None:
    good, bad = await zone.start(), CountingZone()
    bad.failing = True
    host, port = await bad.start()
    resolver = CachingResolver([f"{host}:{port}", f"{good[0]}:{good[1]}"])
    assert (await resolver.query("mail.example", "A")).records
    await bad.close()


async def test_a_lost_datagram_is_sent_again() -> None:
    class DropsTheFirst(CountingZone):
        def answer(self, request: dns.message.Message) -> dns.message.Message | None:
            response = super().answer(request)
            return response if self.asked.total() > 1 else None

    server = DropsTheFirst()
    assert (await (await ask(server, timeout=1.0)).query("mail.example", "A")).records
    await server.close()


@pytest.mark.parametrize("name", ["silent.example", "broken.example"])
async def test_without_an_answer_it_fails_in_time(zone: CountingZone, name: str) -> None:
    resolver = await ask(zone, timeout=0.2)
    async with asyncio.timeout(2):
        with pytest.raises(DnsFailure, match=name):
            await resolver.query(name, "A")


@pytest.mark.parametrize("kind", ["silent.example", "broken.example", "nobody listens"])
async def test_who_did_not_answer_is_reported_and_not_in_the_text(zone: CountingZone, kind: str) -> None:
    host, port = await zone.start()
    if kind == "nobody listens":
        await zone.close()
    reports: list[tuple[str, str, dict[str, str]]] = []
    resolver = CachingResolver(
        [f"{host}:{port}"],
        timeout=0.4,
        report=lambda name, rdtype, problems: reports.append((name, rdtype, {**problems})),
    )
    name = "any.example" if kind == "nobody listens" else kind
    with pytest.raises(DnsFailure) as caught:
        await resolver.query(name, "TXT")
    assert str(caught.value).startswith(f"{name} TXT: ") and host not in str(caught.value)
    ((reported, rdtype, problems),) = reports
    assert (reported, rdtype, list(problems)) == (name, "TXT", [host]) and problems[host]


async def test_closing_gives_up_what_is_under_way(zone: CountingZone) -> None:
    resolver = await ask(zone, timeout=60)
    waiting = asyncio.create_task(resolver.query("silent.example", "A"))
    await asyncio.sleep(0)
    await resolver.close()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_without_nameservers_those_of_the_system_are_asked(
    zone: CountingZone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host, port = await zone.start()
    settings = tmp_path / "resolv.conf"
    settings.write_text(f"nameserver {host}\n")
    monkeypatch.setattr(dns.resolver, "Resolver", functools.partial(dns.resolver.Resolver, str(settings)))
    monkeypatch.setattr("relay.dns.DNS_PORT", port)
    assert (await CachingResolver().query("mail.example", "A")).records


def test_it_runs_on_uvloop() -> None:
    async def both_transports() -> tuple[Answer, Answer]:
        server = ZoneServer(ZONE)
        resolver = await ask(server)
        answers = await resolver.query("example", "MX"), await resolver.query("long.example", "TXT")
        await resolver.close()
        await server.close()
        return answers

    mx, txt = uvloop.run(both_transports())
    assert mx.records == ((10, "mail.example"),)
    assert len(txt.records[0]) == 8


# --- DNSSEC and TLSA --------------------------------------------------------------------------------------------------


class Signed(CountingZone):
    """Says that answers are proven, but for names with `un` in them; remembers the flags of its questions."""

    def __init__(self) -> None:
        super().__init__()
        self.flags = set[int]()
        self.put("unsigned.example", "CNAME", "mail.example.")
        self.put("signed.example", "CNAME", "mail.example.")
        self.put("to-unsigned.example", "CNAME", "un.example.")
        self.put("un.example", "A", "192.0.2.9")

    def answer(self, request: dns.message.Message) -> dns.message.Message | None:
        response = super().answer(request)
        self.flags.add(int(request.flags) | int(request.ednsflags) << 16)
        if response is not None and "un" not in request.question[0].name.to_text():
            response.flags |= dns.flags.AD
        if response is not None and len(response.answer) > 1:
            response.answer = response.answer[:1]  # each link of a chain is asked for
        return response


@pytest.mark.parametrize(
    ("name", "rdtype", "secure"),
    [
        ("mail.example", "A", True),
        ("mail.example", "TXT", True),
        ("nowhere.example", "A", True),
        ("un.example", "A", False),
        ("signed.example", "A", True),
        ("unsigned.example", "A", False),
        ("to-unsigned.example", "A", False),
    ],
)
async def test_an_answer_is_secure_where_all_of_it_is(name: str, rdtype: str, secure: bool) -> None:
    server = Signed()
    resolver = await ask(server)
    for _ in range(2):  # the second one is from the cache
        assert (await resolver.query(name, rdtype)).secure == secure
    await server.close()


@pytest.mark.parametrize(
    ("name", "rdtype", "canonical"),
    [
        ("mail.example", "A", ""),
        ("signed.example", "A", "mail.example"),
        ("signed.example", "NS", "mail.example"),
        ("signed.example", "CNAME", ""),
        ("nowhere.example", "A", ""),
    ],
)
async def test_an_answer_says_where_its_cnames_lead(name: str, rdtype: str, canonical: str) -> None:
    server = Signed()
    resolver = await ask(server)
    assert (await resolver.query(name, rdtype)).canonical == canonical
    await server.close()


@pytest.mark.parametrize(
    ("address", "here"),
    [
        ("127.0.0.1", True),
        ("127.0.0.53", True),
        ("::1", True),
        ("127.0.0.11", False),  # Docker's
        ("192.0.2.53", False),
        ("fe80::1%eth0", False),
    ],
)
async def test_only_name_servers_on_this_host_are_believed(address: str, here: bool) -> None:
    assert is_on_this_host(address) == here


@pytest.mark.parametrize("trust_ad", [False, True])
async def test_a_name_server_elsewhere_is_believed_where_that_is_configured(
    trust_ad: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("relay.dns.is_on_this_host", lambda address: False)
    server = Signed()
    host, port = await server.start()
    resolver = CachingResolver([f"{host}:{port}"], trust_ad=trust_ad)
    assert (await resolver.query("signed.example", "A")).secure == trust_ad
    await server.close()


async def test_nothing_is_secure_unless_the_server_says_so(zone: CountingZone) -> None:
    assert not (await (await ask(zone)).query("mail.example", "A")).secure


async def test_signatures_are_not_asked_for() -> None:
    """The AD bit asks whether the answer is proven (RFC 6840 section 5.7); DO would make every answer longer."""
    server = Signed()
    host, port = await server.start()
    for validated, flags in ((True, dns.flags.RD | dns.flags.AD), (False, dns.flags.RD | dns.flags.AD | dns.flags.CD)):
        resolver = CachingResolver([f"{host}:{port}"], validated=validated)
        await resolver.query("mail.example", "A")
        assert server.flags == {int(flags)}
        server.flags.clear()
    await server.close()


GOOD, SHORT_DIGEST, TOO_SHORT = b"\x03\x01\x01" + b"k" * 32, b"\x03\x01\x01" + b"k" * 31, b"\x03\x01"


class RawTlsa(CountingZone):
    """Answers with octets that no zone file would be let through with."""

    def __init__(self, *records: bytes) -> None:
        super().__init__()
        self._records = records

    def respond(self, wire: bytes, limit: int = 65535) -> bytes:
        request = dns.message.from_wire(wire)
        self.asked[request.question[0].name.to_text(omit_final_dot=True), "TLSA"] += 1
        response = dns.message.make_response(request)
        response.use_edns(-1)
        header = response.to_wire()
        body = b"".join(
            b"\xc0\x0c\x00\x34\x00\x01\x00\x00\x00\x3c" + len(record).to_bytes(2, "big") + record
            for record in self._records
        )
        return header[:6] + len(self._records).to_bytes(2, "big") + header[8:] + body


@pytest.mark.parametrize(
    ("records", "read", "questions"),
    [
        ((GOOD,), (Tlsa(3, 1, 1, b"k" * 32),), 1),
        ((b"\x02\x00\x00cert",), (Tlsa(2, 0, 0, b"cert"),), 1),
        ((GOOD, SHORT_DIGEST), (Tlsa(3, 1, 1, b"k" * 32), UNREADABLE_TLSA), 2),
        ((SHORT_DIGEST,), (UNREADABLE_TLSA,), 2),
        ((TOO_SHORT, GOOD), (Tlsa(3, 1, 1, b"k" * 32), UNREADABLE_TLSA), 2),
    ],
)
async def test_tlsa_records_are_read_one_by_one(
    records: tuple[bytes, ...], read: tuple[Tlsa, ...], questions: int
) -> None:
    """One record that cannot be read does not hide the others, nor that there are records (RFC 7671 section 4)."""
    server = RawTlsa(*records)
    resolver = await ask(server)
    async with asyncio.timeout(2):  # what cannot be read is not waited for
        assert (await resolver.query("_25._tcp.mail.example", "TLSA")).records == read
    assert server.asked.total() == questions
    await server.close()


def test_a_static_resolver_may_be_secure() -> None:
    answers = [asyncio.run(StaticResolver({}, secure).query("a.example", "A")) for secure in (False, True)]
    assert answers == [Answer(exists=False), Answer(exists=False, secure=True)]

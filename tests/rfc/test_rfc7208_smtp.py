"""The published SPF suite through the SMTP door of a running relay.

Each case comes from its client's address by PROXY, with its EHLO and MAIL FROM; its zone answers the relay's resolver
over UDP and TCP; the result is read from the message that comes out. A second relay that rejects shows explanations.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from email import message_from_bytes

import authres
import pytest

from relay.mail.address import quote, split
from tests.journeys.clients import Answer, Dialogue
from tests.journeys.sinks import RecordingSink
from tests.journeys.world import FWD, MAILBOX, NEXT, World
from tests.peers import free_port, wait_for
from tests.rfc.spf_suite import Case, Scenario, load

CANNOT_BE_SENT = {
    "emptylabel": "no domain of RFC 5321 section 4.1.2 has two dots in a row: refused at MAIL",
    "toolonglabel": "RFC 5321 section 2.3.5 takes names that DNS can hold, 63 octets a label: refused at MAIL",
}
DNS_TIMEOUT = "2s"  # what a silent name costs, and many times what an answer on loopback takes
TAG_ALL = {"fail": "tag", "softfail": "tag", "permerror": "tag", "temperror": "tag"}


@dataclass(frozen=True, slots=True)
class Door:
    """A listener that believes PROXY, and a recipient that leads on from there."""

    port: int
    recipient: str

    def send(self, case: Case) -> Answer:
        """The whole transaction of a case; the first refusal, or the answer to the final dot.

        One EHLO name has a space in it. It is sent as it is, and the relay reads it to there.
        """
        version = ipaddress.ip_address(case.host).version
        header = f"PROXY TCP{version} {case.host} {'127.0.0.1' if version == 4 else '::1'} 40000 25\r\n"
        with Dialogue(("127.0.0.1", self.port), proxy=header.encode()) as session:
            for command in (f"EHLO {case.helo}", f"MAIL FROM:<{path(case)}>", f"RCPT TO:<{self.recipient}>", "DATA"):
                if (answer := session(command)).code >= 400:
                    return answer
            session.send(f"Subject: {case.name}\r\n\r\n.\r\n".encode())
            return session.reply()


def path(case: Case) -> str:
    """The case's sender as RFC 5321 section 4.1.2 writes it: quoted where a local part has a space, or is empty."""
    if not case.mailfrom:
        return ""
    local, domain = split(case.mailfrom)
    return f"{quote(local)}@{domain}"


def open_doors(world: World, nameserver: str) -> tuple[Door, Door]:
    """The relay that tags and the one that rejects; what they take goes to `mailbox.example` without any DNS."""
    doors = []
    for domain, address, spf in (("fwd.example", FWD, TAG_ALL), ("next.example", NEXT, TAG_ALL | {"fail": "reject"})):
        port = free_port()
        plain = {"address": f"{address}:{world.port}"}
        proxied = {"address": f"127.0.0.1:{port}", "proxy_protocol": True, "proxies": ["127.0.0.1/32"]}
        world.relay(
            domain,
            aliases=f"alice@{domain} carol@mailbox.example\n",
            listen=[plain, proxied],
            dns={"nameservers": [nameserver], "timeout": DNS_TIMEOUT, "cache_entries": 0},
            spf=spf,
            delivery={"smarthost": {"url": f"smtp://{MAILBOX}:{world.port}"}},
        )
        doors.append(Door(port, f"alice@{domain}"))
    tagging, rejecting = doors
    return tagging, rejecting


async def replies(scenario: Scenario, door: Door, wanted: Callable[[Case], bool]) -> dict[Case, Answer]:
    """What the door says to the cases of a scenario whose zone is served."""
    cases = [case for case in scenario.cases if wanted(case)]
    answers = await asyncio.gather(*(asyncio.to_thread(door.send, case) for case in cases))
    return dict(zip(cases, answers, strict=True))


def tagged(content: bytes) -> tuple[str, str]:
    """Subject, and the SPF result of the only Authentication-Results of a message."""
    message = message_from_bytes(content)
    [field] = message.get_all("Authentication-Results", [])
    found = authres.AuthenticationResultsHeader.parse(f"Authentication-Results: {' '.join(field.split())}")
    assert found.authserv_id == "mx.fwd.example"
    [result] = (one for one in found.results if one.method == "spf")
    return message["Subject"], result.result


def explains(case: Case, answer: Answer) -> bool:
    """Whether a rejection carries the domain's explanation, and only that."""
    _, marker, explanation = answer.text.partition("the domain explains: ")
    return answer[:2] == (550, "5.7.23") and explanation == case.explanation and bool(marker) is bool(explanation)


def with_explanation(case: Case) -> bool:
    return case.explanation is not None


@pytest.fixture
def world() -> Iterator[World]:
    with closing(World()) as world:
        yield world
        assert not world.complaints(), "\n".join(world.complaints())


@pytest.mark.slow
async def test_every_published_case_agrees_through_the_smtp_door(world: World) -> None:
    scenarios = load()
    cases = {case.name: case for scenario in scenarios for case in scenario.cases}
    assert len(cases) == sum(len(scenario.cases) for scenario in scenarios) == 203
    nameserver = free_port()
    sink = world.start(RecordingSink(MAILBOX, world.port))
    tagging, rejecting = await asyncio.to_thread(open_doors, world, f"127.0.0.1:{nameserver}")
    accepted: dict[Case, Answer] = {}
    rejected: dict[Case, Answer] = {}
    for scenario in scenarios:
        server = scenario.server()
        await server.start("127.0.0.1", nameserver)
        accepted |= await replies(scenario, tagging, lambda case: True)
        rejected |= await replies(scenario, rejecting, with_explanation)
        await server.close()

    refused = {case.name: answer for case, answer in accepted.items() if answer.code != 250}
    assert {name: answer[:2] for name, answer in refused.items()} == dict.fromkeys(CANNOT_BE_SENT, (553, "5.1.7"))
    await wait_for(lambda: len(sink.received) == 203 - len(CANNOT_BE_SENT), "every message at the sink")
    results = dict(tagged(one.content) for one in sink.received)
    assert results.keys() == cases.keys() - CANNOT_BE_SENT.keys()
    disagreements = [
        f"{name}: {result} instead of {cases[name].results}"
        for name, result in results.items()
        if result not in cases[name].results
    ]
    disagreements += [
        f"{case.name}: {answer} instead of {case.explanation!r}"
        for case, answer in rejected.items()
        if not explains(case, answer)
    ]
    assert not disagreements, "\n".join(disagreements)
    assert len(rejected) == 22

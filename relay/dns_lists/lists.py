"""What the DNS lists of `[clients]` say of a client: each listing adds to its score, or takes from it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from relay.config.sections import ClientsSection
from relay.config.values import AnswerRange
from relay.dns import Resolver
from relay.dns_lists.answers import is_listing, listed_name
from relay.dns_lists.zone import ListZone
from relay.mail.address import domain_of
from relay.mail.envelope import Client


@dataclass(frozen=True, slots=True)
class Subject:
    """What is looked up.

    Attributes:
        text: an address, or a name in normal form.
        what: what it is, for the refusal, as `client [192.0.2.1]`.
    """

    text: str
    what: str


@dataclass(frozen=True, slots=True)
class Listed:
    """What the DNS lists say of a client.

    Attributes:
        refusal: the text of the refusal; empty where they do not refuse it.
        may_change: a whitelist that has a fault could have spared the client, so it may come again.
        doubt: which lists make its mail doubtful; empty where none does.
        score: the sum of the weights of the lists that list it; those of whitelists count against it.
        zones: the lists that do, without whitelists.
    """

    refusal: str = ""
    may_change: bool = False
    doubt: str = ""
    score: int = 0
    zones: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class _List:
    """An entry of the configuration.

    Attributes:
        weight: negative for a whitelist.
        answers: those that count; empty for all that `is_listing` takes.
    """

    zone: ListZone
    weight: int
    answers: Sequence[AnswerRange]

    def lists(self, answers: Sequence[str]) -> bool:
        """Whether one of the answers is a listing."""
        if not self.answers:
            return any(map(is_listing, answers))
        return any(counted.has(answer) for counted in self.answers for answer in answers)


class Lists:
    """The DNS lists of one worker.

    Args:
        count: is told the zone and the outcome of each look-up, see `ListZone`.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        clients: ClientsSection,
        resolver: Resolver,
        count: Callable[[str, str], None] = lambda zone, outcome: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._reject = clients.dnsbl_reject
        self._zones = dict[tuple[str, bool], ListZone]()

        def zone(name: str, *, names: bool) -> ListZone:
            if (name, names) not in self._zones:
                self._zones[name, names] = ListZone(
                    name,
                    names=names,
                    resolver=resolver,
                    count=partial(count, name),
                    clock=clock,
                )
            return self._zones[name, names]

        self._lists = [
            *(_List(zone(each.zone, names=each.names), each.weight, each.answers) for each in clients.dnsbl),
            *(_List(zone(each.zone, names=False), -each.weight, each.answers) for each in clients.dnswl),
        ]

    async def look_up(self, client: Client, sender: str) -> Listed:
        """Ask all lists at once. A list that has a fault lists nobody.

        Args:
            sender: MAIL FROM, whose domain is looked up as HELO is; empty for the null sender.
        """
        addresses, names = _addresses(client), _names(client, sender)
        asked = [
            (zone, subject)
            for (_, is_of_names), zone in self._zones.items()
            for subject in (names if is_of_names else addresses)
        ]
        answers = await asyncio.gather(*(zone.look_up(subject.text) for zone, subject in asked))
        score, unknown, listings = 0, 0, list[tuple[ListZone, Subject]]()
        for each in self._lists:
            found = [(pair, said) for pair, said in zip(asked, answers, strict=True) if pair[0] is each.zone]
            listed = [pair for pair, said in found if said is not None and each.lists(said)]
            if listed:
                score += each.weight
                listings += listed[:1] if each.weight > 0 else []
            elif each.weight < 0 and any(said is None for _, said in found):
                unknown += each.weight
        if score <= 0:
            return Listed(score=score)
        zones = tuple(dict.fromkeys(zone.zone for zone, _ in listings))
        if score < self._reject:
            return Listed(doubt=f"listed at {', '.join(zones)}", score=score, zones=zones)
        zone, subject = listings[0]
        text = await zone.text(subject.text)
        words = f"Service unavailable; {subject.what} blocked using {', '.join(zones)}", text
        return Listed("; ".join(filter(None, words)), score + unknown < self._reject, score=score, zones=zones)


def _addresses(client: Client) -> Sequence[Subject]:
    return (Subject(client.ip, f"client [{client.ip}]"),) if client.known else ()


def _names(client: Client, sender: str) -> Sequence[Subject]:
    subjects = dict[str, Subject]()
    if name := listed_name(domain_of(sender)):
        subjects[name] = Subject(name, f"sender domain {name}")
    if name := listed_name(client.helo):
        subjects.setdefault(name, Subject(name, f"HELO name {name}"))
    return tuple(subjects.values())

"""What a worker has learned from replies by which providers ask it to slow down, or refuse this host.

A rule that matches a reply (`relay.config.shaping`) slows or pauses a group of next hops: all whose mail goes to hosts
of the provider, or the one next hop that has replied, where the host belongs to no provider that is known. To slow down
halves the transactions at once, and a rate as well. A pause is followed by one transaction at a time. Each message that
is taken then gives something back, until the group has as much as before, and is forgotten.
Pure, except for `find_out`: the clock is passed in, in seconds since 1970.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Hashable, Iterable, Sequence
from dataclasses import dataclass

from relay.config.destinations import Destinations
from relay.config.shaping import Rule, ShapingRules
from relay.deliver.next_hop_health import Failure, takes_mail
from relay.deliver.shared_limits import horizon, messages_left
from relay.mail.outcome import Outcome
from relay.queue.hop_keys import is_doubtful_hop, is_url, shown_hop

REMEMBERED = 50_000  # next hops whose provider is known
SHAPED = 10_000  # next hops that were slowed or paused on their own
LONGEST = 4 * 3600.0  # seconds of a pause
FULL = 5  # transactions at once that a group gets back at least, before it is forgotten
FORGOTTEN = 86400.0  # seconds since the last such reply of a next hop that got no mail since
CALM = 3600.0  # seconds since the last such reply, after which one message that is taken ends it all
SLOWEST = 1.0  # messages a minute
AT_ONCE = 100  # domains that are looked up at once
LOOK_UP = 1.0  # seconds for DNS to say where the mail of a domain goes; later its attempt finds out

FindHosts = Callable[[str], Awaitable[Collection[str]]]
"""Finds the names of the most preferred MX hosts of a domain; none where DNS does not say now."""


@dataclass(frozen=True, slots=True)
class Shaped:
    """A reply has slowed or paused a group of next hops.

    Attributes:
        group: the provider, or the one next hop.
        provider: empty where it is one next hop.
        places: transactions at once from now on.
        rate: messages a minute of this process; None without a limit.
        until: when it may be tried again; None where it is not paused.
    """

    group: str
    provider: str
    rule: Rule
    outcome: Outcome
    places: int
    rate: float | None
    until: float | None


@dataclass(frozen=True, slots=True)
class Recovered:
    """A group has as much as before, `seconds` after the first reply that slowed it."""

    group: str
    provider: str
    seconds: float


@dataclass(eq=False, slots=True)
class Group:
    """Next hops that are slowed and paused together.

    Attributes:
        name: the provider, or the one next hop.
        active: their transactions under way, with those that wait.
        waiting: those of them that wait for a connection.
        places: transactions at once; 0 while nothing was learned.
        failure: the try that began the pause, until another has shown that mail is taken; others share it.
    """

    name: str
    provider: str
    active: int = 0
    waiting: int = 0
    places: int = 0
    failure: Failure | None = None
    _full: int = 0
    _rate: float = 0.0  # 0 for none
    _paid_until: float = 0.0
    _paused_until: float = 0.0
    _pause: float = 0.0
    _first: float = 0.0
    _last: float = 0.0
    _credit: int = 0

    def is_paused(self, now: float) -> bool:
        """Whether nothing may be tried now."""
        return 0 < self._paused_until - now <= self._pause  # else it is over, or the clock was put back

    def room(self, now: float) -> int:
        """How many more transactions may begin now; not negative. Only for a group that has learned something."""
        if self.is_paused(now):
            return 0
        room = self.places - self.active
        if self._rate:
            self._paid_until = min(self._paid_until, now + horizon(self._rate))  # further ahead: as above
            room = min(room, messages_left(self._rate, self._paid_until, now))
        return max(0, room)

    def is_old(self, now: float) -> bool:
        """Whether nothing was learned for a day."""
        return 0 < self._last < now - FORGOTTEN

    def pay(self, now: float) -> None:
        """Count a message that begins."""
        if self._rate:
            self._paid_until = min(max(self._paid_until, now) + 60 / self._rate, now + horizon(self._rate))

    def refund(self) -> None:
        """Take back that a message has begun."""
        if self._rate:
            self._paid_until -= 60 / self._rate

    def heed(
        self, rule: Rule, outcome: Outcome, began: float, now: float, *, active: int, share: int, longest: float
    ) -> Shaped | None:
        """Do what a rule says. None where the transaction began before this was last done: it says nothing new.

        Args:
            active: transactions under way, where more are known than those of the group.
            share: how many processes share the rate.
            longest: seconds of a pause.
        """
        if self.places and began < self._last <= now:
            return None
        if not self.places:
            self._first, self._rate, self._pause = now, 0.0, 0.0
            active = max(active, self.active - self.waiting)
            self._full = max(FULL, active)
            self.places = max(2, active)
        self._last, self._credit = now, 0
        self.places = max(1, self.places // 2)
        self._rate /= 2
        if rule.rate is not None:
            self._rate = min(self._rate or rule.rate / share, rule.rate / share)
        if self._rate:
            self._rate = max(SLOWEST, self._rate)
        if rule.pause:
            self.places = 1
            self._pause = min(longest, max(rule.pause, 2 * self._pause if self.failure is not None else 0.0))
            self._paused_until = now + self._pause
            self.failure = Failure(began, outcome)
        until = self._paused_until if rule.pause else None
        return Shaped(self.name, self.provider, rule, outcome, self.places, self._rate or None, until)

    def succeed(self, began: float, now: float) -> Recovered | None:
        """Give something back after a message that was taken."""
        if not self.places or began < self._last <= now:
            return None
        self.failure = None
        self._credit += 1
        if now - self._last < CALM:
            if self._credit < self.places:
                return None
            self._rate *= (self.places + 1) / self.places
            self.places, self._credit = self.places + 1, 0
            if self.places < self._full:
                return None
        self.places, self._rate, self._pause = 0, 0.0, 0.0
        return Recovered(self.name, self.provider, max(0.0, now - self._first))


class Shaping:
    """What one worker has learned.

    Args:
        find_hosts: for a domain that nothing was sent to yet, while a provider is slowed or paused.
        workers: how many processes share the rates of the rules.
        longest: seconds of a pause at most.
    """

    def __init__(
        self,
        rules: ShapingRules | None = None,
        destinations: Destinations | None = None,
        find_hosts: FindHosts | None = None,
        *,
        workers: int = 1,
        longest: float = LONGEST,
    ) -> None:
        self._rules = rules or ShapingRules((), with_package=False)
        self._destinations = destinations
        self._find_hosts = find_hosts
        self._workers = workers
        self._longest = min(longest, LONGEST)
        self._provider_of: dict[str, str] = {}  # by the shown next hop; empty where it is none of them
        self._by_provider: dict[tuple[str, Hashable], Group] = {}
        self._by_hop: dict[tuple[str, Hashable], Group] = {}  # those that have learned something, the oldest first
        self._providers_shaped = 0
        self._looking: dict[str, asyncio.Task[None]] = {}

    @property
    def is_active(self) -> bool:
        """Whether any group is slowed or paused."""
        return self.shaped > 0

    @property
    def shaped(self) -> int:
        """How many groups are slowed or paused."""
        return self._providers_shaped + len(self._by_hop)

    def group_of(self, hop: str) -> Group | None:
        """The group of the key of a next hop; None where it has no provider that is known, and nothing was learned of
        it alone."""
        provider = self._provider_of.get(shown_hop(hop))
        if provider:
            key = (provider, self._source(hop))
            group = self._by_provider.get(key)
            if group is None:
                group = self._by_provider[key] = Group(provider, provider)
            return group
        return self._by_hop.get((shown_hop(hop), self._source(hop))) if self._by_hop else None

    def _source(self, hop: str) -> Hashable:
        """What a provider judges: the addresses that mail to a next hop leaves from."""
        if self._destinations is None:
            return None
        table = None if is_url(hop) else self._destinations.of(shown_hop(hop))
        table = self._destinations.for_mail(table, doubtful=is_doubtful_hop(hop))
        leaving = self._destinations.leaving if table is None else table.leaving
        return leaving.source_ipv4, leaving.source_ipv6

    def room(self, hop: str, now: float) -> int | None:
        """How many more transactions a next hop may have; None where nothing limits it. While a provider is slowed or
        paused, a domain has none until `find_out` has looked where its mail goes."""
        if not self.is_active:
            return None
        group = self.group_of(hop)
        if group is not None and group.places:
            return group.room(now)
        return 0 if self._is_unknown(hop) else None

    def _is_unknown(self, hop: str) -> bool:
        return (
            self._providers_shaped > 0
            and self._find_hosts is not None
            and shown_hop(hop) not in self._provider_of
            and not is_url(hop)
        )

    def failure(self, hop: str) -> Failure | None:
        """The try that paused the group of a next hop; None where it is not paused, or has taken mail since."""
        if not self.is_active:
            return None
        group = self.group_of(hop)
        return None if group is None else group.failure

    def find_out(self, hops: Iterable[str]) -> None:
        """Begin to look up where the mail of domains goes, while that matters. Nobody waits for it: a domain without
        room is asked for again soon."""
        if not self._providers_shaped or self._find_hosts is None:
            return
        for hop in hops:
            if len(self._looking) >= AT_ONCE:
                return
            domain = shown_hop(hop)
            if self._is_unknown(hop) and domain not in self._looking:
                self._looking[domain] = asyncio.create_task(self._look_up(domain, self._find_hosts))

    async def _look_up(self, domain: str, find_hosts: FindHosts) -> None:
        hosts: Collection[str] = ()
        try:
            async with asyncio.timeout(LOOK_UP):
                hosts = await find_hosts(domain)
        except TimeoutError:
            pass
        finally:
            del self._looking[domain]
            self._remember(domain, min({self._rules.provider_of(host) for host in hosts} - {""}, default=""))

    def _remember(self, hop: str, provider: str) -> None:
        self._provider_of.pop(hop, None)
        self._provider_of[hop] = provider
        if len(self._provider_of) > REMEMBERED:
            del self._provider_of[next(iter(self._provider_of))]

    def note(
        self, hop: str, began: float, now: float, outcomes: Sequence[Outcome], active: int
    ) -> Shaped | Recovered | None:
        """Note a transaction that is over. Returns what was learned.

        Args:
            active: the transactions under way with this next hop, without those that wait for a connection.
        """
        told = [outcome for outcome in outcomes if outcome.remote]
        if not told:
            return None
        provider = self._rules.provider_of(told[0].host)
        if self._provider_of.get(shown_hop(hop)) != provider:
            self._remember(shown_hop(hop), provider)
        for outcome in dict.fromkeys(each for each in told if each.status != "delivered"):
            rule = self._rules.find(outcome)
            if rule is not None:
                return self._heed(hop, rule, outcome, began, now, active)
        if self.is_active and any(map(takes_mail, told)):
            return self._succeed(hop, began, now)
        return None

    def _heed(self, hop: str, rule: Rule, outcome: Outcome, began: float, now: float, active: int) -> Shaped | None:
        group = self.group_of(hop)
        if group is None:
            key = (shown_hop(hop), self._source(hop))
            group = self._by_hop[key] = Group(shown_hop(hop), "")
            self._forget_some(now)
        self._providers_shaped += bool(group.provider and not group.places)
        return group.heed(rule, outcome, began, now, active=active, share=self._workers, longest=self._longest)

    def _forget_some(self, now: float) -> None:
        """Forget next hops that got no mail for a day, and the oldest of too many."""
        for key, group in list(self._by_hop.items()):
            if len(self._by_hop) <= SHAPED and not group.is_old(now):
                return
            del self._by_hop[key]

    def _succeed(self, hop: str, began: float, now: float) -> Recovered | None:
        group = self.group_of(hop)
        event = None if group is None else group.succeed(began, now)
        if event is not None:
            if event.provider:
                self._providers_shaped -= 1
            else:
                self._by_hop.pop((shown_hop(hop), self._source(hop)), None)
        return event

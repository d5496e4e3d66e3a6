"""`srs = "when-needed"`: a sender stays where its SPF covers every address of ours, and is rewritten in any doubt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from relay.config.model import Config
from relay.dns import DnsFailure
from relay.mail.message import Message
from relay.queue.store import Delivery, StoredMessage
from relay.queue.stored_verdict import StoredVerdict
from relay.rewrite.sender import Decision
from relay.rewrite.senders import Senders
from relay.srs.address import Scheme
from tests.resolvers import RecordingResolver

Zone = Mapping[tuple[str, str], Sequence[Any] | Exception]
NOW = 1700000000.0
US4, US6, US4_TOO = "192.0.2.1", "2001:db8::1", "192.0.2.2"
SILENT = DnsFailure("timeout")
HOST = {("relay.test", "A"): [US4], ("relay.test", "AAAA"): [US6]}
SPF = {
    "both.test": f"v=spf1 ip4:{US4} ip6:{US6} -all",
    "four.test": f"v=spf1 ip4:{US4} ~all",
    "none-of-us.test": "v=spf1 ip4:198.51.100.1 -all",
    "undecided.test": "v=spf1 ?all",
    "broken.test": "v=spf1 nonsense:x",
    "ours.test": "v=spf1 -all",
}


@pytest.fixture(autouse=True)
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    """What the kernel chooses to send from; at first there is no route to anywhere."""
    chosen = Kernel()
    monkeypatch.setattr("relay.sending_addresses.kernel_choice", chosen)
    return chosen


class Kernel:
    """The kernel's choice of a source address.

    Attributes:
        ipv4, ipv6: what it chooses; None without a route.
        asked: how often it was asked.
    """

    def __init__(self) -> None:
        self.ipv4: str | None = None
        self.ipv6: str | None = None
        self.asked = 0

    def __call__(self, destination: str, source: str = "") -> str | None:
        self.asked += 1
        return self.ipv6 if ":" in destination else self.ipv4


class House:
    """The senders of one worker, for a domain route with each mode.

    Attributes:
        now: what its clock says.
    """

    def __init__(self, host: Zone = HOST, **delivery: Any) -> None:
        route = {"next_hop": "smtp://192.0.2.99", "recipients": "any"}
        config = Config.model_validate(
            {
                "hostname": "relay.test",
                "listen": [{"address": "127.0.0.1:0"}],
                "srs": {"domain": "fwd.test", "secrets_file": "/dev/null"},
                "senders": {"local_domains": ["ours.test"]},
                "delivery": delivery,
                "routes": {
                    "domains": {
                        "needed.test": {**route, "srs": "when-needed"},
                        "always.test": {**route, "srs": "always"},
                        "never.test": {**route, "srs": False},
                        "mx.test": {"recipients": "any", "srs": "when-needed"},
                    }
                },
            }
        )
        zone = {(domain, "TXT"): [(text.encode(),)] for domain, text in SPF.items()}
        self.resolver = RecordingResolver({**zone, ("silent.test", "TXT"): SILENT, **host})
        self.now = NOW
        store: Any = None  # `decide` stores nothing
        self.senders = Senders(config, Scheme("fwd.test", (b"secret",)), store, self.resolver, clock=lambda: self.now)

    async def decide(self, sender: str, domain: str = "needed.test", **verdict: Any) -> Decision:
        stored = StoredMessage(1, NOW, sender, b"", Message(b"Subject: x\r\n\r\n"), StoredVerdict(**verdict))
        one = Delivery(1, 0, f"carol@{domain}", f"carol@{domain}", srs=domain != "never.test")
        return await self.senders.decide(stored, one, smtputf8=True)

    async def reason(self, sender: str, domain: str = "needed.test", **verdict: Any) -> str:
        return (await self.decide(sender, domain, **verdict)).reason


@pytest.mark.parametrize(
    ("sender", "reason"),
    [
        ("ann@both.test", "unneeded"),
        ("ann@four.test", "srs"),
        ("ann@none-of-us.test", "srs"),
        ("ann@undecided.test", "srs"),
        ("ann@unpublished.test", "srs"),
        ("ann@broken.test", "srs"),
        ("ann@silent.test", "srs"),
        ("", "null"),
        ("ann@fwd.test", "own"),
    ],
)
async def test_only_a_pass_from_every_address_of_ours_leaves_the_sender_alone(sender: str, reason: str) -> None:
    decision = await House().decide(sender)
    assert decision.reason == reason
    assert (decision.address == sender) == (reason != "srs")


async def test_a_local_sender_is_known_without_spf() -> None:
    assert await House().reason("ann@ours.test", trusted=True) == "local"
    assert await House().reason("ann@ours.test", spf="fail") == "srs"


@pytest.mark.parametrize(("domain", "reason"), [("always.test", "srs"), ("never.test", "unwanted"), ("x.test", "srs")])
async def test_other_routes_do_not_ask(domain: str, reason: str) -> None:
    house = House()
    assert await house.reason("ann@both.test", domain) == reason
    assert not house.resolver.asked


async def test_mail_for_the_mx_of_a_domain_is_looked_at_too() -> None:
    assert await House().reason("ann@both.test", "mx.test") == "unneeded"


async def test_behind_a_smarthost_our_addresses_say_nothing() -> None:
    """SPF is then checked for the smarthost's address; a route with a next hop of its own does not go there."""
    house = House(smarthost={"url": "smtp://192.0.2.77:587"})
    assert await house.reason("ann@both.test", "mx.test") == "srs"
    assert await house.reason("ann@both.test", "needed.test") == "unneeded"


@pytest.mark.parametrize(
    ("delivery", "reason"),
    [
        ({"families": ["ipv4"]}, "unneeded"),
        ({"families": ["ipv4", "ipv6"]}, "srs"),
        ({"source_ipv6": "2001:db8::2"}, "srs"),
        ({"families": ["ipv4"], "source_ipv6": "2001:db8::2"}, "unneeded"),
        ({"families": ["ipv4"], "source_ipv4": US4_TOO}, "srs"),
    ],
)
async def test_the_addresses_are_those_that_mail_leaves_from(delivery: dict[str, Any], reason: str) -> None:
    assert await House(**delivery).reason("ann@four.test") == reason


async def test_a_name_with_several_addresses_has_to_be_covered_whole() -> None:
    host = {("relay.test", "A"): [US4, US4_TOO]}
    assert await House(host).reason("ann@four.test") == "srs"
    assert await House({("relay.test", "A"): [US4]}).reason("ann@four.test") == "unneeded"


@pytest.mark.parametrize("host", [{}, {("relay.test", "A"): SILENT}, {**HOST, ("relay.test", "AAAA"): SILENT}])
async def test_where_our_own_addresses_are_unknown_the_sender_is_rewritten(host: Zone) -> None:
    assert await House(host).reason("ann@both.test") == "srs"


# what the kernel chooses


async def test_the_kernels_choice_has_to_be_covered_although_our_name_does_not_have_it(kernel: Kernel) -> None:
    """A host with IPv6 whose name has IPv4 alone in DNS: mail leaves by both."""
    four_only = {("relay.test", "A"): [US4]}
    assert await House(four_only).reason("ann@four.test") == "unneeded"
    kernel.ipv4, kernel.ipv6 = US4, US6
    assert await House(four_only).reason("ann@four.test") == "srs"
    assert await House(four_only).reason("ann@both.test") == "unneeded"
    assert await House(four_only, families=["ipv4"]).reason("ann@four.test") == "unneeded"
    assert await House(four_only, source_ipv6="2001:db8::2").reason("ann@both.test") == "srs"


async def test_beside_the_kernels_choice_the_addresses_of_our_name_count(kernel: Kernel) -> None:
    kernel.ipv4 = US4
    assert await House({("relay.test", "A"): [US4_TOO]}).reason("ann@four.test") == "srs"


async def test_behind_a_nat_the_addresses_of_our_name_count_alone(kernel: Kernel) -> None:
    kernel.ipv4, kernel.ipv6 = "10.0.0.5", "fd00::5"
    assert await House().reason("ann@both.test") == "unneeded"
    assert await House(source_ipv4="10.0.0.5").reason("ann@both.test") == "unneeded"


async def test_a_private_address_that_dns_knows_nothing_of_is_not_covered(kernel: Kernel) -> None:
    kernel.ipv4, kernel.ipv6 = "10.0.0.5", "fd00::5"
    assert await House({("relay.test", "A"): [US4]}).reason("ann@four.test") == "srs"


async def test_the_kernel_is_asked_once_a_minute(kernel: Kernel) -> None:
    house = House()
    for later, asked in ((0, 2), (59, 2), (61, 4), (-1000, 6)):
        house.now = NOW + later
        assert await house.reason("ann@both.test") == "unneeded"
        assert kernel.asked == asked

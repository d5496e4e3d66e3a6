"""What the lists of the configuration make of a client: weights, whitelists, names, and the words of the refusal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from pydantic import ValidationError

from relay.config.sections import ClientsSection
from relay.dns import DnsFailure, StaticResolver
from relay.dns_lists.lists import Listed, Lists
from relay.mail.envelope import Client
from tests.resolvers import RecordingResolver

CLIENT = Client("192.0.2.66", 4025, helo="mail.spam.test")
REVERSED = "66.2.0.192"
BL, BL2, WL = ({"zone": zone} for zone in ("bl.test", "bl2.test", "wl.test"))
DBL = {"zone": "dbl.test", "names": True}


async def look_up(
    records: dict[tuple[str, str], Sequence[Any] | Exception],
    client: Client = CLIENT,
    sender: str = "joe@origin.test",
    **clients: Any,
) -> Listed:
    return await Lists(ClientsSection.model_validate(clients), StaticResolver(records)).look_up(client, sender)


def lists_in(*zones: str, answer: str = "127.0.0.2") -> dict[tuple[str, str], Sequence[Any] | Exception]:
    """That these lists have the client."""
    return {(f"{REVERSED}.{zone}", "A"): [answer] for zone in zones}


async def test_the_refusal_names_the_client_the_lists_and_the_words_of_the_first() -> None:
    records = lists_in("bl.test", "bl2.test") | {(f"{REVERSED}.bl.test", "TXT"): [(b"see https://bl.test/",)]}
    listed = await look_up(records, dnsbl=[BL, BL2])
    assert listed.refusal == (
        "Service unavailable; client [192.0.2.66] blocked using bl.test, bl2.test; see https://bl.test/"
    )
    assert (listed.score, listed.zones, listed.doubt) == (2, ("bl.test", "bl2.test"), "")


@pytest.mark.parametrize(
    ("listing", "reject", "outcome"),
    [
        (["bl.test"], 1, "refused"),
        (["bl.test"], 2, "doubtful"),
        (["bl.test", "bl2.test"], 2, "refused"),
        (["bl.test", "wl.test"], 1, "neither"),
        (["bl.test", "bl2.test", "wl.test"], 2, "doubtful"),
        (["wl.test"], 1, "neither"),
        ([], 1, "neither"),
    ],
)
async def test_weights_add_up_and_whitelists_subtract(listing: list[str], reject: int, outcome: str) -> None:
    listed = await look_up(lists_in(*listing), dnsbl=[BL, BL2], dnswl=[WL], dnsbl_reject=reject)
    found = "refused" if listed.refusal else "doubtful" if listed.doubt else "neither"
    assert found == outcome
    assert not listed.doubt or listed.doubt.startswith("listed at bl.test")


async def test_a_weight_of_its_own_for_each_kind_of_answer_and_one_question() -> None:
    resolver = RecordingResolver(lists_in("bl.test", answer="127.0.0.10"))
    kinds = [{**BL, "answers": ["127.0.0.2-9"], "weight": 5}, {**BL, "answers": ["127.0.0.10-11"], "weight": 2}]
    listed = await Lists(ClientsSection.model_validate({"dnsbl": kinds}), resolver).look_up(CLIENT, "")
    assert listed.score == 2
    assert [name for name, rdtype in resolver.asked if rdtype == "A"].count(f"{REVERSED}.bl.test") == 1


@pytest.mark.parametrize(
    ("answer", "answers", "score"),
    [
        ("127.0.0.2", ["127.0.0.2-11"], 1),
        ("127.0.0.11", ["127.0.0.2-11"], 1),
        ("127.0.0.12", ["127.0.0.2-11"], 0),
        ("127.0.1.2", ["127.0.0.2-11"], 0),
        ("127.0.0.4", ["127.0.0.3", "127.0.0.4"], 1),
        ("127.0.0.5", ["127.0.0.3", "127.0.0.4"], 0),
        ("127.0.0.1", [], 0),
        ("127.0.0.1", ["127.0.0.1"], 1),
        ("127.0.1.255", [], 0),
        ("127.9.9.9", [], 1),
    ],
)
async def test_which_answers_count(answer: str, answers: list[str], score: int) -> None:
    listed = await look_up(lists_in("bl.test", answer=answer), dnsbl=[{**BL, "answers": answers}])
    assert listed.score == score


async def test_ipv6_is_asked_for_by_nibbles() -> None:
    client = Client("2001:db8::66", 4025, helo="x.test")
    records = {("6.6." + "0." * 22 + "8.b.d.0.1.0.0.2.bl.test", "A"): ["127.0.0.2"]}
    assert (await look_up(dict(records), client, dnsbl=[BL])).refusal.startswith(
        "Service unavailable; client [2001:db8::66] blocked using bl.test"
    )


@pytest.mark.parametrize(
    ("sender", "helo", "words"),
    [
        ("joe@spam.test", "mail.origin.test", "sender domain spam.test blocked using dbl.test"),
        ("joe@SPAM.test", "spam.test", "sender domain spam.test blocked using dbl.test"),
        ("", "spam.test", "HELO name spam.test blocked using dbl.test"),
        ("joe@origin.test", "Spam.Test", "HELO name spam.test blocked using dbl.test"),
        ("joe@origin.test", "mail.origin.test", ""),
        ("", "[192.0.2.66]", ""),
        ("", "192.0.2.66", ""),
    ],
)
async def test_a_list_of_names_is_asked_for_the_sender_and_helo(sender: str, helo: str, words: str) -> None:
    records = {("spam.test.dbl.test", "A"): ["127.0.1.2"], (f"{REVERSED}.dbl.test", "A"): ["127.0.1.2"]}
    listed = await look_up(dict(records), CLIENT._replace(helo=helo), sender, dnsbl=[DBL])
    assert words in listed.refusal and bool(listed.refusal) is bool(words)
    assert listed.score == bool(words), "a list counts once"


async def test_a_name_and_an_address_add_up() -> None:
    records = lists_in("bl.test") | {("spam.test.dbl.test", "A"): ["127.0.1.2"]}
    assert (await look_up(records, sender="x@spam.test", dnsbl=[BL, DBL], dnsbl_reject=2)).refusal


async def test_the_address_of_a_proxy_is_not_looked_up() -> None:
    resolver = RecordingResolver(lists_in("bl.test"))
    lists = Lists(ClientsSection.model_validate({"dnsbl": [BL, DBL]}), resolver)
    assert (await lists.look_up(CLIENT._replace(known=False), "joe@origin.test")).score == 0
    assert not [name for name, _ in resolver.asked if name.endswith(".bl.test")]


async def test_a_list_with_a_fault_takes_nothing_from_the_others() -> None:
    records = lists_in("bl.test", "bl2.test") | {("1.0.0.127.bl.test", "A"): ["127.0.0.2"]}
    listed = await look_up(records, dnsbl=[BL, BL2])
    assert listed.zones == ("bl2.test",) and listed.refusal


@pytest.mark.parametrize("weight", [1, 2])
async def test_what_a_whitelist_with_a_fault_might_have_spared_comes_again(weight: int) -> None:
    records = lists_in("bl.test") | {(f"{REVERSED}.wl.test", "A"): DnsFailure("timeout")}
    listed = await look_up(records, dnsbl=[BL], dnswl=[{**WL, "weight": weight}])
    assert listed.refusal and listed.may_change
    heavy = await look_up(records, dnsbl=[{**BL, "weight": 3}], dnswl=[{**WL, "weight": weight}])
    assert heavy.refusal and not heavy.may_change


@pytest.mark.parametrize(
    ("clients", "words"),
    [
        ({"dnsbl": [{**BL, "answers": ["127.0.0.11-2"]}]}, "ends before it begins"),
        ({"dnsbl": [{**BL, "answers": ["127.0.0.2-256"]}]}, "an answer is written like"),
        ({"dnsbl": [{**BL, "answers": ["127.0.0.*"]}]}, "an answer is written like"),
        ({"dnsbl": [{**BL, "answers": ["127.0.0.2-127.0.0.11"]}]}, "an answer is written like"),
        ({"dnsbl": [{**BL, "answers": [2]}]}, "an answer is written like"),
        ({"dnsbl": [{**BL, "answers": ["10.0.0.2"]}]}, "begin with 127"),
        ({"dnsbl": [{**BL, "answers": ["127.255.255.254"]}]}, "refuses to answer"),
        ({"dnsbl": [{**BL, "weight": 0}]}, "greater than or equal to 1"),
        ({"dnsbl": [{"zone": "bl test"}]}, "not a domain name"),
        ({"dnsbl": [{"weight": 1}]}, "required"),
        ({"dnswl": [{**WL, "names": True}]}, "names is for dnsbl only"),
        ({"dnsbl_reject": 0}, "greater than or equal to 1"),
        ({"greeting_delay": "31s"}, "less than or equal to 30"),
    ],
)
def test_what_is_no_configuration(clients: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        ClientsSection.model_validate(clients)

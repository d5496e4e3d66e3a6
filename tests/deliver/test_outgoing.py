"""The message as it leaves: From as the route wants it, signatures, seal, and the size that is announced."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from relay.authenticate.arc import verify as verify_arc
from relay.authenticate.dkim import verify as verify_dkim
from relay.config.model import Config
from relay.deliver.outgoing import OutgoingMessage, OutgoingMessages
from relay.mail.message import Message
from relay.queue.store import Delivery, StoredMessage
from relay.queue.stored_verdict import OWN_MESSAGE, NextSeal, StoredVerdict
from relay.rewrite.from_decision import FromDecisions
from relay.sign import keys
from relay.sign.keys import SigningKey
from relay.sign.signer import Signatures, Signer, Unsigned
from relay.sign.signing_table import AUTHORS_DOMAIN, SigningTable, forwarder_keys, rules_of
from relay.srs.address import Scheme
from relay.srs.reply_address import UNKNOWN
from tests.authenticate.sealing import sealed
from tests.authenticate.signing import resolver
from tests.corpus import ED25519_PEM, RSA_PEM

NOW = 1_790_000_000.0
RSA = SigningKey("fwd.test", "r1", keys.parse(RSA_PEM))
ED25519 = SigningKey("fwd.test", "e1", keys.parse(ED25519_PEM))
LONG = SigningKey(".".join(["label" * 10] * 4), "s" * 60, keys.parse(RSA_PEM))
RECORDS = {key.record_name: key.public_record() for key in (RSA, ED25519)}
FROM = b"From: Ann Author <ann@author.test>\r\n"
CONTENT = FROM + b"To: alice@fwd.test\r\nSubject: hello\r\n\r\nHi.\r\n"
RESULTS = b"Authentication-Results: mx.fwd.test;\r\n\tspf=pass (a comment) smtp.mailfrom=author.test\r\n"
TRACE = RESULTS + b"Received: from x (y [192.0.2.1])\r\n\tby mx.fwd.test with ESMTP id 1\r\n"
SEAL = NextSeal("none", 1)


class CountingSigner(Signer):
    """Counts how often it signs."""

    signed = 0

    def signatures(self, unsigned: Unsigned, now: float) -> Signatures:
        self.signed += 1
        return super().signatures(unsigned, now)


class House:
    def __init__(self, *signing: SigningKey, **tables: Any) -> None:
        route = {"next_hop": "smtp://10.0.0.1", "recipients": "any"}
        config = Config.model_validate(
            {
                "hostname": "mx.fwd.test",
                "listen": [{"address": "127.0.0.1:0"}],
                "srs": {"domain": "fwd.test", "secrets_file": "/dev/null"},
                "routes": {"domains": {"trusts-us.test": {**route, "unforwardable": "pass"}}},
                **tables,
            }
        )
        self.kept: list[str] = []
        self.signer = CountingSigner(SigningTable((), forwarder_keys(signing, "fwd.test")))
        self.messages = OutgoingMessages(
            config,
            FromDecisions(config, lambda domain: False),
            self.signer,
            Scheme("fwd.test", (b"secret",)),
            self.keep,
            clock=lambda: NOW,
        )

    async def keep(self, author: str, token: str) -> str:
        self.kept.append(author)
        return token


def stored(
    content: bytes = CONTENT, trace: bytes = TRACE, verdict: StoredVerdict | None = None, **verdict_keys: Any
) -> StoredMessage:
    return StoredMessage(
        1, NOW, "ann@author.test", trace, Message(content), verdict or StoredVerdict(spf="pass", **verdict_keys)
    )


async def leaves(outgoing: OutgoingMessage) -> bytes:
    return b"".join(await outgoing.wire())


async def as_it_leaves(house: House, message: StoredMessage, *, rewrite_from: bool = False) -> Message:
    return Message(await leaves(await house.messages.prepare(message, rewrite_from=rewrite_from)))


def names(message: Message) -> list[str]:
    return [field.name for field in message.fields]


# From


@pytest.mark.parametrize(
    ("unforwardable", "recipient", "rewrites"),
    [
        (True, "carol@d.test", True),
        (False, "carol@d.test", False),
        (True, "carol@trusts-us.test", False),
    ],
)
def test_from_is_rewritten_where_the_message_needs_it_and_the_route_wants_it(
    unforwardable: bool, recipient: str, rewrites: bool
) -> None:
    message = stored(unforwardable=unforwardable)
    assert House().messages.rewrites_from(message, Delivery(1, 0, recipient, recipient)) is rewrites


async def test_a_message_that_is_not_rewritten_leaves_as_it_came_below_our_fields() -> None:
    house = House()
    outgoing = await house.messages.prepare(stored(), rewrite_from=False)
    assert await leaves(outgoing) == TRACE + CONTENT
    assert outgoing.octets == len(TRACE + CONTENT)
    assert house.kept == []


async def test_a_proven_author_gets_a_reply_address_and_keeps_the_name() -> None:
    message = await as_it_leaves(House(), stored(authors=("author.test",)), rewrite_from=True)
    (from_field,) = message.all("from")
    assert from_field.value.startswith(b'"Ann Author via fwd.test" <') and b"@fwd.test>" in from_field.value
    assert UNKNOWN.encode() not in from_field.value and b"author.test>" not in from_field.value
    (original,) = message.all("x-original-from")
    assert original.value == b"Ann Author <ann@author.test>"


async def test_nobody_is_reached_at_the_address_of_an_author_who_is_not_proven() -> None:
    message = await as_it_leaves(House(), stored(authors=("else.test",)), rewrite_from=True)
    (from_field,) = message.all("from")
    assert f"<{UNKNOWN}@fwd.test>".encode() in from_field.value


async def test_an_author_who_does_not_fit_into_a_reply_address_is_stored() -> None:
    house, author = House(), "a" * 60 + "@author.test"
    content = CONTENT.replace(b"ann@author.test", author.encode())
    await as_it_leaves(house, stored(content, authors=("author.test",)), rewrite_from=True)
    assert house.kept == [author]


async def test_what_is_signed_is_the_message_with_the_new_from() -> None:
    message = await as_it_leaves(House(RSA), stored(authors=("author.test",)), rewrite_from=True)
    (signature,) = await verify_dkim(message, resolver(RECORDS), NOW)
    assert (signature.result, signature.domain) == ("pass", "fwd.test")


# signatures


async def test_signatures_stand_on_top_and_are_good() -> None:
    message = await as_it_leaves(House(RSA, ED25519), stored())
    assert names(message)[:3] == ["dkim-signature", "dkim-signature", "authentication-results"]
    assert [s.result for s in await verify_dkim(message, resolver(RECORDS), NOW)] == ["pass", "pass"]


async def test_signatures_are_made_once_for_several_batches_and_not_before_they_are_needed() -> None:
    house = House(RSA)
    outgoing = await house.messages.prepare(stored(), rewrite_from=False)
    assert house.signer.signed == 0
    first, second = await asyncio.gather(leaves(outgoing), leaves(outgoing))
    third = await leaves(outgoing)
    assert first == second == third and house.signer.signed == 1


async def test_batches_that_wait_for_another_messages_turn_share_their_signatures_too() -> None:
    house = House(RSA)
    before, outgoing = [await house.messages.prepare(stored(), rewrite_from=False) for _ in range(2)]
    _, first, second = await asyncio.gather(leaves(before), leaves(outgoing), leaves(outgoing))
    assert first == second and house.signer.signed == 2


async def test_one_message_signs_in_each_turn_of_the_loop() -> None:
    house, signed_by_turn = House(RSA), list[int]()
    waiting = [await house.messages.prepare(stored(), rewrite_from=False) for _ in range(10)]

    async def watch() -> None:
        while True:
            signed_by_turn.append(house.signer.signed)
            await asyncio.sleep(0)

    watching = asyncio.create_task(watch())
    await asyncio.gather(*map(leaves, waiting))
    watching.cancel()
    assert house.signer.signed == 10
    assert all(later - earlier <= 1 for earlier, later in itertools.pairwise(signed_by_turn))


async def test_the_turn_goes_on_where_a_message_cannot_be_signed() -> None:
    house = House(RSA)
    broken, whole = [await house.messages.prepare(stored(), rewrite_from=False) for _ in range(2)]
    broken._make = lambda: 1 // 0  # type: ignore[assignment,return-value]
    results = await asyncio.gather(leaves(broken), leaves(whole), return_exceptions=True)
    assert isinstance(results[0], ZeroDivisionError) and isinstance(results[1], bytes)


async def test_an_own_message_is_signed_as_ours() -> None:
    content = b"From: Mail Delivery System <MAILER-DAEMON@fwd.test>\r\nSubject: bounce\r\n\r\nHi.\r\n"
    ours = await as_it_leaves(House(RSA), stored(content, b"", OWN_MESSAGE))
    others = await as_it_leaves(House(RSA), stored(content, b""))
    (signature,), (of_others,) = ours.all("dkim-signature"), others.all("dkim-signature")
    assert len(signature.value) > len(of_others.value)  # it covers the fields that nobody may add, too
    assert [s.result for s in await verify_dkim(ours, resolver(RECORDS), NOW)] == ["pass"]


@pytest.mark.parametrize(
    ("verdict", "selector"),
    [
        (StoredVerdict(spf="pass", authors=("author.test",)), "brand"),
        (StoredVerdict(trusted=True), "brand"),
        (StoredVerdict(spf="pass"), "r1"),
    ],
)
async def test_a_key_for_whatever_domain_the_author_has_signs_for_proven_authors_only(
    verdict: StoredVerdict, selector: str
) -> None:
    house = House(RSA)
    anybodys = SigningKey(AUTHORS_DOMAIN, "brand", keys.parse(ED25519_PEM))
    house.signer.table = SigningTable(rules_of([(anybodys, ("*",))]), forwarder_keys([RSA], "fwd.test"))
    message = await as_it_leaves(house, stored(verdict=verdict))
    (signature,) = message.all("dkim-signature")
    assert f"s={selector};".encode() in signature.value


# seal


async def test_a_seal_stands_above_our_signature_and_repeats_our_results() -> None:
    message = await as_it_leaves(House(RSA), stored(seal=SEAL))
    assert names(message)[:5] == [
        "arc-seal",
        "arc-message-signature",
        "arc-authentication-results",
        "dkim-signature",
        "authentication-results",
    ]
    chain = await verify_arc(message, resolver(RECORDS), NOW)
    assert (chain.result, chain.sets[0].instance, chain.sets[0].domain) == ("pass", 1, "fwd.test")
    (testimony,) = message.all("arc-authentication-results")
    assert b"spf=pass" in testimony.value and b"a comment" not in testimony.value
    (signature,) = message.all("arc-message-signature")
    assert b"dkim-signature" in signature.value  # ours, which stands above it


async def test_comments_are_sealed_where_the_configuration_wants_them() -> None:
    message = await as_it_leaves(House(RSA, arc={"comments": True}), stored(seal=SEAL))
    (testimony,) = message.all("arc-authentication-results")
    assert b"(a comment)" in testimony.value


async def test_a_chain_is_extended_by_the_set_that_the_verdict_says() -> None:
    before = sealed(CONTENT, key=RSA)
    message = await as_it_leaves(House(RSA), stored(before, seal=NextSeal("pass", 2)))
    chain = await verify_arc(message, resolver(RECORDS), NOW)
    assert chain.result == "pass" and [link.instance for link in chain.sets] == [2, 1]


@pytest.mark.parametrize(
    ("house", "message"),
    [
        (House(RSA), stored(seal=None)),
        (House(RSA, arc={"seal": False}), stored(seal=SEAL)),
        (House(ED25519), stored(seal=SEAL)),
        (House(), stored(seal=SEAL)),
        (House(RSA), stored(trace=b"Received: x\r\n", seal=SEAL)),
    ],
)
async def test_no_seal_without_leave_wish_key_and_results(house: House, message: StoredMessage) -> None:
    outgoing = await house.messages.prepare(message, rewrite_from=False)
    leaving = await leaves(outgoing)
    assert b"ARC-Seal" not in leaving
    assert len(leaving) <= outgoing.octets < len(leaving) + 1000


@pytest.mark.parametrize(
    ("seal", "useful", "rewrite_from", "sealed"),
    [
        (True, False, False, True),
        ("useful", True, False, True),
        ("useful", False, False, False),
        ("useful", False, True, True),
        (False, True, True, False),
    ],
)
async def test_a_useful_seal_is_made_where_it_tells_something_or_from_is_rewritten(
    seal: object, useful: bool, rewrite_from: bool, sealed: bool
) -> None:
    house = House(RSA, arc={"seal": seal})
    message = stored(seal=NextSeal("none", 1, useful), authors=("author.test",))
    outgoing = await house.messages.prepare(message, rewrite_from=rewrite_from)
    leaving = await leaves(outgoing)
    assert (b"ARC-Seal" in leaving) is sealed
    assert len(leaving) <= outgoing.octets < len(leaving) + 6000
    assert sealed or outgoing.octets < len(leaving) + 2000  # the size has no room for a seal that is not made


async def test_a_trusted_clients_results_are_sealed_in_the_place_of_ours() -> None:
    content = (
        b"Authentication-Results: mx.inner.test; spf=pass smtp.mailfrom=author.test\r\n"
        b"Received: from out (out [192.0.2.9]) by mx.inner.test\r\n" + CONTENT
    )
    verdict = StoredVerdict(trusted=True, seal=SEAL)
    house = House(RSA, clients={"authserv_ids": ["mx.inner.test"]})
    message = await as_it_leaves(house, stored(content, b"Received: x\r\n", verdict))
    (testimony,) = message.all("arc-authentication-results")
    assert b"mx.inner.test" in testimony.value and b"spf=pass" in testimony.value


async def test_our_own_results_go_before_those_of_another_mta() -> None:
    content = b"Authentication-Results: mx.inner.test; spf=fail\r\n" + CONTENT
    house = House(RSA, clients={"authserv_ids": ["mx.inner.test"]})
    message = await as_it_leaves(house, stored(content, seal=SEAL))
    (testimony,) = message.all("arc-authentication-results")
    assert b"mx.fwd.test" in testimony.value and b"mx.inner.test" not in testimony.value


# size


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    results=st.text(st.sampled_from("ab (;=.-"), max_size=300),
    subjects=st.integers(0, 40),
    rewrite_from=st.booleans(),
    signing=st.sampled_from([(), (RSA,), (ED25519,), (RSA, ED25519)]),
    comments=st.booleans(),
    own=st.booleans(),
)
async def test_the_size_that_is_announced_is_never_below_what_leaves(
    results: str, subjects: int, rewrite_from: bool, signing: tuple[SigningKey, ...], comments: bool, own: bool
) -> None:
    house = House(*signing, arc={"comments": comments})
    trace = f"Authentication-Results: mx.fwd.test; {results}\r\n".encode()
    content = FROM + b"Subject: x\r\n" * subjects + b"\r\nHi.\r\n"
    verdict = OWN_MESSAGE if own else StoredVerdict(spf="pass", authors=("author.test",), seal=SEAL)
    outgoing = await house.messages.prepare(stored(content, trace, verdict), rewrite_from=rewrite_from)
    announced = outgoing.octets
    leaving = len(await leaves(outgoing))
    assert leaving <= announced < leaving + 6000


@pytest.mark.parametrize(
    "message",
    [
        stored(FROM + b"Content-A: x\r\nList-B: x\r\n" * 500 + b"\r\n", seal=SEAL),
        stored(FROM + b"\r\n", seal=SEAL),
        stored(FROM + b"\r\n", b"Authentication-Results: mx.fwd.test; " + b"x=fail (" * 900 + b"\r\n", seal=SEAL),
        stored(FROM + b"\r\n", b"", OWN_MESSAGE),
        stored(FROM + b"\r\n", seal=SEAL, authors=("author.test",)),
    ],
)
@pytest.mark.parametrize("rewrite_from", [False, True])
async def test_the_size_has_room_for_long_names_and_long_results(message: StoredMessage, rewrite_from: bool) -> None:
    house = House(LONG, arc={"comments": True})
    outgoing = await house.messages.prepare(message, rewrite_from=rewrite_from)
    leaving = await leaves(outgoing)
    assert b"DKIM-Signature" in leaving and (b"ARC-Seal" in leaving) is (message.verdict.seal is not None)
    assert len(leaving) <= outgoing.octets


# memory


async def test_a_message_that_was_sent_holds_no_memory() -> None:
    outgoing = await House(RSA).messages.prepare(stored(), rewrite_from=False)
    await leaves(outgoing)
    outgoing.free()
    assert outgoing.message.content == b""


async def test_a_message_that_is_freed_before_its_signatures_are_made_signs_nothing() -> None:
    house = House(RSA)
    outgoing = await house.messages.prepare(stored(), rewrite_from=False)
    outgoing.free()
    assert await outgoing.on_top() == TRACE
    assert house.signer.signed == 0

"""The stages of a worker: handed to each other by the configuration, and the same for `serve` and `explain`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from relay.bounce.notifier import Happening
from relay.cli.dry_run import dry_run
from relay.mail.message import Message
from relay.mail.queue_id import given_at
from relay.metrics import Metrics
from relay.process.stages import build_relay, build_stages
from relay.queue.connect import connect
from relay.queue.store import Delivery, Store, StoredMessage
from relay.queue.stored_verdict import StoredVerdict
from relay.rate import Rates
from relay.route.router import Target
from relay.sign.keys import generate
from tests.intake.arriving import CLIENT, FORGER, INNER, JOE, MESSAGE, House
from tests.resolvers import RecordingResolver


@pytest.mark.parametrize(
    ("client", "recipients"),
    [
        (CLIENT, ["alice@fwd.test"]),
        (CLIENT, ["alice@fwd.test", "nobody@fwd.test", "team@fwd.test"]),
        (CLIENT, ["alice@fwd.test", "strict@fwd.test"]),
        (CLIENT, ["strict@fwd.test"]),
        (FORGER, ["alice@fwd.test"]),
        (INNER, ["anyone@d.test", "strict@fwd.test"]),
    ],
)
async def test_other_ends_see_the_same_replies_and_the_same_message(
    tmp_path: Path, client: Any, recipients: list[str]
) -> None:
    """`explain` hands the stages other ends than `serve`: what they decide does not depend on it."""
    house = House(tmp_path)
    replies = []
    with house.session(client) as session:
        replies.append(await session.mail(JOE))
        replies += [await session.rcpt(recipient) for recipient in recipients]
        if session.transaction.recipients:
            replies.append(await session.data(MESSAGE))
    result = await dry_run(
        house.config,
        house.resolver,
        Message(MESSAGE),
        ip=client.ip,
        helo=client.helo,
        sender=JOE,
        recipients=recipients,
        next_hop_view=False,
    )
    shown = [step.reply for step in result.steps]
    assert [_without_id(reply) for reply in shown] == [_without_id(reply) for reply in replies]
    assert result.accepted is bool(house.queue.put_in)
    assert (result.verdict is not None) is any(step.command == "DATA" for step in result.steps)
    if house.queue.put_in:
        assert [(way.recipient, way.original, way.hop) for way in result.ways] == [
            (delivery.recipient, delivery.original, delivery.hop) for delivery in house.queue.deliveries
        ]
        (way, *_) = result.ways
        stages, (delivery, *_) = house.stages, house.queue.deliveries
        rewrites_from = stages.messages.rewrites_from(house.queue.stored, delivery)
        outgoing = await stages.messages.prepare(house.queue.stored, rewrite_from=rewrites_from)
        assert way.from_rewritten is rewrites_from and way.message.content == outgoing.message.content


def _without_id(reply: str) -> str:
    head, queued, _ = reply.partition("queued as ")
    return head + queued


def test_the_configurations_patience_is_that_of_the_stages(tmp_path: Path) -> None:
    queue = {"retry_min": "2m", "retry_max": "3h", "retry_for": "1d", "bounce_retry_for": "2h"}
    patience = House(tmp_path, queue=queue).stages.patience
    assert (patience.first, patience.longest) == (120, 10800)
    assert (patience.retry_for, patience.bounce_retry_for) == (86400, 7200)


async def test_our_own_notifications_are_at_a_domain_that_we_sign_for(tmp_path: Path) -> None:
    (tmp_path / "key.pem").write_bytes(generate("ed25519"))
    key = {"domain": "brand.test", "selector": "s", "private_key": "key.pem"}
    stages = House(tmp_path, dkim=[key]).stages
    assert stages.messages is not None and stages.notifier._from_domain == "brand.test"
    assert House(tmp_path).stages.notifier._from_domain == "fwd.test"


async def test_nobody_else_writes_in_the_name_of_a_domain_that_we_sign_for(tmp_path: Path) -> None:
    (tmp_path / "key.pem").write_bytes(generate("ed25519"))
    tables = tmp_path / "opendkim"
    tables.mkdir()
    (tables / "KeyTable").write_text(f"k brand.test:s:{tmp_path}/key.pem\n")
    (tables / "SigningTable").write_text("brand.test k\n")
    content = MESSAGE.replace(b"joe@origin.test", b"ceo@brand.test")
    mail: dict[str, Any] = {"sender": "eve@open.test", "client": FORGER, "content": content}
    reply = await House(tmp_path, signing={"opendkim": "opendkim"}).send("alice@fwd.test", **mail)
    assert reply.startswith("550 5.7.1 192.0.2.66 may not send mail from brand.test, a domain of ours")
    assert (await House(tmp_path).send("alice@fwd.test", **mail)).startswith("250 ")


@pytest.mark.parametrize(("to", "told"), [("all", True), ("verified", False)])
def test_who_is_told_of_failures_is_for_the_configuration_to_say(tmp_path: Path, to: str, told: bool) -> None:
    stages = House(tmp_path, bounces={"to": to}).stages
    verdict = StoredVerdict(spf="fail")
    stored = StoredMessage(stages.ids.new(), time.time(), JOE, b"", Message(MESSAGE), verdict)
    failed = Happening(Delivery(stored.id, 0, "carol@d.test", "carol@d.test"), 550, "5.1.1")
    notice = stages.notifier.notice("failed", stored, [failed], (Target(JOE),), time.time())
    assert (notice.report is not None) is told


async def test_what_we_sign_in_the_authors_name_is_not_rewritten(tmp_path: Path) -> None:
    (tmp_path / "key.pem").write_bytes(generate("ed25519"))
    key = {"domain": "origin.test", "selector": "s", "private_key": "key.pem"}
    house = House(tmp_path, dkim=[key])
    assert (await house.send("alice@fwd.test")).startswith("250 ")
    assert not house.queue.stored.verdict.unforwardable


async def test_the_tokens_of_stages_are_those_that_they_were_handed(tmp_path: Path) -> None:
    house = House(tmp_path)
    sender = "j" * 60 + "@origin.test"
    assert (await house.send("alice@fwd.test", sender=sender)).startswith("250 ")
    (delivery,) = house.queue.deliveries
    decision = await house.stages.senders.decide(house.queue.stored, delivery, smtputf8=True)
    address = await house.stages.senders.address(decision)
    assert list(house.tokens.stored.values()) == [sender]
    assert await house.stages.recipients.targets_of_sender(address) != ()


async def test_an_address_literal_of_our_name_is_ours(tmp_path: Path) -> None:
    zone: dict[tuple[str, str], Any] = {("mx.fwd.test", "A"): ["192.0.2.25"], ("mx.fwd.test", "AAAA"): ["2001:db8::25"]}
    house = House(tmp_path, zone=zone, aliases="postmaster@mx.fwd.test carol@mailbox.test\n")
    for literal in ("[192.0.2.25]", "[IPv6:2001:db8::25]"):
        assert (await house.send(f"postmaster@{literal}")).startswith("250 ")
    assert (await house.send("postmaster@[192.0.2.26]")).startswith("550 ")


def test_ids_are_of_now(tmp_path: Path) -> None:
    assert abs(given_at(House(tmp_path).stages.ids.new()) - time.time()) < 60


async def test_around_a_queue_the_stages_are_a_relay(tmp_path: Path) -> None:
    house = House(tmp_path)
    store = Store(await connect(f"sqlite:///{tmp_path}/queue.db"), "worker/1/")
    try:
        stages = build_stages(
            house.config, store, RecordingResolver({}), Metrics(), house.files, Rates(house.config.srs)
        )
        relay = build_relay(stages, store)
        assert await relay.space.enough()
        assert relay.stages is stages and relay.intake.config is house.config
    finally:
        await store.close()

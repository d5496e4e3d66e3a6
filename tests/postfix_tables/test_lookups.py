"""What the tables answer: as PostSRSd, as the relay itself, and never an error for an address that is merely wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from relay.config.model import Config
from relay.mail.address import LOCAL_PART_OCTETS, split
from relay.metrics import Metrics
from relay.postfix_tables.lookups import Lookups, Tokens
from relay.postfix_tables.request import Answer, Map, Request
from relay.queue.database import QueueUnavailable
from relay.rate import Rates
from relay.srs import reply_address
from relay.srs.address import Scheme, forward

NOW = 1577836860.0  # 2020-01-01 00:01:00 UTC
SECRETS = (b"tops3cr3t",)
SCHEME = Scheme("example.com", SECRETS)


class Store:
    """Stored senders in memory."""

    def __init__(self) -> None:
        self.senders: dict[str, str] = {}
        self.away = False

    async def token_for(self, sender: str, now: float, lifetime: float) -> str:
        self._there()
        self.senders["abc"] = sender
        return "abc"

    async def sender_of(self, token: str, now: float) -> str | None:
        self._there()
        return self.senders.get(token)

    def _there(self) -> None:
        if self.away:
            raise QueueUnavailable("the disk of db.internal is gone")


class Asked:
    """Lookups, with their metrics."""

    def __init__(self, tokens: Tokens | None = None, now: float = NOW, scheme: Scheme = SCHEME, **srs: Any) -> None:
        config = Config.model_validate(
            {
                "hostname": "mx.example.com",
                "tables": [{"address": "127.0.0.1:10003"}],
                "srs": {"domain": "example.com", "secrets_file": "srs.secret", **srs},
                "senders": {"local_domains": ["local.example"]},
            },
            context={"base": Path()},
        )
        self.metrics = Metrics()
        self._lookups = Lookups(config, scheme, Rates(config.srs), self.metrics, tokens, lambda: now)

    async def ask(self, name: Map, key: str | bytes) -> Answer:
        return await self._lookups.answer(Request(name, key if isinstance(key, bytes) else key.encode()))

    async def forward(self, key: str | bytes) -> str:
        return (await self.ask("forward", key)).address

    async def reverse(self, key: str | bytes) -> str:
        return (await self.ask("reverse", key)).address


@pytest.mark.parametrize(
    ("sender", "address"),
    [
        ("test@otherdomain.com", "SRS0=vmyz=2W=otherdomain.com=test@example.com"),
        ("Test@OtherDomain.COM", "SRS0=vmyz=2W=OtherDomain.COM=Test@example.com"),
        ("o'brien@otherdomain.com", "SRS0=K6a4=2W=otherdomain.com=o'brien@example.com"),
        ("jörg@otherdomain.com", "SRS0=iSI7=2W=otherdomain.com=jörg@example.com"),
        ("SRS0=opaque+string@otherdomain.com", "SRS1=chaI=otherdomain.com==opaque+string@example.com"),
        (
            "SRS1=X=thirddomain.com==opaque+string@otherdomain.com",
            "SRS1=JIBX=thirddomain.com==opaque+string@example.com",
        ),
    ],
)
async def test_a_foreign_sender_gets_the_address_of_postsrsd(sender: str, address: str) -> None:
    assert await Asked().forward(sender) == address


@pytest.mark.parametrize(
    "sender",
    [
        "",
        "foo",
        "@",
        "foo@",
        "@otherdomain.com",
        '""',
        "joe@example.com",
        "joe@Example.COM",
        "joe@local.example",
        "joe@LOCAL.example.",
        "SRS0=XjO9=2V=otherdomain.com=test@example.com",
        "reply=abcdefghij=otherdomain.com=test@example.com",
        "a@b@otherdomain.com",
        "joe@other domain.com",
        "joe@otherdomain.com\r\nRCPT TO:<eve@evil.example>",
        b"\xff@otherdomain.com",
        b"j\0e@otherdomain.com",
        b"a" * 4096,
        b"joe@" + b"a." * 300 + b"com",
    ],
)
async def test_what_needs_no_rewriting_or_is_no_address_is_not_found(sender: str | bytes) -> None:
    asked = Asked()
    answer = await asked.ask("forward", sender)
    assert (answer.result, answer.address) == ("notfound", "")
    assert b'srs_relay_table_lookups_total{map="forward",result="notfound"} 1.0' in asked.metrics.render()


async def test_a_local_part_with_spaces_may_come_without_its_quotes() -> None:
    asked = Asked()
    quoted = await asked.forward('"joe x"@otherdomain.com')
    assert quoted == await asked.forward("joe x@otherdomain.com") == forward('"joe x"@otherdomain.com', SCHEME, NOW)
    assert await asked.reverse(quoted) == '"joe x"@otherdomain.com'


# long senders

LONG = "j" * 50 + "@otherdomain.com"


async def test_without_a_queue_a_long_sender_stays_and_is_logged() -> None:
    with capture_logs() as lines:
        answer = await Asked().ask("forward", LONG)
    assert (answer.result, answer.address) == ("too-long", "")
    [line] = lines
    assert (line["event"], line["log_level"], line["key"], line["result"]) == ("table_lookup", "info", LONG, "too-long")


async def test_with_a_queue_a_long_sender_is_stored_and_found_again() -> None:
    asked = Asked(Store())
    address = await asked.forward(LONG)
    assert len(split(address).local) <= LOCAL_PART_OCTETS and "==abc@" in address
    assert await asked.reverse(address) == await asked.reverse(address.lower()) == LONG


async def test_a_stored_sender_that_is_gone_is_not_found() -> None:
    store = Store()
    address = await Asked(store).forward(LONG)
    store.senders.clear()
    assert (await Asked(store).ask("reverse", address)).result == "expired"
    assert (await Asked().ask("reverse", address)).result == "expired"


async def test_while_the_queue_is_away_postfix_asks_again_later() -> None:
    store = Store()
    asked = Asked(store)
    address = await asked.forward(LONG)
    store.away = True
    for answer in (await asked.ask("forward", LONG), await asked.ask("reverse", address)):
        assert (answer.result, answer.problem) == ("unavailable", "the queue does not answer")
    assert await asked.forward("test@otherdomain.com"), "most lookups do not need it"


async def test_an_error_of_ours_is_logged_and_asked_again_later(monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store()
    monkeypatch.setattr(store, "token_for", None)
    with capture_logs() as lines:
        answer = await Asked(store).ask("forward", LONG)
    assert answer.result == "unavailable"
    assert lines[0]["event"] == "table_lookup_failed" and lines[0]["exc_info"]


# back


@pytest.mark.parametrize(
    ("address", "sender"),
    [
        ("SRS0=XjO9=2V=otherdomain.com=test@example.com", "test@otherdomain.com"),
        ("srs0=xjo9=2v=otherdomain.com=test@example.com", "test@otherdomain.com"),
        ("SRS0=XJO9=2V=OTHERDOMAIN.COM=TEST@EXAMPLE.COM", "TEST@OTHERDOMAIN.COM"),
        ("SRS0=-3_5=2W=somedomain.com=hash234@example.com", "hash234@somedomain.com"),
        ("SRS0=+3/5=2W=somedomain.com=hash234@example.com", "hash234@somedomain.com"),
        ("SRS1=JIBX=thirddomain.com==opaque+string@example.com", "SRS0=opaque+string@thirddomain.com"),
        ("SRS0=XjO9=2V=otherdomain.com=test@before.example", "test@otherdomain.com"),
    ],
)
async def test_an_srs_address_of_ours_leads_back(address: str, sender: str) -> None:
    assert await Asked().reverse(address) == sender


@pytest.mark.parametrize(
    ("address", "result"),
    [
        ("SRS0=FAKE=2V=otherdomain.com=test@example.com", "forged"),
        ("SRS1=FAKE=thirddomain.com==opaque+string@example.com", "forged"),
        ("reply=abcdefghij=otherdomain.com=test@example.com", "forged"),
        ("SRS0=te87=T7=otherdomain.com=test@example.com", "expired"),
        ("SRS0=VcIb=7N=otherdomain.com=test@example.com", "expired"),
        ("SRS0=bxzH=2W=1=DCJGDE6N24LCRT41A4T0G1UIF0DTKKQJ@example.com", "expired"),
        ("SRS0=@example.com", "malformed"),
        ("SRS0=XjO9@example.com", "malformed"),
        ("SRS0=XjO9=2V@example.com", "malformed"),
        ("SRS0=XjO9=2V=otherdomain.com@example.com", "malformed"),
        ("SRS1=XjO9=otherdomain.com@example.com", "malformed"),
        ("reply=x@example.com", "malformed"),
    ],
)
async def test_a_bad_address_of_ours_is_logged_with_its_reason(address: str, result: str) -> None:
    asked = Asked()
    with capture_logs() as lines:
        answer = await asked.ask("reverse", address)
    assert (answer.result, answer.address) == (result, "") and answer.problem
    assert [(line["event"], line["log_level"], line["key"]) for line in lines] == [("table_lookup", "info", address)]
    assert f'map="reverse",result="{result}"}} 1.0'.encode() in asked.metrics.render()


@pytest.mark.parametrize(
    "address",
    [
        "joe@example.com",
        "SRS0@example.com",
        "srs0.joe@example.com",
        "SRS2=a=b=c=d@example.com",
        "replyto@example.com",
        "SRS0=FAKE=2V=otherdomain.com=test@another.example",
        "SRS0=te87=T7=otherdomain.com=test@another.example",
        "SRS0=x@another.example",
        "",
        "@",
        b"SRS0=\xff@example.com",
    ],
)
async def test_any_other_recipient_is_not_found_and_said_at_level_debug_only(address: str | bytes) -> None:
    with capture_logs() as lines:
        assert (await Asked().ask("reverse", address)).result == "notfound"
    assert {line["log_level"] for line in lines} <= {"debug"}


async def test_an_srs1_over_an_srs0_of_ours_leads_to_the_sender() -> None:
    ours = forward("joe@otherdomain.com", SCHEME, NOW)
    around = forward(ours.replace("example.com", "Example.COM"), Scheme("next.example", SECRETS), NOW)
    assert await Asked().reverse(around.replace("@next.example", "@example.com")) == "joe@otherdomain.com"


async def test_a_reply_address_leads_to_the_author() -> None:
    address = reply_address.forward("news@shop.example", SCHEME)
    assert isinstance(address, str)
    assert await Asked().reverse(address) == "news@shop.example"
    assert (await Asked().reverse(address.upper())).lower() == "news@shop.example"


# any key


@given(st.sampled_from(["forward", "reverse"]), st.binary(max_size=300))
async def test_any_octets_get_an_answer(name: Map, key: bytes) -> None:
    answer = await Asked(Store()).ask(name, key)
    assert (answer.result == "ok") == bool(answer.address)
    assert answer.result != "unavailable"


@given(st.text(max_size=80), st.sampled_from(["origin.example", "Ünï.example", "[192.0.2.1]", "example.com", ""]))
async def test_what_goes_there_comes_back(local: str, domain: str) -> None:
    asked = Asked(Store())
    answer = await asked.ask("forward", f"{local}@{domain}".encode(errors="replace"))
    if answer.result == "ok":
        assert split(answer.address).domain == "example.com"
        back = await asked.reverse(answer.address)
        assert back and (await asked.forward(back) == answer.address)


@given(st.sampled_from(["SRS0=", "SRS1=", "srs0+", "reply="]), st.text(max_size=60))
async def test_nobody_finds_an_address_by_chance(tag: str, rest: str) -> None:
    answer = await Asked().ask("reverse", f"{tag}{rest}@example.com".encode(errors="replace"))
    assert answer.result in ("notfound", "forged", "malformed", "expired")

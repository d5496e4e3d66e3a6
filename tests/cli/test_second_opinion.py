"""Where dkimpy and pyspf see a message otherwise than we do, both opinions are kept; elsewhere there is agreement."""

from __future__ import annotations

import time
from typing import Any

import dkim
import pytest

from relay.authenticate import spf
from relay.authenticate.arc import ArcVerdict
from relay.authenticate.dns_budget import Budget
from relay.authenticate.verdict import Verdict, check_stranger
from relay.cli.second_opinion import NO_OPINION, SecondOpinion, ask_others
from relay.dns import StaticResolver
from relay.mail.message import Message
from relay.sign.arc_seal import seal
from relay.sign.dkim_signature import sign
from relay.sign.keys import SigningKey, parse
from tests.corpus import RSA_PEM

NOW = int(time.time())
KEY = SigningKey("shop.example", "s1", parse(RSA_PEM))
PLAIN = b"From: news@shop.example\r\nSubject: hello\r\n\r\nHi.\r\n"
SIGNED = sign(Message(PLAIN), KEY, NOW) + PLAIN
ZONE: dict[tuple[str, str], Any] = {
    (KEY.record_name, "TXT"): [(KEY.public_record().encode(),)],
    ("shop.example", "TXT"): [(b"v=spf1 ip4:192.0.2.1 -all",)],
    ("_dmarc.shop.example", "TXT"): [(b"v=DMARC1; p=reject",)],
    # the RFC counts a term without records once, pyspf each of its questions
    ("void.example", "TXT"): [(b"v=spf1 mx:twice.example a:none.example ip4:192.0.2.1 -all",)],
    ("twice.example", "MX"): [(10, "one.example"), (20, "two.example")],
    ("one.example", "AAAA"): ["2001:db8::1"],
    ("two.example", "AAAA"): ["2001:db8::2"],
}


async def examined(content: bytes, sender: str = "ann@shop.example") -> tuple[Verdict, SecondOpinion]:
    resolver, message = StaticResolver(ZONE), Message(content)
    session = {"ip": "192.0.2.1", "helo": "mx.shop.example", "sender": sender, "receiver": "judge.example"}
    result = await spf.check(resolver, **session)
    ours = await check_stranger(Budget(resolver), message, sender, result, None, NOW)
    return ours, await ask_others(resolver, message, ours, **session)


async def differences(content: bytes, sender: str = "ann@shop.example") -> list[tuple[str, str, str, str]]:
    _, opinion = await examined(content, sender)
    return [(one.check, one.subject, one.ours, one.theirs) for one in opinion.differences]


@pytest.mark.parametrize(
    "content",
    [
        SIGNED,
        PLAIN,
        SIGNED.replace(b"Hi.", b"Ho."),
        SIGNED.replace(b"d=shop", b"d=sh0p"),
        seal(Message(SIGNED), b"", b"mx.shop.example; spf=pass", "none", 1, KEY, NOW) + SIGNED,
        seal(Message(SIGNED), b"", b"mx.shop.example; spf=pass", "none", 1, KEY, NOW) + SIGNED.replace(b"Hi", b"Ho"),
    ],
)
async def test_ordinary_mail_is_seen_the_same_way(content: bytes) -> None:
    ours, opinion = await examined(content)
    assert not opinion.differences and not opinion.problems
    assert [one.result == "pass" for one in opinion.dkimpy.signatures] == [one.result == "pass" for one in ours.dkim]
    assert ours.dmarc is not None and opinion.dmarc.result == ours.dmarc.result == "pass"


async def test_a_signature_of_a_part_of_the_body_is_one_that_dkimpy_accepts() -> None:
    signer = dkim.DKIM(PLAIN)
    signature = signer.sign(b"s1", b"shop.example", RSA_PEM, include_headers=[b"from", b"subject"], length=True)
    assert await differences(signature + PLAIN + b"more\r\n") == [("DKIM", "shop.example (s1)", "policy", "pass")]


async def test_what_dmarc_would_be_by_their_results_counts_too() -> None:
    """Without SPF, DMARC passes by the signature alone: by dkimpy's word for one of rsa-sha1."""
    signer = dkim.DKIM(PLAIN, signature_algorithm=b"rsa-sha1")
    signature = signer.sign(b"s1", b"shop.example", RSA_PEM, include_headers=[b"from", b"subject"])
    found = await differences(signature + PLAIN, sender="ann@elsewhere.example")
    assert [(check, theirs) for check, _, _, theirs in found] == [("DKIM", "pass"), ("DMARC", "pass")]
    assert found[1][2] == "fail"


async def test_void_look_ups_are_counted_otherwise_by_pyspf() -> None:
    found = await differences(PLAIN, sender="ann@void.example")
    assert found[0] == ("SPF", "void.example", "pass", "permerror")


async def test_where_dkimpy_cannot_read_the_header_it_has_no_opinion() -> None:
    ours, opinion = await examined(b"X-Odd : x\r\n" + SIGNED)
    assert ours.dkim[0].result == "pass"
    (difference,) = [one for one in opinion.differences if one.check == "DKIM"]
    assert (difference.ours, difference.theirs) == ("pass", NO_OPINION)
    assert opinion.problems == ("dkimpy cannot read this header: 'X-Odd : x'",)
    assert str(difference).endswith("says nothing (dkimpy cannot read this header: 'X-Odd : x')")


async def test_a_chain_that_only_one_of_them_finds_whole_is_a_difference() -> None:
    ours, _ = await examined(SIGNED)
    whole = ours._replace(arc=ArcVerdict("pass"))
    session = {"ip": "192.0.2.1", "helo": "mx.shop.example", "sender": "", "receiver": "judge.example"}
    opinion = await ask_others(StaticResolver(ZONE), Message(SIGNED), whole, **session)
    assert ("ARC", "pass", "none") in [(one.check, one.ours, one.theirs) for one in opinion.differences]


async def test_a_trusted_clients_verdict_is_no_next_hops() -> None:
    session = {"ip": "192.0.2.1", "helo": "mx.shop.example", "sender": "", "receiver": "judge.example"}
    with pytest.raises(ValueError, match="no next hop's"):
        await ask_others(StaticResolver({}), Message(PLAIN), Verdict(trusted=True), **session)

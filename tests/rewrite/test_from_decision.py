"""When From is rewritten: where DMARC passes by SPF alone, nothing of ours stands in for it, and the route wants it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from relay.authenticate.dkim import DkimVerdict
from relay.authenticate.dmarc import DmarcVerdict
from relay.authenticate.verdict import Verdict
from relay.config.model import Config
from relay.queue.stored_verdict import StoredVerdict
from relay.rewrite.from_decision import FromDecisions

AUTHOR = "shop.example"


def decisions(signs_as: Callable[[str], bool] = lambda domain: False) -> FromDecisions:
    return FromDecisions(
        Config.model_validate(
            {
                "hostname": "mx.fwd.example",
                "listen": [{"address": "127.0.0.1:0"}],
                "srs": {"domain": "fwd.example", "secrets_file": "/dev/null"},
                "senders": {"local_domains": ["ours.example"]},
                "routes": {
                    "domains": {
                        "trusts-us.example": {"next_hop": "smtp://10.0.0.1", "recipients": "any", "srs": False},
                        "strict.example": {
                            "next_hop": "smtp://10.0.0.2",
                            "recipients": "any",
                            "unforwardable": "reject",
                        },
                    }
                },
            }
        ),
        signs_as,
    )


BY_SPF = DmarcVerdict("pass", AUTHOR, policy="reject", aligned=("spf",))


@pytest.mark.parametrize(
    ("dmarc", "unforwardable"),
    [
        (BY_SPF, True),
        (DmarcVerdict("pass", AUTHOR, policy="quarantine", aligned=("spf",)), True),
        (DmarcVerdict("pass", AUTHOR, policy="reject", aligned=("spf",), testing=True), True),
        (DmarcVerdict("pass", AUTHOR, policy="none", aligned=("spf",)), False),
        (DmarcVerdict("pass", AUTHOR, policy="reject", aligned=("spf", "dkim")), False),
        (DmarcVerdict("pass", AUTHOR, policy="reject", aligned=("dkim",)), False),
        (DmarcVerdict("fail", AUTHOR, policy="reject"), False),
        (DmarcVerdict("none", AUTHOR, aligned=("spf",)), False),
        (None, False),
    ],
)
def test_only_what_passes_by_spf_alone_and_has_a_policy(dmarc: DmarcVerdict | None, unforwardable: bool) -> None:
    reason = decisions().why_unforwardable(Verdict(trusted=False, dmarc=dmarc), "news@shop.example")
    assert bool(reason) is unforwardable
    assert not unforwardable or AUTHOR in reason


def test_a_signature_of_the_author_whose_key_is_not_to_be_had_now_may_be_good() -> None:
    for domain, unforwardable in ((AUTHOR, False), ("mail.shop.example", False), ("else.example", True)):
        signature = DkimVerdict("temperror", domain=domain, problem="no answer")
        verdict = Verdict(trusted=False, dmarc=BY_SPF, dkim=(signature,))
        assert bool(decisions().why_unforwardable(verdict, "news@shop.example")) is unforwardable


def test_of_several_readings_of_from_one_is_enough() -> None:
    verdict = Verdict(trusted=False, dmarc=DmarcVerdict("none", "nick", others=(BY_SPF,)))
    assert AUTHOR in decisions().why_unforwardable(verdict, "news@shop.example")
    assert verdict.proven_authors == (AUTHOR,)


def test_an_author_whose_signature_may_be_good_does_not_speak_for_another() -> None:
    other = DmarcVerdict("pass", "b.example", policy="reject", aligned=("spf",))
    signature = DkimVerdict("temperror", domain=AUTHOR, problem="no answer")
    for first, second in ((BY_SPF, other), (other, BY_SPF)):
        verdict = Verdict(trusted=False, dmarc=replace(first, others=(second,)), dkim=(signature,))
        reason = decisions().why_unforwardable(verdict, "news@shop.example")
        assert reason == "DMARC of b.example passes by SPF alone, and its policy is reject"


def test_what_we_sign_in_the_authors_name_or_send_for_a_domain_of_ours_needs_no_rewriting() -> None:
    verdict = Verdict(trusted=False, dmarc=BY_SPF)
    assert not decisions(signs_as=lambda domain: domain == AUTHOR).why_unforwardable(verdict, "news@shop.example")
    assert not decisions().why_unforwardable(verdict, "joe@ours.example")


def test_the_route_of_the_recipient_says_what_is_done() -> None:
    unforwardable = StoredVerdict(unforwardable=True)
    assert decisions().rewrites(unforwardable, "a@anywhere.example")
    assert not decisions().rewrites(unforwardable, "a@trusts-us.example")
    assert not decisions().rewrites(unforwardable, "a@strict.example")
    assert not decisions().rewrites(StoredVerdict(), "a@anywhere.example")
    ways = ["a@trusts-us.example", "b@trusts-us.example", "a@strict.example"]
    assert decisions().treatments(ways) == {"pass", "reject"}

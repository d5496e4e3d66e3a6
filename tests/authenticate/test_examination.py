"""The log line and the metrics of an examination."""

from __future__ import annotations

from collections.abc import MutableMapping
from dataclasses import replace
from typing import Any

import pytest
from structlog.testing import capture_logs

from relay.authenticate.arc import ArcVerdict
from relay.authenticate.dkim import DkimVerdict
from relay.authenticate.dmarc import DmarcVerdict
from relay.authenticate.examination import Examination, report
from relay.authenticate.results_field import MethodResult
from relay.authenticate.spf import SpfVerdict
from relay.authenticate.trusted_results import TrustedResults
from relay.authenticate.verdict import Verdict, read_trusted_results
from relay.dns import StaticResolver
from relay.mail.arrival import Arrival
from relay.mail.envelope import Client, MailFrom, RcptTo
from relay.mail.message import Message
from relay.mail.queue_id import id_text
from relay.metrics import Metrics

FORGED = b"Authentication-Results: mx.fwd.example; spf=pass\r\n"
SIGNED = b"DKIM-Signature: v=1; d=a.example; h=from:authentication-results; b=x\r\n"
FROM = b"From: ann@author.example\r\n"
SPF = SpfVerdict("pass", "mailfrom", "author.example")
DMARC = DmarcVerdict("fail", "author.example", policy="reject", aligned=("spf",), problem="no answer")
NUMBER = 123456789


def examined(verdict: Verdict, content: bytes = FROM + b"\r\n", **more: Any) -> Examination:
    client = Client("192.0.2.1", 4025)
    recipients = (RcptTo("alice@fwd.example"),)
    arrival = Arrival(NUMBER, 0.0, client, MailFrom("ann@author.example"), recipients, Message(content))
    return Examination(arrival, verdict, arrival.message, **more)


def reported(examination: Examination, metrics: Metrics) -> list[MutableMapping[str, Any]]:
    with capture_logs() as lines:
        report(examination, metrics)
    return lines


def test_the_line_that_says_what_was_found() -> None:
    verdict = Verdict(
        trusted=True,
        spf=SPF,
        dkim=(DkimVerdict("pass", "author.example"), DkimVerdict("fail", "list.example")),
        arc=ArcVerdict("fail"),
        dmarc=DMARC,
        trusted_results=TrustedResults("mx.inner.example", (MethodResult("spf", "pass"),), ()),
    )
    assert reported(examined(verdict, questions=7), Metrics()) == [
        {
            "event": "authenticated",
            "log_level": "info",
            "id": id_text(NUMBER),
            "spf": "pass",
            "domain": "author.example",
            "identity": "mailfrom",
            "dkim": ["author.example:pass", "list.example:fail"],
            "arc": "fail",
            "dmarc": "fail",
            "author": "author.example",
            "policy": "reject",
            "problem": "no answer",
            "aligned": ["spf"],
            "word": "mx.inner.example",
            "questions": 7,
        }
    ]


def test_results_are_counted() -> None:
    metrics = Metrics()
    signatures = (DkimVerdict("pass", "a.example"), DkimVerdict("pass", "b.example"), DkimVerdict("fail", "c.example"))
    reported(examined(Verdict(trusted=False, spf=SPF, dkim=signatures, dmarc=DMARC)), metrics)
    rendered = metrics.render().decode()
    for line in (
        'dkim_results_total{result="pass"} 2.0',
        'dkim_results_total{result="fail"} 1.0',
        'arc_results_total{result="none"} 1.0',
        'dmarc_results_total{result="fail"} 1.0',
    ):
        assert f"srs_relay_{line}" in rendered


def test_a_trusted_clients_mail_that_nobody_vouches_for_has_no_line() -> None:
    metrics = Metrics()
    assert reported(examined(Verdict(trusted=True)), metrics) == []
    assert 'arc_results_total{result="none"} 0.0' in metrics.render().decode()


def test_an_override_has_a_line_of_its_own() -> None:
    verdict = Verdict(trusted=False, spf=SPF, dmarc=DMARC)
    assert reported(examined(verdict, override="known host 192.0.2.1"), Metrics())[1:] == [
        {
            "event": "dmarc_overridden",
            "log_level": "info",
            "id": id_text(NUMBER),
            "domain": "author.example",
            "reason": "known host 192.0.2.1",
        }
    ]


@pytest.mark.parametrize(("signature", "signed"), [(SIGNED, True), (b"", False)])
def test_removed_results_have_a_line_that_says_whether_a_signature_breaks(signature: bytes, signed: bool) -> None:
    forged = Message(FORGED + b"\r\n").fields
    examination = examined(Verdict(trusted=True), FORGED + signature + FROM + b"\r\n", forged=tuple(forged))
    assert reported(examination, Metrics()) == [
        {
            "event": "forged_results_removed",
            "log_level": "info",
            "id": id_text(NUMBER),
            "fields": 1,
            "signed": signed,
        }
    ]


# what a seal would tell the next hop

PASSES = DmarcVerdict("pass", "author.example", policy="reject", aligned=("spf", "dkim"))
RSA = DkimVerdict("pass", "author.example", "r", "rsa-sha256")
ED25519 = DkimVerdict("pass", "author.example", "e", "ed25519-sha256")


@pytest.mark.parametrize(
    ("given", "more", "useful"),
    [
        ({"spf": SPF, "dmarc": PASSES}, {}, False),
        ({"spf": SPF, "dmarc": replace(PASSES, aligned=("dkim",))}, {}, False),
        ({"spf": SPF, "dmarc": replace(PASSES, result="none", policy="")}, {}, False),
        ({"spf": SPF, "dmarc": replace(PASSES, aligned=("spf",))}, {}, True),
        ({"spf": SPF, "dmarc": replace(PASSES, result="none", aligned=())}, {}, True),
        ({"spf": SPF, "dmarc": replace(PASSES, others=(replace(PASSES, aligned=("spf",)),))}, {}, True),
        ({"spf": replace(SPF, result="softfail"), "dmarc": replace(PASSES, aligned=("dkim",))}, {}, False),
        ({"spf": replace(SPF, result="none"), "dmarc": replace(PASSES, result="none", aligned=())}, {}, False),
        ({"spf": None, "dmarc": replace(PASSES, result="temperror", aligned=())}, {}, False),
        ({"spf": replace(SPF, result="fail"), "dmarc": replace(PASSES, result="fail", aligned=())}, {}, True),
        ({"spf": SPF, "dmarc": replace(PASSES, others=(replace(PASSES, result="fail"),))}, {}, True),
        ({"spf": SPF, "dmarc": PASSES, "arc": ArcVerdict("pass")}, {}, True),
        ({"spf": replace(SPF, result="fail"), "dmarc": PASSES}, {"override": "known host"}, True),
        # A trusted client's MTA that tells of DMARC and not of SPF.
        ({"spf": None, "dmarc": replace(PASSES, aligned=())}, {}, True),
        ({"spf": None, "dmarc": replace(PASSES, aligned=("dkim",))}, {}, False),
        # Ed25519, which large receivers do not verify: alone, beside RSA, beside RSA of another domain, and failed.
        ({"spf": SPF, "dmarc": PASSES, "dkim": (ED25519,)}, {}, True),
        ({"spf": None, "dmarc": replace(PASSES, aligned=("dkim",)), "dkim": (ED25519,)}, {}, True),
        ({"spf": SPF, "dmarc": PASSES, "dkim": (ED25519, RSA)}, {}, False),
        ({"spf": SPF, "dmarc": PASSES, "dkim": (ED25519, RSA._replace(domain="list.example"))}, {}, True),
        ({"spf": SPF, "dmarc": PASSES, "dkim": (ED25519, RSA._replace(result="fail"))}, {}, True),
        ({"spf": SPF, "dmarc": PASSES, "dkim": (ED25519._replace(result="fail"), RSA)}, {}, False),
    ],
)
def test_a_seal_is_useful_where_the_next_hop_cannot_see_it(
    given: dict[str, Any], more: dict[str, Any], useful: bool
) -> None:
    assert examined(Verdict(trusted=False, **given), **more).seal_is_useful is useful


@pytest.mark.parametrize(
    ("signed", "useful"), [(SIGNED, True), (SIGNED.replace(b":authentication-results", b""), False)]
)
def test_a_seal_is_useful_where_we_removed_what_a_signature_covered(signed: bytes, useful: bool) -> None:
    forged = Message(FORGED).fields
    content = FORGED + signed + FROM + b"\r\n"
    assert examined(Verdict(trusted=False, spf=SPF, dmarc=PASSES), content, forged=forged).seal_is_useful is useful


@pytest.mark.parametrize(
    ("results", "useful"),
    [
        (b"dmarc=pass header.from=author.example", True),  # OpenDMARC, where SPF is in Received-SPF
        (b"dkim=pass header.d=author.example; dmarc=pass header.from=author.example", False),
        (b"dkim=none; dmarc=none header.from=author.example", False),
    ],
)
async def test_a_seal_is_useful_where_only_a_trusted_mta_says_that_dmarc_passed(results: bytes, useful: bool) -> None:
    content = b"Authentication-Results: mx.inner.example; " + results + b"\r\n" + FROM + b"\r\n"
    dns = StaticResolver({("_dmarc.author.example", "TXT"): [(b"v=DMARC1; p=reject",)]})
    verdict = await read_trusted_results(dns, Message(content), "ann@author.example", ["mx.inner.example"], 0.0)
    assert verdict.may_be_sealed and examined(verdict, content).seal_is_useful is useful

"""The rows that a person reads of a verdict."""

from __future__ import annotations

from relay.authenticate.arc import ArcVerdict
from relay.authenticate.dkim import DkimVerdict
from relay.authenticate.dmarc import DmarcVerdict
from relay.authenticate.iprev import Iprev
from relay.authenticate.spf import SpfVerdict
from relay.authenticate.verdict import Verdict
from relay.cli.explain_checks import check_rows


def test_each_check_is_a_row() -> None:
    verdict = Verdict(
        trusted=False,
        spf=SpfVerdict("fail", "helo", "mx.a.example", explanation="see a.example"),
        dkim=(DkimVerdict("fail", "a.example", "s1", "rsa-sha256", problem="the body was changed"),),
        arc=ArcVerdict("fail", problem="no seal"),
        dmarc=DmarcVerdict("fail", "a.example", policy="reject", record_domain="a.example", testing=True),
        iprev=Iprev("pass", "mx.a.example"),
    )
    assert list(check_rows(verdict)) == [
        ("iprev", "pass", "mx.a.example", ""),
        ("SPF", "fail", "mx.a.example (helo)", "see a.example"),
        ("DKIM", "fail", "a.example (s1, rsa-sha256)", "the body was changed"),
        ("ARC", "fail", "", "no seal"),
        ("DMARC", "fail", "a.example", "p=reject at a.example, testing; aligned: nothing"),
    ]


def test_of_a_trusted_client_nothing_is_checked() -> None:
    assert list(check_rows(Verdict(trusted=True))) == [
        ("SPF", "not checked", "", "the client is trusted"),
        ("DKIM", "none", "", "not checked"),
        ("ARC", "none", "", ""),
    ]

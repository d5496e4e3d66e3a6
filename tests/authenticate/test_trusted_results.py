"""What a trusted MTA says: understood as the usual programs write it, and nobody else can say it in its name."""

from __future__ import annotations

from typing import NamedTuple

import authres
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.authenticate.dmarc import DmarcVerdict
from relay.authenticate.forged_results import strip_forged
from relay.authenticate.results_field import RESULTS, read_results
from relay.authenticate.trusted_results import SCANNED_OCTETS, TrustedResults, find_trusted_results, passes_dmarc
from relay.authenticate.verdict import read_trusted_results
from relay.dns import StaticResolver
from relay.mail.message import Message

MTA = "mail.example.org"
OUTSIDE = (
    b"Received: from mx.shop.example (mx.shop.example [192.0.2.25])\r\n\tby mail.example.org (Postfix) with ESMTPS\r\n"
)
REINJECTED = b"Received: from localhost (localhost [127.0.0.1])\r\n\tby mail.example.org (Postfix) with ESMTP id 4A\r\n"
AUTHOR = b"From: a@shop.example\r\nSubject: hello\r\n"


def results(value: bytes) -> bytes:
    return b"Authentication-Results: " + value + b"\r\n"


def said(*fields: bytes, ids: tuple[str, ...] = (MTA,)) -> TrustedResults | None:
    return find_trusted_results(Message(b"".join(fields) + b"\r\nbody\r\n"), ids)


def dkim(*fields: bytes, ids: tuple[str, ...] = (MTA,)) -> list[tuple[str, str]] | None:
    """The signatures that trusted results name; None where nothing is said of any."""
    word = said(*fields, ids=ids)
    stated = word.dkim_verdicts() if word is not None else None
    return None if stated is None else [(one.result, one.domain) for one in stated]


class Sample(NamedTuple):
    """A field as a program writes it, and what it says. `dmarc` is result and policy, the policy as far as stated."""

    program: str
    value: bytes
    spf: tuple[str, str] | None = None
    dkim: list[tuple[str, str]] | None = None
    dmarc: tuple[str, str] | None = None


SAMPLES = [
    Sample(
        "OpenDKIM",
        b"mail.example.org;\r\n"
        b"\tdkim=pass (2048-bit key; unprotected) header.d=shop.example header.i=@shop.example header.a=rsa-sha256"
        b' header.s=s1 header.b="Kd7/+aB=";\r\n'
        b"\tdkim-atps=neutral",
        dkim=[("pass", "shop.example")],
    ),
    Sample(
        "OpenDKIM, several signatures",
        b"mail.example.org;\r\n"
        b'\tdkim=pass (1024-bit key) header.d=shop.example header.i=@shop.example header.b="hh8Rk1T2";\r\n'
        b'\tdkim=fail reason="signature verification failed" (2048-bit key) header.d=lists.example'
        b' header.i=@lists.example header.b="Q1b5S9k+"',
        dkim=[("pass", "shop.example"), ("fail", "lists.example")],
    ),
    Sample(
        "OpenDMARC",
        b"mail.example.org; dmarc=pass (p=none dis=none) header.from=shop.example",
        dmarc=("pass", "none"),
    ),
    Sample(
        "OpenDMARC, its own SPF",
        b"mail.example.org; spf=softfail smtp.mailfrom=news@shop.example",
        spf=("softfail", "shop.example"),
    ),
    Sample(
        "policyd-spf, MAIL FROM",
        b"mail.example.org; spf=pass (sender SPF authorized)"
        b" smtp.mailfrom=shop.example (client-ip=192.0.2.25; helo=mx.shop.example;"
        b" envelope-from=news@shop.example; receiver=alice@example.org)",
        spf=("pass", "shop.example"),
    ),
    Sample(
        "rspamd",
        b"mail.example.org;\r\n"
        b"\tdkim=pass header.d=shop.example header.s=s1 header.b=fA8VVvJ8;\r\n"
        b'\tdmarc=fail reason="SPF not aligned (relaxed), DKIM not aligned (relaxed)" header.from=shop.example'
        b" (policy=quarantine);\r\n"
        b'\tspf=pass (mail.example.org: domain of "news@bulk.example" designates 192.0.2.25 as permitted sender)'
        b" smtp.mailfrom=news@bulk.example",
        spf=("pass", "bulk.example"),
        dkim=[("pass", "shop.example")],
        dmarc=("fail", "quarantine"),
    ),
    Sample(
        "Exim",
        b"mail.example.org;\r\n"
        b"\tiprev=pass (mx.shop.example) smtp.remote-ip=192.0.2.25;\r\n"
        b"\tauth=pass (LOGIN) smtp.auth=alice;\r\n"
        b"\tspf=none smtp.mailfrom=shop.example;\r\n"
        b"\tdkim=pass header.d=shop.example header.s=s1 header.a=ed25519-sha256;\r\n"
        b"\tdmarc=pass header.from=shop.example;\r\n"
        b"\tarc=none",
        spf=("none", "shop.example"),
        dkim=[("pass", "shop.example")],
        dmarc=("pass", ""),
    ),
    Sample(
        "Gmail",
        b"mail.example.org;\r\n"
        b"       dkim=pass header.i=@shop.example header.s=20230601 header.b=Abc12345;\r\n"
        b"       arc=pass (i=1 spf=pass spfdomain=shop.example dkim=pass dkdomain=shop.example);\r\n"
        b"       spf=pass (google.com: domain of news@shop.example designates 192.0.2.25 as permitted sender)"
        b" smtp.mailfrom=news@shop.example;\r\n"
        b"       dmarc=pass (p=REJECT sp=NONE dis=NONE) header.from=shop.example",
        spf=("pass", "shop.example"),
        dkim=[("pass", "shop.example")],
        dmarc=("pass", "reject"),
    ),
    Sample(
        "Microsoft",
        b"mail.example.org 1; spf=pass (sender ip is 192.0.2.25)"
        b" smtp.rcpttodomain=example.org smtp.mailfrom=shop.example; dmarc=fail (p=reject sp=reject pct=100)"
        b" action=oreject header.from=shop.example; dkim=fail (body hash did not verify) header.d=shop.example;"
        b" arc=none (0);compauth=none reason=451",
        spf=("pass", "shop.example"),
        dkim=[("fail", "shop.example")],
        dmarc=("fail", "reject"),
    ),
    Sample(
        "Microsoft, unsigned, from the null sender",
        b"mail.example.org 1; spf=none (sender IP is 192.0.2.25) smtp.helo=mx.shop.example smtp.mailfrom=;"
        b" dkim=none (message not signed) header.d=none;dmarc=bestguesspass action=none header.from=shop.example;",
        spf=("none", "mx.shop.example"),
        dkim=[],
    ),
    Sample(
        "Fastmail (authentication_milter)",
        b"mail.example.org;\r\n"
        b"    bimi=skipped (DMARC Policy is not at enforcement);\r\n"
        b"    arc=none (no signatures found);\r\n"
        b"    dkim=pass (2048-bit rsa key sha256) header.d=shop.example\r\n"
        b"    header.i=@shop.example header.b=WxJHFHcu header.a=rsa-sha256 header.s=s1 x-bits=2048;\r\n"
        b"    dmarc=pass policy.published-domain-policy=quarantine\r\n"
        b"    policy.applied-disposition=none policy.evaluated-disposition=none\r\n"
        b"    (p=quarantine,d=none,d.eval=none) policy.policy-from=p\r\n"
        b"    header.from=shop.example;\r\n"
        b"    iprev=pass smtp.remote-ip=192.0.2.25 (mx.shop.example);\r\n"
        b"    spf=pass smtp.mailfrom=news@shop.example smtp.helo=mx.shop.example;\r\n"
        b"    x-ptr=pass smtp.helo=mx.shop.example policy.ptr=mx.shop.example",
        spf=("pass", "shop.example"),
        dkim=[("pass", "shop.example")],
        dmarc=("pass", "quarantine"),
    ),
    Sample(
        "mox",
        b"mail.example.org;\r\n"
        b"\tiprev=pass policy.iprev=192.0.2.25;\r\n"
        b"\tdkim=pass (2048 bit rsa, without dnssec) header.d=shop.example header.s=s1\r\n"
        b"\theader.a=rsa-sha256 header.b=M4LlMNdxx9Zj;\r\n"
        b"\tspf=pass (without dnssec) smtp.mailfrom=shop.example;\r\n"
        b"\tdmarc=pass (without dnssec) header.from=shop.example policy.dmarc=reject",
        spf=("pass", "shop.example"),
        dkim=[("pass", "shop.example")],
        dmarc=("pass", "reject"),
    ),
    Sample(
        "RFC 8601 section 2.2, white space and comments wherever they may be",
        b'(an id)"mail.example.org"(in quotes)1 ; dkim (x) / 1 = (y) pass (z) header . d = shop.example;'
        b' spf\t=\tfail\r\n smtp.mailfrom = "news"@shop.example',
        spf=("fail", "shop.example"),
        dkim=[("pass", "shop.example")],
    ),
    Sample("RFC 8601 section 2.2, nothing was done", b"mail.example.org; none"),
    Sample("RFC 8601 section 2.5, a version to come", b"mail.example.org 2; dkim=pass header.d=shop.example"),
]


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.program)
def test_what_the_usual_programs_write_is_understood(sample: Sample) -> None:
    word = said(OUTSIDE, results(sample.value), AUTHOR)
    if word is None:
        assert (sample.spf, sample.dkim, sample.dmarc) == (None, None, None)
        return
    spf = word.spf_verdict("" if "null sender" in sample.program else "news@shop.example")
    signatures = word.dkim_verdicts()
    dmarc = word.dmarc_verdict(DmarcVerdict("temperror", "shop.example"))
    assert (spf and (spf.result, spf.domain)) == sample.spf
    assert (signatures if signatures is None else [(one.result, one.domain) for one in signatures]) == sample.dkim
    assert (None if dmarc.result == "temperror" else (dmarc.result, dmarc.policy)) == sample.dmarc


def test_every_milter_has_its_say() -> None:
    """Postfix with policyd-spf (above Received), OpenDMARC and OpenDKIM (below it, the last one on top)."""
    word = said(
        results(b"mail.example.org; spf=pass (sender SPF authorized) smtp.mailfrom=shop.example"),
        OUTSIDE,
        results(b"OpenDMARC; dmarc=pass (p=reject dis=none) header.from=shop.example"),
        b"DKIM-Filter: OpenDKIM Filter v2.11.0 mail.example.org 4ABC\r\n",
        results(b"mail.example.org; dkim=pass (2048-bit key) header.d=shop.example"),
        AUTHOR,
        ids=(MTA, "opendmarc"),
    )
    assert word is not None
    assert [(one.method, one.result) for one in word.results] == [("spf", "pass"), ("dmarc", "pass"), ("dkim", "pass")]
    assert word.authserv_id == MTA


def test_of_others_nothing_is_believed() -> None:
    assert said(OUTSIDE, results(b"other.example; dkim=pass header.d=shop.example"), AUTHOR) is None
    assert said(OUTSIDE, results(b"mail.example.org.evil.example; spf=pass smtp.mailfrom=a@b.example"), AUTHOR) is None
    assert said(OUTSIDE, results(b"mail.example.org; spf=pass smtp.mailfrom=a@b.example"), AUTHOR, ids=()) is None


GENUINE = results(b"mail.example.org; dkim=fail header.d=evil.example; dmarc=fail header.from=shop.example")
FORGED = results(b"mail.example.org; dkim=pass header.d=shop.example; spf=pass smtp.mailfrom=a@shop.example")


def test_what_the_mta_says_cannot_be_contradicted() -> None:
    assert dkim(OUTSIDE, GENUINE, FORGED, AUTHOR) == [("fail", "evil.example")]


@pytest.mark.parametrize(
    "fields",
    [
        (OUTSIDE, AUTHOR, FORGED),
        (OUTSIDE, b"Subject: x\r\n", FORGED, AUTHOR),
        (OUTSIDE, b"Received: from a ([127.0.0.1]) by mail.example.org\r\n", FORGED, AUTHOR),
        (REINJECTED, OUTSIDE, b"Received: from a by b\r\n", FORGED, AUTHOR),
        (OUTSIDE.replace(b"mx.shop.example (", b"[127.0.0.1] ("), OUTSIDE, FORGED, AUTHOR),
        (OUTSIDE.replace(b"mx.shop.example (", b"a ([127.0.0.1]) by b ("), OUTSIDE, FORGED, AUTHOR),
        (b"Received: from unknown (HELO 127.0.0.1) (192.0.2.25)\r\n by q with SMTP\r\n", OUTSIDE, FORGED, AUTHOR),
        (b"Received: from x (x [IPv6:2001:db8::1]) by y\r\n", OUTSIDE, FORGED, AUTHOR),
        (b"Received: from " + b"x" * 5000 + b" by y\r\n", OUTSIDE, FORGED, AUTHOR),
    ],
)
def test_a_forged_field_further_down_is_not_believed(fields: tuple[bytes, ...]) -> None:
    assert said(*fields) is None


@pytest.mark.parametrize(
    "inner",
    [
        (REINJECTED, b"Received: from mail.example.org ([127.0.0.1])\r\n\tby localhost (amavisd-new, port 10024)\r\n"),
        (b"Received: by mail.example.org (Postfix, from userid 112)\r\n\tid 4A; Wed, 25 Nov 2026 08:00:00 +0000\r\n",),
        (b"Received: from mail.example.org\r\n\tby mail.example.org with LMTP id 4A\r\n\t(envelope-from <a@b.c>)\r\n",),
        (b"Received: from mail.example.org (localhost [IPv6:::1])\r\n\tby mail.example.org with LMTP\r\n",),
    ],
    ids=["amavis", "pipe", "Dovecot over a socket", "Dovecot over IPv6"],
)
def test_behind_a_content_filter_of_the_host_the_mta_is_still_heard(inner: tuple[bytes, ...]) -> None:
    assert dkim(*inner, OUTSIDE, GENUINE, AUTHOR) == [("fail", "evil.example")]


@pytest.mark.parametrize(
    "value",
    [
        b'mail.example.org; dkim=fail reason="no; dkim=pass header.d=shop.example" header.d=evil.example',
        b'mail.example.org; dkim=fail reason="no header.d=shop.example" header.d=evil.example',
        b'mail.example.org; dkim=fail reason="\\"; dkim=pass header.d=shop.example;" header.d=evil.example',
        b"mail.example.org; dkim=fail (no; dkim=pass header.d=shop.example) header.d=evil.example",
        b"mail.example.org; dkim=fail (no (really) header.d=shop.example) header.d=evil.example",
        b"mail.example.org; dkim=fail (no \\) ; dkim=pass header.d=shop.example) header.d=evil.example",
        b'mail.example.org; dkim=fail (no ") header.d=evil.example (", header.d=shop.example)',
        b"mail.example.org; dkim=fail header.s=dkim=pass header.d=evil.example",
        b'mail.example.org; dkim=fail header.d=evil.example reason="; dkim=pass header.d=shop.example',
        b"mail.example.org; dkim=fail header.d=evil.example (; dkim=pass header.d=shop.example",
        b"mail.example.org; dkim=fail header.d=evil.example header.d=shop.example",
    ],
)
def test_no_text_within_a_field_passes_for_a_result(value: bytes) -> None:
    assert dkim(OUTSIDE, results(value), AUTHOR) == [("fail", "evil.example")]


def test_spf_of_the_helo_name_is_that_of_the_null_sender_only() -> None:
    word = said(results(b"mail.example.org; spf=pass smtp.helo=mx.shop.example"), AUTHOR)
    assert word is not None
    null = word.spf_verdict("")
    assert null is not None
    assert (null.identity, null.domain, null.result) == ("helo", "mx.shop.example", "pass")
    assert word.spf_verdict("news@shop.example") is None


def test_dmarc_of_another_author_is_not_that_of_this_one() -> None:
    word = said(results(b"mail.example.org; dmarc=pass header.from=other.example"), AUTHOR)
    assert word is not None
    ours = DmarcVerdict("fail", "shop.example", policy="reject")
    assert word.dmarc_verdict(ours) == ours
    word = said(results(b"mail.example.org; dmarc=pass (p=none) header.from=news@SHOP.example"), AUTHOR)
    assert word is not None
    assert word.dmarc_verdict(ours) == DmarcVerdict("pass", "shop.example", policy="reject")


DNS = StaticResolver({("_dmarc.shop.example", "TXT"): [(b"v=DMARC1; p=reject",)], ("shop.example", "A"): ["192.0.2.1"]})
SPF = results(b"mail.example.org; spf=pass smtp.mailfrom=news@shop.example")
SIGNATURE = b"DKIM-Signature: v=1; d=shop.example\r\n"


@pytest.mark.parametrize(
    ("fields", "result", "aligned"),
    [
        ((SPF,), "pass", ("spf",)),
        ((SPF, results(b"mail.example.org; dkim=none"), SIGNATURE), "pass", ("spf",)),
        ((SPF, SIGNATURE), "pass", ()),
        ((SPF, results(b"mail.example.org; dkim=pass header.d=shop.example"), SIGNATURE), "pass", ("spf", "dkim")),
        ((SPF, results(b"mail.example.org; dmarc=fail header.from=shop.example")), "fail", ("spf",)),
        ((results(b"mail.example.org; dmarc=pass header.from=shop.example"),), "pass", ()),
        ((results(b"mail.example.org; spf=fail smtp.mailfrom=news@shop.example"),), "fail", ()),
    ],
)
async def test_the_verdict_on_a_trusted_client_is_what_its_mta_says(
    fields: tuple[bytes, ...], result: str, aligned: tuple[str, ...]
) -> None:
    """A signature that the MTA says nothing of may be good behind us: DMARC is then not known to rest on SPF alone."""
    verdict = await read_trusted_results(
        DNS, Message(b"".join((*fields, AUTHOR)) + b"\r\n"), "news@shop.example", (MTA,), 0.0
    )
    assert verdict.dmarc is not None
    assert (verdict.dmarc.result, verdict.dmarc.policy) == (result, "reject")
    assert set(verdict.aligned) == set(aligned)


async def test_nothing_is_known_where_nobody_vouches() -> None:
    verdict = await read_trusted_results(
        DNS, Message(SPF + AUTHOR + b"\r\n"), "news@shop.example", ("other.example",), 0.0
    )
    assert (verdict.spf, verdict.dkim, verdict.dmarc, verdict.trusted_results) == (None, (), None, None)


def test_what_is_vouched_for_in_our_own_name_stays() -> None:
    """Postfix and the relay on one host have one name."""
    contradiction = results(b"mail.example.org; spf=fail smtp.mailfrom=news@shop.example")
    message = Message(SPF + OUTSIDE + GENUINE + contradiction + AUTHOR + FORGED + b"\r\n")
    word = find_trusted_results(message, (MTA,))
    assert word is not None
    kept, removed = strip_forged(message, MTA, word.fields)
    assert [one.raw for one in removed] == [contradiction, FORGED]
    assert kept.content == SPF + OUTSIDE + GENUINE + AUTHOR + b"\r\n"
    assert strip_forged(message, MTA)[1] == message.all("authentication-results")


def test_what_is_vouched_for_can_be_passed_on_as_one_value() -> None:
    word = said(*(results(sample.value) for sample in SAMPLES), OUTSIDE, AUTHOR)
    assert word is not None
    parsed = authres.AuthenticationResultsHeader.parse_value(word.value.decode("ascii"))
    assert parsed.authserv_id == MTA
    assert [(one.method, one.result) for one in parsed.results] == [(one.method, one.result) for one in word.results]
    assert "signature verification failed" not in word.value.decode()  # of a second field on DKIM nothing is believed


def test_the_dmarc_result_of_a_sealer() -> None:
    assert passes_dmarc("lists.example; spf=fail; dmarc=pass (p=reject) header.from=a.example", "a.example")
    assert passes_dmarc("lists.example; dmarc=pass", "a.example")
    assert not passes_dmarc("lists.example; dmarc=pass header.from=b.example", "a.example")
    assert not passes_dmarc('lists.example; spf=fail (dmarc=pass) smtp.mailfrom="; dmarc=pass"', "a.example")
    assert not passes_dmarc("lists.example; " + " " * SCANNED_OCTETS + "; dmarc=pass", "a.example")


def test_work_is_bounded() -> None:
    long = results(b"mail.example.org; dkim=pass " + b" " * SCANNED_OCTETS + b"header.d=shop.example")
    assert said(OUTSIDE, long, GENUINE, AUTHOR) is None
    many = "mail.example.org" + "; dkim=pass header.d=a.example" * (RESULTS + 20)
    assert len(read_results(many)[1]) == RESULTS


PIECES = st.sampled_from(
    [
        "mail.example.org",
        "; ",
        "dkim=",
        "pass",
        " ",
        "header.d=",
        "shop.example",
        '"',
        "\\",
        "(",
        ")",
        "=",
        ".",
        "/1",
        "\t",
    ]
)


@given(st.one_of(st.binary(max_size=300), st.lists(PIECES, max_size=60).map(lambda found: "".join(found).encode())))
def test_nothing_in_a_field_breaks_the_reader(value: bytes) -> None:
    word = said(results(b"mail.example.org; " + value), AUTHOR)
    assert word is None or isinstance(word, TrustedResults)
    if word is not None:
        assert read_results(word.value.decode("ascii"))[0] == MTA
        for sender in ("", "a@b.example"):
            spf = word.spf_verdict(sender)
            assert spf is None or spf.domain.isprintable()
        assert all(one.domain.isascii() for one in word.dkim_verdicts() or ())
        assert word.dmarc_verdict(DmarcVerdict("none", "shop.example")).domain == "shop.example"

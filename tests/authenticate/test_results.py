"""What each check found, as a reader that is not ours understands it, whatever a sender put into it."""

from __future__ import annotations

import re
from collections.abc import Sequence

import authres
import authres.arc
import authres.dkim_b
import authres.dmarc
from hypothesis import given
from hypothesis import strategies as st

from relay.authenticate.arc import ArcSet, ArcVerdict
from relay.authenticate.dkim import DkimVerdict
from relay.authenticate.dmarc import DmarcVerdict
from relay.authenticate.iprev import Iprev
from relay.authenticate.results import all_results, arc_result, dkim_results, dmarc_result, iprev_result, spf_result
from relay.authenticate.results_field import VALUE_OCTETS, MethodResult, read_results, results_field
from relay.authenticate.spf import SpfVerdict
from relay.authenticate.verdict import Verdict
from relay.mail.address import DOMAIN, normal_domain, split

OURS = "mx.fwd.example"
_READER = authres.FeatureContext(authres.arc, authres.dkim_b, authres.dmarc)


def field(*results: MethodResult) -> str:
    """The field on one line."""
    return results_field(OURS, results).decode("ascii").replace("\r\n\t", " ").strip()


def as_authres_reads_it(field: str) -> list[tuple[str, str, dict[str, str]]]:
    parsed = _READER.parse(field)
    return [
        (
            one.method,
            one.result,
            {f"{found.type}.{found.name}": re.sub(r"\\(.)", r"\1", found.value) for found in one.properties},
        )
        for one in parsed.results
    ]


def test_each_signature_has_its_own_result() -> None:
    good = DkimVerdict("pass", "shop.example", "s1", "rsa-sha256", "@shop.example", "Kd7/+aB=")
    bad = DkimVerdict("fail", "bulk.example", "s2", "ed25519-sha256", "u@bulk.example", "abc", "the body was changed")
    assert as_authres_reads_it(field(*dkim_results([good, bad]))) == [
        (
            "dkim",
            "pass",
            {
                "header.d": "shop.example",
                "header.i": "@shop.example",
                "header.s": "s1",
                "header.a": "rsa-sha256",
                "header.b": "Kd7/+aB=",
            },
        ),
        (
            "dkim",
            "fail",
            {
                "header.d": "bulk.example",
                "header.i": "u@bulk.example",
                "header.s": "s2",
                "header.a": "ed25519-sha256",
                "header.b": "abc",
            },
        ),
    ]
    assert "dkim=fail (the body was changed)" in field(*dkim_results([good, bad]))


def test_without_a_signature_it_says_so() -> None:
    assert field(*dkim_results([])) == f"Authentication-Results: {OURS}; dkim=none (no signature)"


def test_a_test_of_dkim_is_named_as_one() -> None:
    testing = DkimVerdict("pass", "shop.example", "s1", "rsa-sha256", testing=True)
    assert "dkim=pass (the domain is testing DKIM) header.d=shop.example" in field(*dkim_results([testing]))


def test_an_identity_is_never_cut_to_that_of_another() -> None:
    """`i=` may be longer than any address that we write, and its beginning may end in anybody's domain."""
    local = "x" * (VALUE_OCTETS - len("@bank.example"))
    long = DkimVerdict("pass", "evil.example", "s1", "rsa-sha256", f"{local}@bank.example.evil.example")
    written = field(*dkim_results([long]))
    assert "header.d=evil.example" in written
    assert "bank.example" not in written


CHAIN = (
    ArcSet(2, "lists.example", "k1", "pass", "lists.example; dmarc=pass"),
    ArcSet(1, "b.example", "k1", "none", ""),
)


def test_a_chain_names_its_sealers_and_the_host_that_brought_it() -> None:
    result = arc_result(ArcVerdict("pass", CHAIN, oldest_pass=1), ip="2001:db8::1")
    assert as_authres_reads_it(field(result)) == [
        ("arc", "pass", {"header.oldest-pass": "1", "smtp.remote-ip": "2001:db8::1"})
    ]
    assert "arc=pass (i=2 lists.example, i=1 b.example)" in field(result)


def test_a_broken_chain_says_why_and_nothing_of_an_oldest_pass() -> None:
    result = arc_result(ArcVerdict("fail", CHAIN, problem="ARC-Seal with i=2: no key"), ip="192.0.2.1")
    assert field(result).endswith("arc=fail (ARC-Seal with i=2: no key) smtp.remote-ip=192.0.2.1")
    assert field(arc_result(ArcVerdict("none"), ip="192.0.2.1")).endswith("; arc=none (no chain)")


def test_dmarc_names_the_policy_and_why_a_failure_did_not_count() -> None:
    verdict = DmarcVerdict("fail", "shop.example", policy="reject")
    reason = "trusted ARC sealer lists.example"
    assert field(dmarc_result(verdict, reason)).endswith(
        f"dmarc=fail (p=reject, overridden: {reason}) header.from=shop.example policy.dmarc=reject"
    )


def test_dmarc_says_what_it_rests_on() -> None:
    verdict = DmarcVerdict("pass", "shop.example", policy="quarantine", testing=True, aligned=("spf", "dkim"))
    assert "dmarc=pass (p=quarantine, testing, t=y, aligned by spf and dkim)" in field(dmarc_result(verdict))
    assert "dmarc=none (shop.example has no DMARC record)" in field(dmarc_result(DmarcVerdict("none", "shop.example")))
    nobody = DmarcVerdict("permerror", "", problem="no From")
    assert field(dmarc_result(nobody)).endswith("dmarc=permerror (no From)")


def test_the_client_has_a_name_or_a_reason_why_not() -> None:
    named = iprev_result(Iprev("pass", "mx.shop.example"), ip="192.0.2.1")
    assert field(named).endswith("iprev=pass (mx.shop.example) policy.iprev=192.0.2.1")
    nameless = iprev_result(Iprev("permerror", problem="192.0.2.1 has no name"), ip="192.0.2.1")
    assert field(nameless).endswith("iprev=permerror (192.0.2.1 has no name) policy.iprev=192.0.2.1")


def test_every_check_is_in_the_one_field() -> None:
    verdict = Verdict(
        trusted=False,
        spf=SpfVerdict("pass", "mailfrom", "shop.example"),
        dkim=(DkimVerdict("pass", "shop.example", "s1", "rsa-sha256"),),
        arc=ArcVerdict("none"),
        dmarc=DmarcVerdict("pass", "shop.example", policy="none", aligned=("spf", "dkim")),
        iprev=Iprev("pass", "mx.shop.example"),
    )
    results = all_results(verdict, ip="192.0.2.1", sender="news@shop.example")
    assert [one.method for one in results] == ["spf", "dkim", "arc", "dmarc", "iprev"]


_ATOM = r"[\w!#$%&'*+/=?^`{|}~-]+"
_PLAIN_LOCAL = re.compile(rf'{_ATOM}(\.{_ATOM})*|"({_ATOM}|\.)+"', re.ASCII)
TEXT = st.text(st.characters(exclude_categories=()), max_size=400)


def writable(text: str) -> str:
    """What is written of a value: all of it, the domain of an address, or nothing."""
    if not 0 < len(text) <= VALUE_OCTETS:
        return ""
    local, domain = split(text)
    if DOMAIN.match(domain):
        is_plain = not local or _PLAIN_LOCAL.fullmatch(local)
        shown = text if is_plain and "=?" not in f"={text}" and text.isascii() else normal_domain(domain)
        return shown if shown.isascii() else ""  # a domain that IDNA refuses stays as it is
    return text if re.fullmatch(r"[!#-'*-:<-\[\]-~]+", text) and "=?" not in f"={text}" else ""


def expected(results: Sequence[MethodResult]) -> list[tuple[str, str, dict[str, str]]]:
    return [
        (
            one.method,
            one.result,
            {name: written for name, value in one.properties if (written := writable(value))},
        )
        for one in results
    ]


def written_bare(results: list[tuple[str, str, dict[str, str]]]) -> list[tuple[str, str, dict[str, str]]]:
    """Without the values that have to be quoted: authres drops such a property where another follows it."""
    return [
        (method, result, {name: value for name, value in values.items() if re.fullmatch(r"[\w.-]+", value, re.ASCII)})
        for method, result, values in results
    ]


@given(TEXT, TEXT, TEXT, TEXT, TEXT, TEXT)
def test_no_text_of_a_sender_changes_what_is_read(
    one: str, two: str, three: str, four: str, five: str, six: str
) -> None:
    results = [
        spf_result(SpfVerdict("fail", "helo", one, problem=two), ip="192.0.2.1", sender=""),
        spf_result(SpfVerdict("fail", "mailfrom", one, problem=two), ip="192.0.2.1", sender=three),
        *dkim_results([DkimVerdict("neutral", one, two, three, four, five, six), DkimVerdict("pass", six, five, four)]),
        arc_result(ArcVerdict("fail", (ArcSet(1, one, two, three, four),), problem=five), ip="2001:db8::1"),
        arc_result(ArcVerdict("pass", (ArcSet(1, one, two, three, four),)), ip="192.0.2.1"),
        dmarc_result(DmarcVerdict("fail", one, policy="reject", problem=two), three),
        iprev_result(Iprev("pass", four), ip="192.0.2.1"),
        iprev_result(Iprev("fail", problem=five), ip="192.0.2.1"),
    ]
    raw = results_field(OURS, results)
    lines = raw.split(b"\r\n")
    assert lines.pop() == b"" and lines[0].startswith(b"Authentication-Results: mx.fwd.example;")
    assert all(line.startswith(b"\t") and line.strip() for line in lines[1:])
    assert max(len(line) for line in lines) <= 998
    assert max(len(line) for line in lines) <= 78 or max(len(word) for word in raw.split()) > 40
    written = field(*results)
    assert written_bare(as_authres_reads_it(written)) == written_bare(expected(results))
    authserv_id, ours = read_results(written.partition(":")[2])
    assert (authserv_id, expected(ours)) == (OURS, expected(results))

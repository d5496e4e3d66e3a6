"""SPF of what we send for: each fault, the record that mends it, and the same zone without the fault."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from relay.check import spf
from relay.check.finding import Finding
from relay.check.run import run
from relay.dns import DnsFailure
from tests.check.sites import HOST, IPV4, IPV6, OTHER, Zone, green, levels, only, site, txt

INCLUDES: Zone = {(f"s{number}.example", "TXT"): txt("v=spf1 ip4:198.51.100.1 -all") for number in range(12)}
INCLUDES |= {("open.example", "TXT"): txt("v=spf1 +all"), ("yes.example", "A"): ["127.0.0.2"]}
INCLUDES |= {(f"ipv4-{number}.example", "A"): [OTHER] for number in range(3)}
MANY = "v=spf1 mx " + " ".join(f"include:s{number}.example" for number in range(12)) + " -all"


async def spf_of(folder: Path, *records: str, **changes: object) -> Finding:
    """What is said of fwd.example with these records."""
    zone = green() | INCLUDES | {("fwd.example", "TXT"): txt(*records)}
    return only(await spf.check(site(folder, zone, **changes)), "fwd.example")  # type: ignore[arg-type]


async def test_all_is_well(tmp_path: Path) -> None:
    findings = await spf.check(site(tmp_path, green()))
    assert levels(findings) == [("fwd.example", "ok"), (HOST, "ok")]
    assert IPV4 in findings[0].text and IPV6 in findings[0].text


@pytest.mark.parametrize(
    ("records", "level", "said"),
    [
        (["unrelated"], "error", "no SPF record"),
        (["v=spf1 mx -all", "V=SPF1 ~all"], "error", "2 SPF records"),
        (["v=spf1 mx +all"], "error", "may send for the name"),
        (["v=spf1 all"], "error", "may send for the name"),
        (["v=spf1 ip4:0.0.0.0/1 ip4:128.0.0.0/1 ip6:2001:db8::/32 -all"], "error", "may send for the name"),
        (["v=spf1 mx ip4:0.0.0.0/1 -all"], "error", "the record has ip4:0.0.0.0/1"),
        (["v=spf1 mx ip4:128.0.0.0/2 -all"], "error", "the record has ip4:128.0.0.0/2"),
        (["v=spf1 mx ip6:2000::/3 -all"], "error", "the record has ip6:2000::/3"),
        (["v=spf1 include:open.example mx -all"], "error", "the record has include:open.example"),
        (["v=spf1 mx redirect=open.example"], "error", "the record has redirect=open.example"),
        (["v=spf1 exists:yes.example -all"], "error", "the record has exists:yes.example"),
        (["v=spf1; mx -all"], "error", "this does not: v=spf1; mx -all"),
        (['"v=spf1 mx -all"'], "error", 'this does not: "v=spf1 mx -all"'),
        (["v=spf1 mx ?all"], "warning", "stops no forger"),
        (["v=spf1 mx"], "warning", "stops no forger"),
        (["v=spf1 ip4:203.0.113.5 -all"], "error", f"fail for {IPV6}"),
        (["v=spf1 ip6:2001:db8::5 ~all"], "error", f"softfail for {IPV4}"),
        (["v=spf1 mx ip4:not-an-address -all"], "error", "ip4:not-an-address"),
        (["v=spf1 mx mxx -all"], "error", "mxx"),
        ([MANY], "error", "more than 10"),
        (["v=spf1 mx include:gone1.example -all"], "error", "gone1.example"),
        (["v=spf1 a:g1.example a:g2.example a:g3.example mx -all"], "error", "more than 2 terms found nothing"),
    ],
)
async def test_a_fault_is_found(tmp_path: Path, records: list[str], level: str, said: str) -> None:
    finding = await spf_of(tmp_path, *records)
    assert (finding.level, said in finding.text) == (level, True), finding
    assert finding.mend


@pytest.mark.parametrize(
    "records",
    [
        ["v=spf1 ip4:198.51.100.7 include:s1.example ~all"],
        ["v=spf1 ip4:198.51.100.7 -ip4:203.0.113.0/24 -all"],
        ["v=spf1 redirect=s1.example"],
        ["v=spf1 mx exp=why.fwd.example -all", "v=spf1 include:s2.example ~all"],
        ["v=spf1 include:s1.example +all"],
        ["v=spf1 include:s1.example ip4:0.0.0.0/0 -all"],
        ["v=spf1 include:s1.example ip4:0.0.0.0/1 ip4:128.0.0.0/1 ip6:::/0 -all"],
        ["v=spf1 include:s1.example include:open.example -all"],
        ["v=spf1 exists:yes.example redirect=open.example"],
        ["v=spf1 a:ipv4-0.example a:ipv4-1.example a:ipv4-2.example mx -all"],
        ["v=spf1 mx ?all"],
        ["unrelated"],
        [MANY.replace("mx ", "").replace("include:s11.example include:s10.example ", "")],
    ],
)
async def test_the_mend_is_one_record_that_makes_it_green(tmp_path: Path, records: list[str]) -> None:
    before = await spf_of(tmp_path, *records)
    published = re.search(r'^fwd\.example\. 3600 IN TXT "(v=spf1 [^"]*)"$', before.mend, re.MULTILINE)
    if len(records[0]) > 150:  # it asks too much, whoever is in it
        assert published is None
        return
    assert published is not None, before
    assert before.level != "ok"
    after = await spf_of(tmp_path, published[1])
    assert after.level == "ok", (published[1], after)
    for term in ("include:s1.example", "include:s2.example", "ip4:198.51.100.7"):
        assert (term in published[1]) == any(term in record for record in records)


async def test_every_local_domain_counts(tmp_path: Path) -> None:
    findings = await spf.check(site(tmp_path, green(), senders={"local_domains": ["shop.example", "fwd.example"]}))
    assert levels(findings) == [("fwd.example", "ok"), ("shop.example", "error"), (HOST, "ok")]


@pytest.mark.parametrize(("records", "level"), [([], "warning"), (["v=spf1 -all"], "error"), (["v=spf1 a -all"], "ok")])
async def test_bounces_are_sent_in_the_name_of_the_host(tmp_path: Path, records: list[str], level: str) -> None:
    findings = await spf.check(site(tmp_path, green() | {(HOST, "TXT"): txt(*records)}))
    assert {finding.level for finding in findings if finding.subject == HOST} == {level}
    assert only(findings, "fwd.example").level == "ok"


async def test_a_host_that_is_the_domain_is_looked_at_once(tmp_path: Path) -> None:
    zone = green() | {("fwd.example", "A"): [IPV4]}
    assert levels(await spf.check(site(tmp_path, zone, hostname="fwd.example"))) == [("fwd.example", "ok")]


async def test_names_without_an_ipv6_address_are_no_fault(tmp_path: Path) -> None:
    names = "a:ipv4-0.example a:ipv4-1.example a:ipv4-2.example"
    assert (await spf_of(tmp_path, f"v=spf1 mx {names} -all")).level == "ok"
    assert (await spf_of(tmp_path, f"v=spf1 {names} mx -all", sends_from=[IPV4])).level == "ok"
    finding = await spf_of(tmp_path, f"v=spf1 {names} mx -all")
    assert finding.text.startswith(f"permerror for {IPV6}: more than 2 terms found nothing")


async def test_hosts_of_the_other_family_may_forge_too(tmp_path: Path) -> None:
    finding = await spf_of(tmp_path, "v=spf1 mx ip6:::/0 -all", sends_from=[IPV4])
    assert (finding.level, "ip6:::/0" in finding.text) == ("error", True)


async def test_only_the_families_that_mail_leaves_by_count(tmp_path: Path) -> None:
    assert (await spf_of(tmp_path, "v=spf1 ip4:203.0.113.5 -all", sends_from=[IPV4])).level == "ok"


async def test_behind_a_nat_the_addresses_in_dns_count(tmp_path: Path) -> None:
    finding = await spf_of(tmp_path, "v=spf1 mx -all", sends_from=["10.0.0.5"])
    assert finding.level == "ok" and IPV4 in finding.text and "10.0.0.5, which is private" in finding.text
    finding = await spf_of(tmp_path, f"v=spf1 ip4:{OTHER} -all", sends_from=["10.0.0.5"])
    assert finding.level == "error" and f"ip4:{IPV4}" in finding.mend and "10.0.0.5" not in finding.mend


async def test_where_nothing_is_known_of_the_address_it_says_so(tmp_path: Path) -> None:
    zone = {key: value for key, value in green().items() if key[1] != "A"}
    findings = await spf.check(site(tmp_path, zone, sends_from=["10.0.0.5"]))
    assert {finding.level for finding in findings} == {"warning"}
    assert "10.0.0.5" in findings[0].text
    findings = await spf.check(site(tmp_path, green(), sends_from=[]))
    assert "no route" in findings[0].text and findings[0].level == "warning"


SMARTHOST = {"smarthost": {"url": "smtp://smtp.provider.example:587"}}


@pytest.mark.parametrize(
    ("record", "level"),
    [
        ("v=spf1 mx -all", "warning"),
        ("v=spf1 include:s1.example -all", "ok"),
        (f"v=spf1 ip4:{OTHER} -all", "ok"),
        ("v=spf1 +all", "error"),
    ],
)
async def test_behind_a_smarthost_its_addresses_count(tmp_path: Path, record: str, level: str) -> None:
    zone: Zone = green() | INCLUDES | {("fwd.example", "TXT"): txt(record), ("smtp.provider.example", "A"): [OTHER]}
    findings = await spf.check(site(tmp_path, zone, delivery=SMARTHOST))
    assert levels(findings) == [("fwd.example", level), (HOST, "ok")]
    assert level == "error" or "smtp.provider.example" in findings[0].text + findings[0].mend


async def test_no_answer_is_an_error(tmp_path: Path) -> None:
    zone: Zone = green() | {("fwd.example", "TXT"): DnsFailure("fwd.example TXT: SERVFAIL")}
    finding = only(await spf.check(site(tmp_path, zone)), "fwd.example")
    assert (finding.level, "SERVFAIL" in finding.text) == ("error", True)
    assert levels(await run(site(tmp_path, {(HOST, "A"): DnsFailure("")}, sends_from=["10.0.0.5"]), ["spf"])) == [
        (HOST, "error")
    ]
    zone = green() | {("fwd.example", "MX"): DnsFailure("fwd.example MX: SERVFAIL")}
    finding = only(await spf.check(site(tmp_path, zone)), "fwd.example")
    assert (finding.level, "SERVFAIL" in finding.text) == ("error", True)


@pytest.mark.parametrize(
    ("record", "families"),
    [
        ("v=spf1 ip4:203.0.113.5 -all", '["ipv4"]'),
        ("v=spf1 ip6:2001:db8::5 -all", '["ipv6"]'),
        ("v=spf1 -all", ""),
    ],
)
async def test_a_family_that_is_not_meant_may_be_left_out(tmp_path: Path, record: str, families: str) -> None:
    """Postfix may have kept to one family (inet_protocols) before the relay took over."""
    mend = (await spf_of(tmp_path, record)).mend
    assert "v=spf1" in mend
    assert mend.partition("set delivery.families = ")[2] == families

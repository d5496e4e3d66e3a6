"""One budget of DNS questions for a message: what it costs at worst, that nobody gains by spending it, and that honest
mail is far from it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from relay.authenticate import arc, dkim, spf
from relay.authenticate.dkim import SIGNATURES
from relay.authenticate.dns_budget import ARC, DKIM, IPREV, QUESTIONS, SPF, Budget
from relay.authenticate.iprev import PTR_NAMES, iprev
from relay.cli.dry_run import DryRun, dry_run
from relay.config.file import load
from relay.config.model import Config
from relay.dns import DnsFailure, StaticResolver, TooManyQuestions
from relay.mail.message import Message
from relay.sign.keys import SigningKey, generate, parse
from tests.authenticate import sealing, signing
from tests.resolvers import RecordingResolver

PEM = generate("rsa2048")
KEY = parse(PEM)
CLIENT = "192.0.2.1"
NOW = signing.NOW

Zone = dict[tuple[str, str], Any]


def key(domain: str) -> SigningKey:
    return SigningKey(domain, "s1", KEY)


def published(*domains: str) -> Zone:
    return {(key(domain).record_name, "TXT"): [signing.strings(key(domain).public_record())] for domain in domains}


def policy(domain: str, text: str) -> Zone:
    return {(f"_dmarc.{domain}", "TXT"): [(f"v=DMARC1; {text}".encode(),)]}


def message(author: str) -> bytes:
    return f"From: {author}\r\nTo: alice@fwd.example\r\nSubject: x\r\n\r\nhello\r\n".encode()


def signed(content: bytes, *domains: str) -> bytes:
    for domain in domains:
        content = signing.signed(content, key(domain))
    return content


def sealed(content: bytes, *domains: str) -> bytes:
    for instance, domain in enumerate(domains, 1):
        content = sealing.sealed(content, instance, key=key(domain))
    return content


# --- counting


async def test_a_question_counts_once_for_all() -> None:
    resolver = RecordingResolver({("a.example", "A"): ["192.0.2.1"]})
    budget = Budget(resolver)
    for name in ("a.example", "A.Example", "a.example."):
        assert (await budget.spf.query(name, "A")).records == ("192.0.2.1",)
    await budget.authors.query("a.example", "TXT")
    assert budget.asked == 2


async def test_what_failed_is_not_asked_again() -> None:
    resolver = RecordingResolver({("a.example", "A"): DnsFailure("a.example A: SERVFAIL")})
    budget = Budget(resolver)
    for _ in range(2):
        with pytest.raises(DnsFailure, match="SERVFAIL"):
            await budget.spf.query("a.example", "A")
    assert resolver.asked == [("a.example", "A")]


async def test_each_check_leaves_something_to_those_that_follow() -> None:
    budget = Budget(RecordingResolver({}))
    budgeted_resolvers = [budget.spf, budget.iprev, budget.arc, budget.dkim, budget.authors]
    for number, budgeted in enumerate(budgeted_resolvers):
        with pytest.raises(TooManyQuestions, match=rf"^{number}-\d+\.example TXT"):
            for count in range(QUESTIONS + 1):
                await budgeted.query(f"{number}-{count}.example", "TXT")
        assert budget.asked == budgeted.limit
        await budgeted.query("0-0.example", "TXT")  # asked before
    assert budget.asked == QUESTIONS
    assert IPREV - SPF >= PTR_NAMES + 1 and DKIM - ARC >= SIGNATURES and SPF < IPREV <= ARC


# --- what each check makes of it


def spf_at_its_limits(domain: str, hosts: int = 10) -> Zone:
    """Ten `mx`, ten hosts each: as much as RFC 7208 section 4.6.4 allows."""
    zone: Zone = {(domain, "TXT"): [(f"v=spf1 {' '.join(f'mx:m{n}.{domain}' for n in range(10))} -all".encode(),)]}
    for n in range(10):
        zone[f"m{n}.{domain}", "MX"] = [(10, f"h{k}.m{n}.{domain}") for k in range(hosts)]
        zone |= {(f"h{k}.m{n}.{domain}", "A"): ["198.51.100.1"] for k in range(hosts)}
    return zone


@pytest.mark.parametrize(("hosts", "result"), [(5, "fail"), (10, "permerror")])
async def test_spf_past_its_share_is_a_limit_exceeded(hosts: int, result: str) -> None:
    budget = Budget(RecordingResolver(spf_at_its_limits("d.example", hosts)))
    found = await spf.check(budget.spf, ip=CLIENT, helo="h.example", sender="u@d.example", receiver="r.example")
    assert found.result == result and budget.asked <= SPF
    assert ("too many questions" in found.problem) is (result == "permerror")


async def test_an_explanation_that_may_not_be_asked_for_is_left_out() -> None:
    zone: Zone = {("d.example", "TXT"): [(b"v=spf1 -all exp=why.d.example",)], ("why.d.example", "TXT"): [(b"so",)]}
    budget = Budget(RecordingResolver(zone))
    for number in range(SPF - 1):
        await budget.spf.query(f"{number}.example", "A")
    found = await spf.check(budget.spf, ip=CLIENT, helo="h.example", sender="u@d.example", receiver="r.example")
    assert (found.result, found.explanation) == ("fail", "")


async def test_signatures_and_chains_past_the_budget_are_no_temporary_error() -> None:
    zone = published("a.example")
    budget = Budget(RecordingResolver(zone))
    for number in range(QUESTIONS):
        await budget.authors.query(f"{number}.example", "A")
    (signature,) = await dkim.verify(Message(signed(message("a@a.example"), "a.example")), budget.dkim, NOW)
    assert (signature.result, "too many questions" in signature.problem) == ("policy", True)
    chain = await arc.verify(Message(sealed(message("a@a.example"), "a.example")), budget.arc, NOW)
    assert (chain.result, chain.temporary) == ("fail", False)


async def test_the_clients_name_is_always_found() -> None:
    zone: Zone = {("1.2.0.192.in-addr.arpa", "PTR"): [f"h{n}.example" for n in range(PTR_NAMES)]}
    zone[f"h{PTR_NAMES - 1}.example", "A"] = [CLIENT]
    budget = Budget(RecordingResolver(zone))
    for number in range(SPF):
        await budget.spf.query(f"{number}.d.example", "A")
    assert (await iprev(budget.iprev, CLIENT)).result == "pass"


# --- whole messages, on the way to the reply


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    folder = tmp_path_factory.mktemp("relay")
    (folder / "srs.secret").write_bytes(b"tops3cr3t\n")
    (folder / "relay1.pem").write_bytes(PEM)
    (folder / "aliases").write_text("alice@fwd.example carol@mailbox.example\n")
    return configured(folder)


def configured(folder: Path) -> Config:
    for file in folder.iterdir():
        file.chmod(0o600)
    (folder / "relay.toml").write_text(
        """
        hostname = "mx.fwd.example"
        listen = [{address = "127.0.0.1:2525"}]
        senders = {local_domains = ["fwd.example", "a.b.c.d.city.example"]}
        srs = {domain = "fwd.example", secrets_file = "srs.secret"}
        dkim = [{domain = "fwd.example", selector = "s1", private_key = "relay1.pem"}]
        routes = {aliases = "aliases"}
        """
    )
    return load(folder / "relay.toml")


@pytest.fixture(autouse=True)
def _when_it_was_signed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr("relay.authenticate.examiner.time.time", lambda: float(NOW))
    yield


async def way(config: Config, zone: Zone, content: bytes, sender: str = "x@evil.example") -> tuple[DryRun, int]:
    """What becomes of a message from `CLIENT`, and how many questions it cost."""
    found = await dry_run(
        config,
        StaticResolver(zone),
        Message(content),
        ip=CLIENT,
        helo="mx.evil.example",
        sender=sender,
        recipients=["alice@fwd.example"],
        next_hop_view=False,
    )
    return found, len(found.asked)


EVIL = [f"d{n}.evil.example" for n in range(SIGNATURES)]
SEALERS = [f"s{n}.evil.example" for n in range(50)]
DEEP = [f"x@a.b.c.d.e.f{n}.g{n}.h{n}" for n in range(9)]
BANK = policy("bank.example", "p=reject")
ALL_KEYS = published(*EVIL, *SEALERS)
REVERSE: Zone = {("1.2.0.192.in-addr.arpa", "PTR"): [f"p{n}.evil.example" for n in range(12)]}
OPEN: Zone = {("evil.example", "TXT"): [(b"v=spf1 +all",)]}


@pytest.mark.parametrize(
    ("zone", "content"),
    [
        (spf_at_its_limits("evil.example"), message("ceo@bank.example")),
        (OPEN | ALL_KEYS, signed(message("ceo@bank.example"), *EVIL)),
        (spf_at_its_limits("evil.example") | ALL_KEYS, signed(sealed(message("ceo@bank.example"), *SEALERS), *EVIL)),
        (
            spf_at_its_limits("evil.example") | ALL_KEYS | REVERSE,
            signed(sealed(message(", ".join([*DEEP, "ceo@bank.example"])), *SEALERS), *EVIL),
        ),
        (
            spf_at_its_limits("evil.example") | ALL_KEYS | REVERSE,
            signed(sealed(message(", ".join(["ceo@bank.example", *DEEP])), *SEALERS), *EVIL),
        ),
    ],
    ids=["SPF", "signatures", "SPF, signatures and a chain", "and many authors", "and many authors, behind"],
)
async def test_whoever_spends_the_budget_does_not_get_past_a_policy(config: Config, zone: Zone, content: bytes) -> None:
    found, questions = await way(config, {**zone, **BANK}, content)
    assert questions <= QUESTIONS
    assert found.steps[-1].reply.startswith("550 5.7.26") and "bank.example" in found.steps[-1].reply


@pytest.mark.parametrize("result", ["unknown", "published"])
async def test_signatures_deep_in_the_authors_name_do_not_get_past_its_policy(config: Config, result: str) -> None:
    """Ten walks up the tree, of 80 names. The keys are there, or may be, and nobody may be asked whose they are."""
    signers = [f"a.b.c.d{n}.e{n}.f{n}.g{n}.bank.example" for n in range(SIGNATURES)]
    zone = spf_at_its_limits("evil.example") | policy("bank.example", "p=reject; psd=y")
    for signer in signers:
        name = f"s1._domainkey.{signer}"
        zone |= {(name, "TXT"): DnsFailure(f"{name}: SERVFAIL")} if result == "unknown" else published(signer)
    found, questions = await way(config, zone, signed(message("ceo@bank.example"), *signers))
    assert questions <= QUESTIONS
    assert found.steps[-1].reply.startswith("550 5.7.26")


async def test_more_authors_than_are_looked_at_cost_nothing(config: Config) -> None:
    for domain in ("city.example", "fwd.example", "elsewhere.example"):
        content = message(", ".join(f"x@a.b.c.n{n}.{domain}" for n in range(11)))
        found, questions = await way(config, OPEN | BANK, content)
        assert found.steps[-1].reply.startswith("550 5.7.1 more than 10 domains")
        assert {one.name for one in found.asked} <= {"evil.example", "1.2.0.192.in-addr.arpa"}, questions


async def test_authors_below_what_is_above_us_cost_a_walk_each(config: Config) -> None:
    content = message(", ".join(f"x@a.b.c.d.e{n}.city.example" for n in range(10)))
    found, questions = await way(config, OPEN, content)
    assert found.accepted and questions < 60


async def test_many_domains_of_ours_do_not_cost_a_stranger_who_is_no_kin(config: Config) -> None:
    ours = tuple(f"d{n}.city.example" for n in range(200))
    many = config.model_copy(update={"senders": config.senders.model_copy(update={"local_domains": ours})})
    found, questions = await way(many, OPEN | published("shop.city.example"), message("x@shop.city.example"))
    assert found.accepted and questions < 10


SHOP = policy("shop.example", "p=reject")


def includes(domain: str) -> Zone:
    """An SPF record with ten look-ups, one of them an `mx` with four hosts."""
    names = " ".join(f"include:i{n}.esp.example" for n in range(9))
    zone: Zone = {(domain, "TXT"): [(f"v=spf1 {names} mx -all".encode(),)]}
    zone |= {(f"i{n}.esp.example", "TXT"): [(b"v=spf1 ip4:203.0.113.0/24 -all",)] for n in range(9)}
    zone[domain, "MX"] = [(10, f"mx{n}.{domain}") for n in range(4)]
    return zone | {(f"mx{n}.{domain}", "A"): [CLIENT if n == 3 else "203.0.113.1"] for n in range(4)}


@pytest.mark.parametrize(
    "content",
    [
        signed(message("news@shop.example"), "shop.example", "esp.example", "mail.shop.example", "fbl.esp.example"),
        sealed(signed(message("ann@a.b.c.d.e.shop.example"), "shop.example"), "l0.example", "l1.example", "l2.example"),
        message("a.b@dept.shop.example, news@shop.example"),
    ],
    ids=["a newsletter with four signatures", "a list with a chain of three", "two authors of one house"],
)
async def test_honest_mail_is_far_from_the_budget(config: Config, content: bytes) -> None:
    keys = published(
        *("shop.example", "esp.example", "mail.shop.example", "fbl.esp.example"),
        *("l0.example", "l1.example", "l2.example"),
    )
    zone = SHOP | includes("bounce.shop.example") | keys
    found, questions = await way(config, zone, content, "b@bounce.shop.example")
    assert found.accepted and questions <= QUESTIONS // 4
    assert found.verdict is not None and found.verdict.dmarc is not None
    assert found.verdict.dmarc.result == "pass"
    assert {one.result for one in found.verdict.dkim} <= {"pass"} and found.verdict.arc.result != "fail"

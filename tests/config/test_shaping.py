"""The rules about replies of providers: each of the package with its example, and what a configuration changes."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from relay.config.model import Config
from relay.config.sections import ShapingSection
from relay.config.shaping import Rule, ShapingRules, known_providers, read_file
from relay.deliver.classify import Phase, classify
from relay.mail.outcome import Outcome
from relay.metrics import PROVIDERS

PACKAGE = ShapingRules(())
MX = {provider["name"]: provider.get("mx", ["mx.example.net"])[0] for provider in read_file()}
RULES = [(provider["name"], rule) for provider in read_file() for rule in provider.get("rules", ())]
BEFORE_RCPT: tuple[Phase, ...] = ("greeting", "hello", "mail")


def reply(text: str, host: str, phase: Phase = "mail") -> Outcome:
    code, _, rest = text.partition(" ")
    return replace(classify(phase, int(code), rest), host=host.replace("*", "host7"))


def entry(**keys: Any) -> ShapingSection:
    return ShapingSection.model_validate({"name": "mine", **keys})


def found(rules: ShapingRules, text: str, host: str, phase: Phase = "mail") -> str:
    rule = rules.find(reply(text, host, phase))
    return "" if rule is None else rule.name


@pytest.mark.parametrize(("provider", "keys"), RULES, ids=[rule["name"] for _, rule in RULES])
def test_the_example_of_a_rule_gets_that_rule(provider: str, keys: dict[str, Any]) -> None:
    phases: list[Phase] = keys.get("phases") or ["mail", "rcpt", "message"]
    expected = "" if keys["action"] == "ignore" else keys["name"]
    assert {found(PACKAGE, keys["example"], MX[provider], phase) for phase in phases} == {expected}
    assert keys["source"]


@pytest.mark.parametrize(("provider", "keys"), RULES, ids=[rule["name"] for _, rule in RULES])
def test_a_rule_of_a_provider_holds_for_its_hosts_alone(provider: str, keys: dict[str, Any]) -> None:
    liar = "mx." + MX[provider].removeprefix("*.").replace(".", "-") + ".liar.example"
    below = MX[provider].removeprefix("*.") + ".liar.example"
    for host in (liar, below, "", "mx.liar.example"):
        names = {found(PACKAGE, keys["example"], host, phase) for phase in BEFORE_RCPT}
        assert names <= {"", *(rule["name"] for name, rule in RULES if not name)}


def test_an_exception_hides_a_rule_behind_it() -> None:
    """Otherwise it would be of no use."""
    names = [keys["name"] for _, keys in RULES if keys["action"] == "ignore"]
    for provider, keys in RULES:
        if keys["name"] in names:
            without = ShapingRules([ShapingSection(name=keys["name"], phases=("data",))])
            assert found(without, keys["example"], MX[provider], "message") or keys["name"] == "apple-one-mailbox"


@pytest.mark.parametrize(
    ("text", "provider", "phase"),
    [
        # one mailbox
        ("450 4.2.1 The user you are trying to contact is receiving mail too quickly.", "google", 0),
        ("450 4.2.1 The user you are trying to contact is receiving mail at a rate that prevents it", "google", "rcpt"),
        ("452 4.2.2 The email account that you tried to reach is over quota.", "google", "rcpt"),
        ("552 5.2.2 The recipient's inbox is out of storage space.", "google", "rcpt"),
        ("452 4.5.3 Your message has too many recipients.", "google", "rcpt"),
        ("550 5.1.1 The email account that you tried to reach does not exist.", "google", "rcpt"),
        ("452 4.2.2 mailbox full", "outlook", "rcpt"),
        ("550 5.5.0 Requested action not taken: mailbox unavailable (S2017062302).", "outlook", "rcpt"),
        ("552 1 Requested mail action aborted, mailbox not found", "yahoo", "rcpt"),
        ("554 delivery error: dd This user doesn't have a yahoo.com account", "yahoo", "message"),
        ("552 5.2.2 <user@icloud.com>: user is over quota", "apple", "rcpt"),
        ("450 4.2.1 <u@example.com>: Mailbox received too much email (G30)", "rackspace", "rcpt"),
        ("451 4.5.1 The recipient <u@yandex.com> has exceeded their message rate limit.", "", "message"),
        ("450 4.2.1 too many connections to this mailbox", "", "rcpt"),
        # one message, or its sender
        ("421 4.7.0 Our system has detected that this message is suspicious due to the very low reputation of the "
         "sending domain.", "google", "message"),
        ("421 4.7.0 [192.0.2.25 15] Our system has detected that this message is suspicious due to the very low "
         "reputation of the sending domain. To protect our users from spam, mail sent from your IP address has been "
         "temporarily rate limited.", "google", "message"),
        ("421 4.7.28 Gmail has detected an unusual rate of unsolicited mail containing one of your URL domains. To "
         "protect our users from spam, mail with your URL domain has been temporarily rate limited.", "google",
         "message"),
        ("421 4.7.28 Gmail has detected this sender exceeded the quota for sending messages that have the same "
         "Message-ID: <1@example.com>.", "google", "message"),
        ("550 5.7.26 This mail has been blocked because the sender is unauthenticated.", "google", "message"),
        ("550 5.7.1 Our system has detected that this message is likely unsolicited mail.", "google", "message"),
        ("421 4.7.28 too fast, says the administrator of example.com - gcdp", "google", "message"),
        ("550 5.7.515 Access denied, sending domain example.com does not meet the required authentication level",
         "outlook", "message"),
        ("554 5.7.9 Message not accepted for policy reasons. See our page", "yahoo", "message"),
        ("550 5.7.1 Your message was rejected due to example.com DMARC policy.", "apple", "message"),
        ("550 5.7.1 Your email was rejected due to having a domain present in the Spamhaus DBL", "apple", "message"),
        ("550 Reject due to SPF policy. The originating IP is not permitted by the domain owner", "united-internet", 0),
        ("550 spam message rejected. Please visit http://help.mail.ru/notspam-support/id", "", "message"),
        ("554 5.7.1 Message contains a virus", "", "message"),
        # what a customer of the provider may write
        ("550 5.7.1 part of their network is on our block list (S3140)", "microsoft365", "message"),
        ("550 5.7.1 go away (S3150)", "microsoft365", "rcpt"),
        ("554 5.7.1 too many connections", "", "message"),
        # greylisting and the rest of everyday
        ("451 4.7.1 Greylisted, please try again in 300 seconds", "", "rcpt"),
        ("450 4.7.1 Client host rejected: cannot find your reverse hostname", "", "rcpt"),
        ("451 4.3.0 Mail server temporarily rejected message.", "google", "message"),
        ("451 Internal resource temporarily unavailable - see DOC-1369", "mimecast", "rcpt"),
        ("451 4.3.0 Temporary lookup failure", "", "rcpt"),
        ("421 4.4.2 mx.example.net Error: timeout exceeded", "", "data"),
        ("452 4.3.1 Insufficient system storage", "", "mail"),
        ("452 too many recipients", "", "rcpt"),
        ("454 4.7.0 TLS not available", "", "mail"),
        ("250 2.0.0 OK", "google", "message"),
    ],
)  # fmt: skip
def test_what_is_not_about_this_host_slows_nothing(text: str, provider: str, phase: Phase) -> None:
    assert found(PACKAGE, text, MX[provider], phase or "rcpt") == ""


GMAIL = (  # as it comes: the code before each line, spaces that fill up, and the end of a sentence anywhere
    "{0} [178.32.59.28      15] Our system has detected an unusual rate of\n{0} unsolicited mail originating from your "
    "IP address. To protect our\n{0} users from spam, mail sent from your IP address has been {1}\n{0}  "
    "https://support.google.com/mail/?p=UnsolicitedRateLimitError to\n{0} review our Bulk Email Senders Guidelines. "
    "g8-v6si13825966lji.127 - gsmtp"
)
LOW_REPUTATION = (
    "4.7.0 [192.0.2.25      15] Our system has detected that this message is\n4.7.0 suspicious due to the very low "
    "reputation of the sending IP address.\n4.7.0 To protect our users from spam, mail sent from your IP address has\n"
    "4.7.0 been temporarily rate limited. Please visit\n4.7.0  https://support.google.com/mail/answer/188131"
)
GMX = (
    "gmx.net (mxgmx104) Nemesis ESMTP Service not available\nNo SMTP service\nIP address is block listed.\n"
    "For explanation visit https://postmaster.gmx.net/en/case?c=r0201&i=ip&v=192.0.2.25"
)
TSS09 = "5.7.2 [TSS09] All messages from 192.0.2.25 will be permanently deferred; Retrying will NOT succeed."
HCM2 = "5.7.1 [HCM2] Your mail from 192.0.2.25 was rejected. https://support.apple.com/en-us/HT204137"


@pytest.mark.parametrize(
    ("code", "text", "provider", "phases", "rule"),
    [
        (421, GMAIL.format("4.7.0", "temporarily\n4.7.0 rate limited. Please visit"), "google",
         (*BEFORE_RCPT, "rcpt", "message"), "google-rate-before-2023"),
        (421, GMAIL.format("4.7.28", "temporarily\n4.7.28 rate limited. Please visit"), "google",
         (*BEFORE_RCPT, "rcpt", "message"), "google-rate"),
        (550, GMAIL.format("5.7.1", "blocked."), "google", (*BEFORE_RCPT, "message"), "google-address-blocked"),
        (421, LOW_REPUTATION, "google", ("message",), "google-rate-before-2023"),
        (554, GMX, "united-internet", ("greeting",), "united-internet-blocked"),
        (553, TSS09, "yahoo", BEFORE_RCPT, "yahoo-deferred-for-good"),
        (550, HCM2, "apple", ("mail", "rcpt", "message"), "apple-address-refused"),
    ],
)  # fmt: skip
def test_replies_of_several_lines_get_their_rule(
    code: int, text: str, provider: str, phases: tuple[Phase, ...], rule: str
) -> None:
    assert {found(PACKAGE, f"{code} {text}", MX[provider], phase) for phase in phases} == {rule}


def test_microsoft_365_and_outlook_have_the_same_rules_and_are_apart() -> None:
    consumer, business = "eur.olc.protection.outlook.com", "example-com.mail.protection.outlook.com"
    text = "451 4.7.650 The mail server [192.0.2.25] has been temporarily rate limited due to IP reputation."
    assert found(PACKAGE, text, consumer) == found(PACKAGE, text, business) == "microsoft-reputation"
    assert (PACKAGE.provider_of(consumer), PACKAGE.provider_of(business)) == ("outlook", "microsoft365")


def test_a_host_is_known_by_the_end_of_its_name() -> None:
    assert PACKAGE.provider_of("gmail-smtp-in.l.google.com") == "google"
    assert PACKAGE.provider_of("ASPMX.L.GOOGLE.COM.") == "google"
    assert PACKAGE.provider_of("google.com") == PACKAGE.provider_of("notgoogle.com") == PACKAGE.provider_of("") == ""


def test_the_metrics_know_the_providers_of_the_package() -> None:
    assert known_providers() == PROVIDERS


# what the configuration changes


def test_an_entry_changes_the_keys_that_it_has_of_a_rule_of_the_package() -> None:
    rules = ShapingRules([ShapingSection.model_validate({"name": "yahoo-deferred", "pause": "60s"})])
    before, after = rule_named(PACKAGE, "yahoo-deferred"), rule_named(rules, "yahoo-deferred")
    assert after == replace(before, pause=60.0) and before.pause == 1800.0
    assert [rule.name for rule in rules.rules] == [rule.name for rule in PACKAGE.rules]


def test_an_entry_switches_a_rule_off() -> None:
    text = "421 4.7.0 [TSS04] Messages from 192.0.2.25 temporarily deferred"
    rules = ShapingRules([ShapingSection(name="yahoo-deferred", action="ignore")])
    assert found(PACKAGE, text, MX["yahoo"]) and not found(rules, text, MX["yahoo"])


def test_a_new_rule_goes_before_those_of_the_package() -> None:
    text = "421 4.7.0 [TSS04] Messages from 192.0.2.25 temporarily deferred"
    mine = entry(provider="yahoo", text=["[tss04]"], action="slow")
    assert found(ShapingRules([mine]), text, MX["yahoo"]) == "mine"
    assert found(ShapingRules([mine]), text, "mx.example.net") == ""


def test_a_new_provider_has_its_hosts_in_mx() -> None:
    rules = ShapingRules(
        [
            entry(mx=["*.mx.provider.example"], codes=[451], action="pause"),
            entry(name="second", provider="mine", codes=[452], action="slow"),
        ]
    )
    assert rules.provider_of("a.mx.provider.example") == "mine" and rules.provider_of("mx.provider.example") == ""
    assert found(rules, "451 4.3.0 no", "a.mx.provider.example") == "mine"
    assert found(rules, "452 4.3.0 no", "a.mx.provider.example") == "second"
    assert found(rules, "451 4.3.0 no", "a.mx.other.example") == ""


def test_an_entry_adds_hosts_to_a_provider() -> None:
    rules = ShapingRules([ShapingSection(name="google-rate", mx=("mx.google.example",))])
    text = "421 4.7.28 Our system has detected an unusual rate of unsolicited mail originating from your IP address."
    assert found(rules, text, "mx.google.example") == found(rules, text, MX["google"]) == "google-rate"


def test_without_the_package_only_its_entries_hold() -> None:
    rules = ShapingRules([entry(codes=[451], action="slow")], with_package=False)
    assert [rule.name for rule in rules.rules] == ["mine"]
    assert rules.provider_of(MX["google"]) == ""


@pytest.mark.parametrize(
    ("entries", "problem"),
    [
        ([{"name": "mine", "codes": [451]}], "delivery.shaping.0.action: it is missing"),
        ([{"name": "mine", "action": "slow"}], "delivery.shaping.0: one of codes, status and text is needed"),
        ([{"name": "mine", "action": "slow", "codes": [451], "provider": "gogle"}], "delivery.shaping.0.provider"),
        ([{"name": "mine", "action": "slow", "codes": [451]}] * 2, "delivery.shaping.1.name: mine stands there twice"),
        ([{"name": "google-rate"}] * 2, "delivery.shaping.1.name: google-rate stands there twice"),
        ([{"name": "google-rate", "codes": [], "status": []}], "delivery.shaping.0: one of codes, status and text"),
        ([{"name": "mine", "action": "slow", "codes": [250]}], "400"),
        ([{"name": "mine", "action": "slow", "text": ["**a"]}], "says too little"),
        ([{"name": "mine", "action": "slow", "status": ["4.7"]}], "status"),
        ([{"name": "mine", "action": "slow", "codes": [451], "mx": ["*"]}], "mx"),
        ([{"name": "mine", "action": "halt", "codes": [451]}], "action"),
    ],
)
def test_an_entry_that_cannot_be_used_is_refused(entries: list[dict[str, Any]], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        Config.model_validate(
            {
                "hostname": "mx.test",
                "listen": [{"address": "127.0.0.1:0"}],
                "srs": {"domain": "fwd.test", "secrets_file": "/dev/null"},
                "delivery": {"shaping": entries},
            }
        )


def test_a_text_is_looked_for_in_any_case_and_with_anything_for_a_star() -> None:
    rules = ShapingRules([entry(text=["From * Deferred"], action="slow")])
    assert found(rules, "451 messages FROM 192.0.2.25 are deferred", "mx.example.net") == "mine"
    assert found(rules, "451 deferred mail from 192.0.2.25", "mx.example.net") == ""


def test_a_hostile_reply_takes_no_time() -> None:
    """No text can make the search go back."""
    rules = ShapingRules([entry(text=["*".join(["aa"] * 60)], action="slow")])
    outcome = reply("451 " + "a" * 400_000, "mx.example.net")
    began = time.process_time()
    for _ in range(100):
        rules.find(outcome)
    assert time.process_time() - began < 1.0


def rule_named(rules: ShapingRules, name: str) -> Rule:
    return next(rule for rule in rules.rules if rule.name == name)


@pytest.mark.parametrize(("provider", "keys"), RULES, ids=[rule["name"] for _, rule in RULES])
def test_the_page_has_every_rule_with_its_action(provider: str, keys: dict[str, Any]) -> None:
    page = (Path(__file__).parents[2] / "docs" / "shaping.md").read_text(encoding="utf-8")
    assert f"| `{keys['name']}` | {keys['action']}" in page

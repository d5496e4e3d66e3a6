"""Postfix, as far as mail leaves."""

from __future__ import annotations

from pathlib import Path

import pytest

from relay.importer.text import config_text, summary
from tests.importer.loading import loaded, meanings
from tests.importer.postfix_site import site

SMARTHOST = ("delivery", "smarthost")
LOGIN = "relayhost = [h.example]:587\nsmtp_sasl_auth_enable = yes\n"


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("relayhost = [h.example]:587\n", "smtp://h.example:587"),
        ("relayhost = [h.example]\n", "smtp://h.example:25"),
        ("relayhost = h.example\n", "smtp://h.example:25"),
        ("relayhost = [h.example]:465\nsmtp_tls_wrappermode = yes\n", "smtps://h.example:465"),
        ("relayhost = [192.0.2.1]\n", "smtp://192.0.2.1:25"),
        ("transport_maps = inline:{ *=smtp:[gw.example]:26 }\n", "smtp://gw.example:26"),
        ("transport_maps = inline:{ *=error:no }\n", None),
        ("relayhost =\n", None),
    ],
)
def test_the_smarthost(tmp_path: Path, text: str, url: str | None) -> None:
    smarthost = loaded(tmp_path, site(tmp_path, text)).delivery.smarthost
    assert (str(smarthost.url) if smarthost else None) == url


@pytest.mark.parametrize("key", ["[h.example]:587", "[h.example]", "h.example"])
def test_the_login_is_found_as_postfix_finds_it(tmp_path: Path, key: str) -> None:
    draft = site(
        tmp_path, f"{LOGIN}smtp_sasl_password_maps = hash:/etc/postfix/sasl\n", sasl=f"x y:z\n{key} fwd:s3:cret=\n"
    )
    smarthost = loaded(tmp_path, draft).delivery.smarthost
    assert smarthost is not None and smarthost.password_file is not None
    assert (smarthost.user, smarthost.password_file.read_text()) == ("fwd", "s3:cret=\n")
    assert smarthost.tls_level == "verify"


@pytest.mark.parametrize(
    "table",
    [
        "hash:/etc/postfix/sasl",
        "static:fwd:s3cret",
        "static:{fwd:s3cret}",
        "inline:{ [h.example]:587=fwd:s3cret }",
        "inline:{ x=fwd:s3cret }",
    ],
)
def test_a_password_is_never_shown(tmp_path: Path, table: str) -> None:
    draft = site(tmp_path, f"{LOGIN}smtp_sasl_password_maps = {table}\n", sasl="[h.example]:587 fwd:s3cret\n")
    assert "s3cret" not in config_text(draft) + "\n".join(summary(draft))


def test_a_login_that_is_not_there_is_named(tmp_path: Path) -> None:
    draft = site(tmp_path, f"{LOGIN}smtp_sasl_password_maps = mysql:/x, hash:/etc/postfix/sasl\n", sasl="x y:z\n")
    assert draft.value(SMARTHOST, "user") is None
    said = meanings(draft)
    assert "password_file" in said["smtp_sasl_password_maps = mysql:/x"]
    assert "no entry for [h.example]:587" in said["smtp_sasl_password_maps"]


@pytest.mark.parametrize(
    ("text", "tls", "said"),
    [
        ("", "may", False),
        ("smtp_tls_security_level = none\n", "none", False),
        ("smtp_tls_security_level = encrypt\n", "require", False),
        ("smtp_tls_security_level = secure\n", "verify", True),
        ("smtp_tls_security_level = dane\n", "may", False),
        ("smtp_tls_security_level = dane-only\n", "require", True),
        ("smtp_tls_security_level = nonsense\n", "may", True),
        ("smtp_use_tls = yes\n", "may", False),
        ("smtp_enforce_tls = yes\n", "verify", False),
    ],
)
def test_tls(tmp_path: Path, text: str, tls: str, said: bool) -> None:
    draft = site(tmp_path, text)
    assert loaded(tmp_path, draft).delivery.tls == tls
    assert ("smtp_tls_security_level" in meanings(draft)) is said


@pytest.mark.parametrize(("level", "tls", "said"), [("may", "verify", True), ("encrypt", "require", False)])
def test_a_password_needs_tls(tmp_path: Path, level: str, tls: str, said: bool) -> None:
    text = f"{LOGIN}smtp_sasl_password_maps = static:a:b\nsmtp_tls_security_level = {level}\n"
    draft = site(tmp_path, text)
    smarthost = loaded(tmp_path, draft).delivery.smarthost
    assert smarthost is not None and smarthost.tls_level == tls
    assert ("smtp_tls_security_level" in meanings(draft)) is said


def test_addresses_and_families(tmp_path: Path) -> None:
    draft = site(
        tmp_path, "smtp_bind_address = 192.0.2.1\nsmtp_bind_address6 = 2001:db8::1\nsmtp_address_preference = ipv4\n"
    )
    delivery = loaded(tmp_path, draft).delivery
    assert (str(delivery.source_ipv4), str(delivery.source_ipv6)) == ("192.0.2.1", "2001:db8::1")
    assert delivery.families == ("ipv4", "ipv6")
    assert loaded(tmp_path, site(tmp_path, "inet_protocols = ipv4\n")).delivery.families == ("ipv4",)
    assert loaded(tmp_path, site(tmp_path, "inet_protocols = all\n")).delivery.families == ("ipv6", "ipv4")
    assert "no IPv4 address" in meanings(site(tmp_path, "smtp_bind_address = ::1\n"))["smtp_bind_address"]


def test_the_queue(tmp_path: Path) -> None:
    draft = site(
        tmp_path,
        "maximal_queue_lifetime = 3\nbounce_queue_lifetime = 12h\nminimal_backoff_time = 600\n"
        "maximal_backoff_time = 2h\nsmtp_destination_concurrency_limit = 7\n",
    )
    config = loaded(tmp_path, draft)
    assert (config.queue.retry_for, config.queue.bounce_retry_for) == (3 * 86400, 12 * 3600)
    assert (config.queue.retry_min, config.queue.retry_max, config.delivery.concurrency) == (600, 7200, 7)


def test_times_that_cannot_be_are_named(tmp_path: Path) -> None:
    draft = site(tmp_path, "bounce_queue_lifetime = 0\nminimal_backoff_time = 300s\nmaximal_backoff_time = 100s\n")
    assert "bounce_queue_lifetime" in meanings(draft)
    queue = loaded(tmp_path, draft).queue
    assert queue.retry_min == queue.retry_max == 300

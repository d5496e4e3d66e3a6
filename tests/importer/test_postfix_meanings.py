"""Parameters of Postfix without a counterpart: named where they make a difference."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.importer.loading import meanings
from tests.importer.postfix_site import site


@pytest.mark.parametrize(
    ("text", "name", "said"),
    [
        ("header_checks = regexp:/x\n", "header_checks", "patterns"),
        ("smtpd_sasl_exceptions_networks = 10.0.0.0/8\n", "smtpd_sasl_exceptions_networks", "every client"),
        ("smtp_dns_support_level = dnssec\n", "smtp_dns_support_level", "dns.trust_ad"),
        ("content_filter = amavis:[127.0.0.1]:10024\n", "content_filter", "filter"),
        ("always_bcc = a@b.example\n", "always_bcc", "copies"),
        ("sender_canonical_maps = tcp:localhost:10001\n", "sender_canonical_maps", "import postsrsd"),
        (
            "sender_canonical_maps = socketmap:inet:localhost:10003:forward\n",
            "sender_canonical_maps",
            "import postsrsd",
        ),
        ("sender_canonical_maps = hash:/x\n", "sender_canonical_maps", "not rewritten by tables"),
        ("smtpd_milters = inet:localhost:8891\n", "smtpd_milters", "import opendkim"),
        ("smtpd_milters = local:opendkim/opendkim.sock\n", "smtpd_milters", "import opendkim"),
        ("smtpd_milters = unix:/opendmarc/opendmarc.sock\n", "smtpd_milters", "import opendmarc"),
        ("smtpd_milters = inet:localhost:11332\n", "smtpd_milters", "rspamd"),
        ("non_smtpd_milters = inet:localhost:1\n", "non_smtpd_milters", "no milter is called"),
        (
            "smtpd_recipient_restrictions = permit, check_policy_service unix:private/policyd-spf\n",
            "smtpd_recipient_restrictions",
            "import policyd-spf",
        ),
        ("smtpd_client_restrictions = reject_rbl_client zen.example\n", "smtpd_client_restrictions", "DNS lists"),
        (
            "smtpd_recipient_restrictions = check_policy_service inet:127.0.0.1:10023\n",
            "smtpd_recipient_restrictions",
            "greylisting",
        ),
        ("smtpd_sender_restrictions = check_sender_access hash:/x\n", "smtpd_sender_restrictions", "by tables"),
        ("smtpd_relay_restrictions = permit_mx_backup\n", "smtpd_relay_restrictions", "route for each"),
        ("smtpd_relay_restrictions = permit_tls_clientcerts\n", "smtpd_relay_restrictions", "certificates"),
        ("strict_mime_encoding_domain = yes\n", "strict_mime_encoding_domain", "does not read"),
        ("recipient_delimiter = -\n", "recipient_delimiter", '"+"'),
        ("relay_domains = r.example\n", "relay_domains", "domains below"),
    ],
)
def test_what_changes_for_mail_is_said(tmp_path: Path, text: str, name: str, said: str) -> None:
    assert said in meanings(site(tmp_path, text))[name]


@pytest.mark.parametrize(
    "text",
    [
        "smtpd_sasl_auth_enable = no\n",
        "recipient_delimiter = +\n",
        "header_checks =\n",
        "default_transport = smtp\n",
        "biff = no\nsmtpd_banner = x\nreadme_directory = no\n",
        "smtpd_recipient_restrictions = permit_mynetworks, reject_unauth_destination\n",
        "relay_domains = r.example\nparent_domain_matches_subdomains =\n",
    ],
)
def test_what_makes_no_difference_is_not_named(tmp_path: Path, text: str) -> None:
    draft = site(tmp_path, f"mynetworks = 127.0.0.0/8\n{text}")
    assert [setting.name for setting in draft.unmapped if setting.matters] == []


def test_what_other_parameters_use_is_not_named(tmp_path: Path) -> None:
    draft = site(tmp_path, "my_nets = 10.0.0.0/8\nmynetworks = $my_nets\nother = x\n")
    assert [setting.name for setting in draft.unmapped] == ["other"]


def test_a_milter_of_both_lists_is_named_once(tmp_path: Path) -> None:
    draft = site(tmp_path, "smtpd_milters = inet:localhost:8891\nnon_smtpd_milters = $smtpd_milters\n")
    assert "non_smtpd_milters" not in meanings(draft)


def test_what_master_cf_sets_for_a_port_is_named_if_nothing_reads_it(tmp_path: Path) -> None:
    master = (
        "smtp inet n - y - - smtpd\n  -o content_filter=scan:[127.0.0.1]:10024 -o cleanup_service_name=sub\n"
        "  -o smtpd_etrn_restrictions=reject -o smtpd_sender_restrictions=reject_rbl_client,zen.example\n"
        "127.0.0.1:10025 inet n - y - - smtpd\n"
    )
    said = meanings(site(tmp_path, "", **{"master.cf": master}))
    assert "does not read" in said["content_filter"]
    assert "hide_clients" in said["cleanup_service_name"]
    assert "DNS lists" in said["smtpd_sender_restrictions"]
    assert "[[listen]]" in said["127.0.0.1:10025 in master.cf"]
    assert "smtpd_etrn_restrictions" not in said

"""The ports of Postfix as listeners: their addresses, TLS, and who logs in there."""

from __future__ import annotations

from pathlib import Path

import pytest

from relay.importer import postfix_listeners
from relay.importer.draft import Draft, Value
from relay.importer.text import config_text
from tests.importer.loading import loaded, meanings
from tests.importer.postfix_site import site

FILES = {"cert": "x", "key": "x"}
TLS = (
    "inet_protocols = ipv4\nmynetworks = 127.0.0.0/8\nsmtpd_tls_cert_file = /etc/postfix/cert\n"
    "smtpd_tls_key_file = /etc/postfix/key\nsmtpd_tls_security_level = may\nsmtpd_tls_auth_only = yes\n"
    "smtpd_sasl_type = dovecot\nsmtpd_sasl_path = /run/dovecot/auth-client\n"
)
USERS_ONLY = " -o smtpd_relay_restrictions=permit_sasl_authenticated,reject"
SMTP = "smtp inet n - y - - smtpd\n"


@pytest.fixture(autouse=True)
def with_ipv6(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postfix_listeners, "_has_ipv6", lambda: True)


def ports(folder: Path, master: str, main: str = "") -> list[tuple[str, str, str]]:
    """Address, TLS and login of each listener of the configuration."""
    config = loaded(folder, site(folder, TLS + main, **FILES, **{"master.cf": master}))
    return [(listener.address, config.listener_tls(listener), listener.auth) for listener in config.listen]


def listening(draft: Draft) -> list[Value]:
    return [entry.keys["address"].value for entry in draft.arrays["listen"] if entry.kind == "set"]


@pytest.mark.parametrize(
    ("text", "addresses"),
    [
        ("", ["0.0.0.0:25", "[::]:25"]),
        ("inet_protocols = ipv4\n", ["0.0.0.0:25"]),
        ("inet_interfaces = loopback-only\n", ["127.0.0.1:25", "[::1]:25"]),
        ("inet_interfaces = 192.0.2.1, [2001:db8::1]\n", ["192.0.2.1:25", "[2001:db8::1]:25"]),
        ("inet_interfaces = 192.0.2.1, 2001:db8::1\ninet_protocols = ipv6\n", ["[2001:db8::1]:25"]),
        ("inet_interfaces = $myhostname, 127.0.0.1\n", ["127.0.0.1:25"]),
    ],
)
def test_listeners(tmp_path: Path, text: str, addresses: list[str]) -> None:
    draft = site(tmp_path, text)
    assert listening(draft) == addresses
    assert ("inet_interfaces" in meanings(draft)) is ("$myhostname" in text)


def test_a_host_without_ipv6_listens_without_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(postfix_listeners, "_has_ipv6", lambda: False)
    draft = site(tmp_path, "")
    assert listening(draft) == ["0.0.0.0:25"]
    assert len(draft.arrays["listen"]) == 2


def test_a_proxy_in_front_is_kept(tmp_path: Path) -> None:
    config = loaded(tmp_path, site(tmp_path, "smtpd_upstream_proxy_protocol = haproxy\ninet_protocols = ipv4\n"))
    assert config.listen[0].proxy_protocol


def test_submission_as_debian_has_it(tmp_path: Path) -> None:
    master = (
        f"{SMTP}submission inet n - y - - smtpd\n  -o syslog_name=postfix/submission\n"
        "  -o smtpd_tls_security_level=encrypt\n  -o smtpd_sasl_auth_enable=yes\n  -o smtpd_tls_auth_only=yes\n"
        "  -o local_header_rewrite_clients=static:all\n  -o smtpd_reject_unlisted_recipient=no\n"
        "  -o smtpd_client_restrictions=\n  -o smtpd_relay_restrictions=\n"
        "  -o smtpd_recipient_restrictions=permit_sasl_authenticated,reject\n"
        "  -o milter_macro_daemon_name=ORIGINATING\n"
        "submissions inet n - y - - smtpd\n  -o syslog_name=postfix/submissions\n"
        "  -o smtpd_tls_wrappermode=yes\n  -o smtpd_sasl_auth_enable=yes\n"
        "  -o smtpd_client_restrictions=$mua_client_restrictions\n"
    )
    main = "mua_client_restrictions = permit_sasl_authenticated, reject\n"
    assert ports(tmp_path, master, main) == [
        ("0.0.0.0:25", "starttls", "none"),
        ("0.0.0.0:587", "require", "required"),
        ("0.0.0.0:465", "implicit", "required"),
    ]
    draft = site(tmp_path, TLS + main, **FILES, **{"master.cf": master})
    assert {setting.name for setting in draft.unmapped if setting.matters} == {
        "Postfix's default of smtpd_sender_login_maps"
    }
    text = config_text(draft).replace("\n# (", " (")  # a long path stands on a line of its own
    assert f"# From smtpd_sasl_auth_enable ({tmp_path}/postfix/master.cf:2).\nauth = " in text


@pytest.mark.parametrize(
    ("restrictions", "login"),
    [
        ("-o smtpd_relay_restrictions=permit_sasl_authenticated,reject", "required"),
        ("-o { smtpd_client_restrictions = permit_sasl_authenticated reject }", "required"),
        (
            "-o smtpd_sender_restrictions=reject_sender_login_mismatch,permit_sasl_authenticated,reject,permit",
            "required",
        ),
        ("-o smtpd_relay_restrictions=permit_mynetworks,permit_sasl_authenticated,reject", "offered"),
        ("-o smtpd_relay_restrictions=permit_sasl_authenticated,reject_unauth_destination", "offered"),
        ("-o smtpd_relay_restrictions=reject", "offered"),
        ("", "offered"),
    ],
)
def test_who_has_to_log_in(tmp_path: Path, restrictions: str, login: str) -> None:
    master = f"submission inet n - y - - smtpd -o smtpd_sasl_auth_enable=yes {restrictions}\n"
    assert ports(tmp_path, master) == [("0.0.0.0:587", "starttls", login)]


@pytest.mark.parametrize(
    ("master", "expected"),
    [
        (f"{SMTP}587 inet n - y - - smtpd\n", [("0.0.0.0:25", "offered"), ("0.0.0.0:587", "offered")]),
        (f"{SMTP}  -o smtpd_sasl_auth_enable=no\n", [("0.0.0.0:25", "none")]),
        ("127.0.0.1:submission inet n - y - - smtpd\n", [("127.0.0.1:587", "offered")]),
        ("[::1]:smtps inet n - y - - smtpd\n", []),  # inet_protocols is ipv4
        ("localhost:2587 inet n - y - - smtpd\n", [("127.0.0.1:2587", "offered")]),
        (
            "smtp inet n - y - 1 postscreen\nsmtpd pass - - y - - smtpd -o smtpd_sasl_auth_enable=no\n",
            [("0.0.0.0:25", "none")],
        ),
    ],
)
def test_logins_of_main_cf_hold_on_every_port(tmp_path: Path, master: str, expected: list[tuple[str, str]]) -> None:
    if not expected:
        assert "listen" in site(tmp_path, f"{TLS}smtpd_sasl_auth_enable = yes\n", **{"master.cf": master}).to_fill_in()
        return
    found = ports(tmp_path, master, "smtpd_sasl_auth_enable = yes\n")
    assert [(address, login) for address, _, login in found] == expected


def test_a_port_without_tls_stays_so_unless_users_log_in_there(tmp_path: Path) -> None:
    master = f"{SMTP}  -o smtpd_tls_security_level=none\n587 inet n - y - - smtpd -o smtpd_tls_security_level=none\n"
    assert ports(tmp_path, f"{master}  -o smtpd_sasl_auth_enable=yes\n") == [
        ("0.0.0.0:25", "none", "none"),
        ("0.0.0.0:587", "starttls", "offered"),
    ]


def test_where_only_main_cf_is_known_ports_of_users_are_examples(tmp_path: Path) -> None:
    draft = site(tmp_path, f"{TLS}smtpd_sasl_auth_enable = yes\n", **FILES)
    assert listening(draft) == ["0.0.0.0:25"]
    config = loaded(tmp_path, draft, wanted=True)
    assert [(listener.address, listener.tls, listener.auth) for listener in config.listen] == [
        ("0.0.0.0:25", None, "offered"),
        ("0.0.0.0:587", "require", "required"),
        ("0.0.0.0:465", "implicit", "required"),
    ]


def test_logins_without_a_certificate_ask_for_one(tmp_path: Path) -> None:
    draft = site(tmp_path, "smtpd_sasl_auth_enable = yes\n", **{"master.cf": f"587 inet n - y - - smtpd{USERS_ONLY}\n"})
    assert draft.to_fill_in() == ["tls.certificate", "tls.private_key", "srs.domain"]
    for name in ("fullchain.pem", "privkey.pem"):
        (tmp_path / name).write_text("x")
    assert loaded(tmp_path, draft).listen[0].auth == "required"


def test_passwords_without_tls_are_named(tmp_path: Path) -> None:
    main = TLS.replace("smtpd_tls_auth_only = yes\n", "")
    for options, said in (("", True), (" -o smtpd_tls_security_level=encrypt", False)):
        master = f"587 inet n - y - - smtpd -o smtpd_sasl_auth_enable=yes{options}\n"
        found = meanings(site(tmp_path, main, **FILES, **{"master.cf": master}))
        assert ("Postfix's default of smtpd_tls_auth_only" in found) is said

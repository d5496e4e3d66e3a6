"""Who logs in at Postfix, and with which senders."""

from __future__ import annotations

from pathlib import Path

import pytest

from relay.accounts.account_files import read_account_files
from relay.accounts.user_senders import UserSenders
from relay.config.model import Config
from relay.importer.draft import Draft
from tests.importer.loading import loaded, meanings
from tests.importer.postfix_site import site

FILES = {"cert": "x", "key": "x"}
USERS = (
    "myorigin = a.example\nmydestination = a.example\ninet_protocols = ipv4\nsmtpd_tls_cert_file = /etc/postfix/cert\n"
    "smtpd_tls_key_file = /etc/postfix/key\nsmtpd_sasl_auth_enable = yes\n"
)
DOVECOT = f"{USERS}smtpd_sasl_type = dovecot\n"
MAPS = (
    f"{DOVECOT}smtpd_sasl_path = /run/dovecot/auth-client\n"
    "smtpd_sender_login_maps = hash:/etc/postfix/logins, inline:{{ news@a.example = joe }}\n"
    "smtpd_sender_restrictions = reject_authenticated_sender_login_mismatch\n"
)


def users(folder: Path, text: str, **files: str) -> Draft:
    return site(folder, text, **FILES, **files)


def senders(config: Config) -> UserSenders:
    return UserSenders(config.senders.local_domains, read_account_files(config.auth).senders)


@pytest.mark.parametrize("path", ["/run/dovecot/auth-client", "unix:/run/dovecot/auth-client"])
def test_dovecot(tmp_path: Path, path: str) -> None:
    draft = users(tmp_path, f"{DOVECOT}smtpd_sasl_path = {path}\n")
    config = loaded(tmp_path, draft)
    assert config.auth is not None and str(config.auth.dovecot) == "/run/dovecot/auth-client"
    assert "smtpd_sasl_path" not in meanings(draft)


def test_a_socket_in_the_folder_of_postfix_is_named_with_what_to_do(tmp_path: Path) -> None:
    draft = users(tmp_path, f"{DOVECOT}queue_directory = /var/spool/postfix/\nsmtpd_sasl_path = private/auth\n")
    config = loaded(tmp_path, draft)
    assert config.auth is not None and str(config.auth.dovecot) == "/var/spool/postfix/private/auth"
    assert "unix_listener /run/dovecot/auth-client" in meanings(draft)["smtpd_sasl_path"]


def test_a_dovecot_on_another_host_is_to_fill_in(tmp_path: Path) -> None:
    draft = users(tmp_path, f"{DOVECOT}smtpd_sasl_path = inet:192.0.2.1:12345\n")
    assert "auth.dovecot" in draft.to_fill_in()
    assert "not over the network" in meanings(draft)["smtpd_sasl_path"]
    config = loaded(tmp_path, draft)
    assert config.auth is not None and str(config.auth.dovecot) == "/run/dovecot/auth-client"


def test_passwords_of_cyrus_stay_there(tmp_path: Path) -> None:
    draft = users(tmp_path, USERS)
    assert "srs-relay users add" in meanings(draft)["Postfix's default of smtpd_sasl_type"]
    config = loaded(tmp_path, draft)
    files = read_account_files(config.auth)
    assert files.users is not None and not files.users.value.by_key and not files.bad_lines[str(files.users.path)]


def test_without_logins_there_are_no_users(tmp_path: Path) -> None:
    assert loaded(tmp_path, users(tmp_path, MAPS.replace("auth_enable = yes", "auth_enable = no"))).auth is None


def test_senders_of_users(tmp_path: Path) -> None:
    logins = "joe@a.example joe\n@shop.example  joe, Ann@a.example\npress ann@a.example\nb:d@a.example x:y joe\n"
    draft = users(tmp_path, MAPS, logins=f"{logins}joe@a_.-b joe\n")
    owned = senders(loaded(tmp_path, draft))
    assert {"joe@a.example", "@shop.example", "news@a.example"} <= owned.of("joe")
    assert owned.of("ann@a.example") == {"ann@a.example", "@shop.example", "press@a.example"}
    said = meanings(draft)
    assert "x:y" in said["smtpd_sender_login_maps b:d@a.example"]
    assert "joe" in said["smtpd_sender_login_maps joe@a_.-b"]
    assert "smtpd_sender_login_maps" not in said


@pytest.mark.parametrize(
    ("old", "new", "name"),
    [
        ("reject_authenticated_sender_login_mismatch", "permit", "smtpd_sender_login_maps"),
        ("smtpd_sender_login_maps = ", "x = ", "Postfix's default of smtpd_sender_login_maps"),
        ("hash:/etc/postfix/logins", "pcre:/x", "smtpd_sender_login_maps = pcre:/x"),
        ("hash:", "mysql:", "smtpd_sender_login_maps = mysql:/etc/postfix/logins"),
    ],
)
def test_senders_that_postfix_takes_otherwise_are_named(tmp_path: Path, old: str, new: str, name: str) -> None:
    draft = users(tmp_path, MAPS.replace(old, new), logins="joe@a.example joe\n")
    assert "as himself alone" in meanings(draft)[name].lower()
    loaded(tmp_path, draft)


def test_all_ports_have_the_same_users(tmp_path: Path) -> None:
    master = "smtp inet n - y - - smtpd\n587 inet n - y - - smtpd -o smtpd_sasl_type=cyrus\n"
    draft = users(tmp_path, MAPS, logins="#\n", **{"master.cf": master})
    assert "the same users" in meanings(draft)["smtpd_sasl_type"]
    assert draft.value(("auth",), "users") is None

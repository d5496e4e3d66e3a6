"""Whole installations of Postfix: what is made of each loads, filled in or not."""

from __future__ import annotations

import subprocess
import tomllib
from pathlib import Path

import pytest

from relay.importer import postfix
from relay.importer.draft import ImportFailed
from relay.importer.folder import ask_for_missing
from relay.importer.text import config_text
from tests.importer.loading import loaded
from tests.importer.postfix_site import site
from tests.peers import needs

SITES = {
    "Debian's own": """\
smtpd_banner = $myhostname ESMTP $mail_name (Debian/GNU)
biff = no
append_dot_mydomain = no
readme_directory = no
compatibility_level = 3.6
smtpd_tls_cert_file=/etc/postfix/cert
smtpd_tls_key_file=/etc/postfix/key
smtpd_tls_security_level=may
smtp_tls_CApath=/etc/ssl/certs
smtp_tls_security_level=may
smtp_tls_session_cache_database = btree:${data_directory}/smtp_scache
smtpd_relay_restrictions = permit_mynetworks permit_sasl_authenticated defer_unauth_destination
alias_maps = hash:/etc/aliases
alias_database = hash:/etc/aliases
myorigin = /etc/mailname
mydestination = $myhostname, a.example, localhost.a.example, localhost
relayhost =
mynetworks = 127.0.0.0/8 [::ffff:127.0.0.0]/104 [::1]/128
mailbox_size_limit = 0
recipient_delimiter = +
inet_interfaces = all
inet_protocols = all
""",
    "a null client": """\
mydomain = a.example
myorigin = $mydomain
relayhost = [smtp.b.example]:587
smtp_sasl_auth_enable = yes
smtp_sasl_password_maps = hash:/etc/postfix/sasl
smtp_sasl_security_options = noanonymous
smtp_tls_security_level = encrypt
inet_interfaces = loopback-only
mydestination =
""",
    "a forwarder with PostSRSd": """\
mydestination = localhost
virtual_alias_domains = v.example w.example
virtual_alias_maps = hash:/etc/postfix/virtual
mynetworks = 127.0.0.0/8
sender_canonical_maps = tcp:localhost:10001
sender_canonical_classes = envelope_sender
recipient_canonical_maps = tcp:localhost:10002
recipient_canonical_classes= envelope_recipient,header_recipient
smtpd_milters = inet:localhost:8891, inet:localhost:8893
""",
    "a backup MX for its own domain": """\
mydestination = localhost
relay_domains = a.example
relay_recipient_maps =
""",
    "a mail server with Dovecot and MySQL": """\
mydestination = localhost
virtual_transport = lmtp:unix:private/dovecot-lmtp
virtual_mailbox_domains = mysql:/etc/postfix/mysql-virtual-mailbox-domains.cf
virtual_mailbox_maps = mysql:/etc/postfix/mysql-virtual-mailbox-maps.cf
virtual_alias_maps = mysql:/etc/postfix/mysql-virtual-alias-maps.cf,mysql:/etc/postfix/mysql-email2email.cf
smtpd_sasl_auth_enable = yes
smtpd_sasl_type = dovecot
smtpd_sasl_path = private/auth
smtpd_tls_cert_file = /etc/postfix/cert
smtpd_tls_key_file = /etc/postfix/key
""",
    "a gateway": """\
relay_domains = r.example, s.example
relay_recipient_maps = texthash:/etc/postfix/users
transport_maps = texthash:/etc/postfix/transport
mynetworks = 127.0.0.0/8, 10.0.0.0/8, 0.0.0.0/0
local_transport = error:no local mail delivery
mydestination =
message_size_limit = 104857600
smtp_bind_address = 192.0.2.1
""",
}
FILES = {
    "cert": "x",
    "key": "x",
    "sasl": "[smtp.b.example]:587 fwd:s3cret\n",
    "virtual": "ann@v.example ann@b.example\n@w.example @v.example\n",
    "users": "ann@r.example x\n@s.example x\n",
    "transport": "r.example smtp:[10.0.0.5]\ns.example lmtp:inet:10.0.0.6:24\n",
}


@pytest.mark.parametrize("wanted", [False, True])
@pytest.mark.parametrize("name", SITES)
def test_what_is_made_loads_once_it_is_filled_in(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, wanted: bool
) -> None:
    (tmp_path / "secret").write_text("tops3cr3t\n")
    monkeypatch.setattr("relay.importer.asked._POSTSRSD_SECRET", tmp_path / "secret")
    draft = site(tmp_path, SITES[name], **FILES)
    tomllib.loads(config_text(draft))
    draft.their_files = [files for files in draft.their_files if not str(files.paths[0]).startswith("/etc/")]
    config = loaded(tmp_path, draft, wanted=wanted)
    assert config.hostname == "mx.a.example"
    assert config.srs.hash == "compatible"
    assert all(network.prefixlen >= 8 for network in config.clients.trusted)


@needs("postfix")
def test_postconf_prints_what_main_cf_says(tmp_path: Path) -> None:
    site(tmp_path, SITES["a gateway"], **FILES)
    folder = tmp_path / "postfix"
    (folder / "master.cf").write_text("smtp inet n - y - - smtpd\n")
    output = subprocess.run(["postconf", "-c", str(folder), "-n"], check=True, capture_output=True).stdout
    (folder / "postconf.txt").write_bytes(output.replace(b"/etc/postfix/", f"{folder}/".encode()))
    one, other = postfix.read(folder), postfix.read(folder / "postconf.txt")
    for table, keys in one.tables.items():
        for name, key in keys.items():
            if name != "secrets_file":
                assert (name, other.tables[table][name].value) == (name, key.value)


@needs("postfix")
def test_all_defaults_of_postfix_make_a_configuration(tmp_path: Path) -> None:
    output = subprocess.run(["postconf", "-d"], check=True, capture_output=True).stdout
    (tmp_path / "postconf.txt").write_bytes(output)
    loaded(tmp_path, postfix.read(tmp_path / "postconf.txt"))


@pytest.mark.parametrize("text", ["a = b\n", "domains = x\n"])
def test_another_configuration_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "main.cf").write_text(text)
    with pytest.raises(ImportFailed, match="this is no configuration of Postfix"):
        postfix.read(tmp_path)


@pytest.mark.parametrize(
    "asked", ["tcp:localhost:10001", "socketmap:unix:srs:forward", "socketmap:inet:[::1]:10003:forward"]
)
def test_addresses_of_postsrsd_stay_good(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, asked: str) -> None:
    (tmp_path / "secret").write_text("tops3cr3t\n")
    monkeypatch.setattr("relay.importer.asked._POSTSRSD_SECRET", tmp_path / "secret")
    config = loaded(tmp_path, site(tmp_path, f"sender_canonical_maps = {asked}\n"))
    assert config.srs.secrets_file == tmp_path / "secret"
    assert (config.srs.hash, config.srs.hash_length, config.srs.hash_min) == ("compatible", 4, 4)


def test_where_postsrsd_keeps_its_secret_is_to_fill_in_if_it_is_not_there(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("relay.importer.asked._POSTSRSD_SECRET", tmp_path / "none")
    draft = site(tmp_path, "sender_canonical_maps = tcp:localhost:10001\n")
    ask_for_missing(draft)
    assert draft.to_fill_in() == ["srs.domain", "srs.secrets_file"]
    assert [file.name for file in draft.new_files] == []

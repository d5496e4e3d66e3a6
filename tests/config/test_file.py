"""Reading the file and the environment: what wins, what is refused, and which files others can read."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from relay.config.file import files_open_to_others, folders_open_to_others, load, untrusted_host_names
from relay.config.model import ConfigError
from tests.config.loading import MINIMAL, loaded, refusal


def test_every_mistake_is_named_at_once(folder: Path) -> None:
    said = refusal(folder, MINIMAL + "wrokers = 2\nspf = {fail = 'bounce'}").splitlines()
    assert [line.partition("relay.toml: ")[2].partition(":")[0] for line in said] == ["spf.fail", "wrokers"]


def test_a_file_that_is_no_toml_is_refused_with_its_line(folder: Path) -> None:
    assert "line 2" in refusal(folder, 'hostname = "a"\nlisten = ?\n')


def test_a_file_that_may_not_be_read_is_refused_with_its_mend(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(path: Path, **_: str) -> str:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_text", denied)
    with pytest.raises(ConfigError, match=r"relay\.toml: Permission denied: run the command as the user of the relay"):
        load(folder / "relay.toml", {})


def test_a_file_in_another_encoding_is_refused_with_its_line(folder: Path) -> None:
    (folder / "relay.toml").write_bytes(b"# ours\n# f\xfcr uns\n")
    with pytest.raises(ConfigError, match=r"relay\.toml: line 2: not UTF-8"):
        load(folder / "relay.toml", {})


def test_a_byte_order_mark_and_line_ends_of_windows_make_no_difference(folder: Path) -> None:
    text = MINIMAL.replace("\n", "\r\n")
    (folder / "relay.toml").write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert load(folder / "relay.toml", {}).srs.domain == loaded(folder, MINIMAL).srs.domain


def test_files_in_a_folder_that_we_may_not_see_are_open_to_nobody(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = loaded(folder, MINIMAL)

    def denied(path: Path, **_: bool) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "stat", denied)
    assert (files_open_to_others(config), folders_open_to_others(config)) == ([], [])


@pytest.mark.parametrize("name", ["localhost", "mx", "localhost.localdomain", "mx.localhost", "192.0.2.1", ""])
def test_a_host_name_that_nobody_can_look_up_is_refused(
    folder: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    mend = 'is not a full name that other hosts can look up, like "mx.fwd.example"'
    assert f"hostname: {name!r} {mend}" in refusal(folder, MINIMAL.replace("mx.fwd.example", name, 1))
    assert f"RELAY_HOSTNAME: hostname: {name!r} {mend}" in refusal(folder, MINIMAL, {"RELAY_HOSTNAME": name})
    monkeypatch.setattr(socket, "getfqdn", lambda: name)
    said = refusal(folder, MINIMAL.replace("hostname", "# hostname", 1))
    assert "relay.toml: hostname: this key is required" in said and f"{name!r} {mend}" in said


def test_the_full_name_of_the_system_is_a_host_name(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getfqdn", lambda: "MX.fwd.example")
    assert loaded(folder, MINIMAL.replace("hostname", "# hostname", 1)).hostname == "mx.fwd.example"


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.toml: No such file or directory"):
        load(tmp_path / "nowhere.toml", {})


def test_relative_paths_start_at_the_files_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    config = loaded(folder, MINIMAL + "routes = {domains = {'a.example' = {recipients = 'aliases'}}}")
    assert config.srs.secrets_file == folder / "srs.secret"
    assert config.queue.url == f"sqlite:///{folder / 'queue.db'}"
    assert config.routes.domains["a.example"].recipients == (folder / "aliases",)


def test_the_environment_says_when_a_key_signs(folder: Path) -> None:
    dkim = '[{"domain": "a.example", "selector": "s", "private_key": "srs.secret", "active_from": "2026-07-01"}]'
    [entry] = loaded(folder, MINIMAL, {"RELAY_DKIM": dkim}).dkim
    assert entry.active_from is not None and entry.active_from.isoformat() == "2026-07-01T00:00:00+00:00"


def test_the_environment_alone_is_enough(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    environ = {
        "RELAY_HOSTNAME": "mx.fwd.example",
        "RELAY_WORKERS": "3",
        "RELAY_LISTEN": '[{"address": "[::]:2525"}]',
        "RELAY_SRS__DOMAIN": "fwd.example",
        "RELAY_SRS__SECRETS_FILE": "srs.secret",
        "RELAY_DELIVERY__SMARTHOST__URL": "smtp://127.0.0.1:2526",
        "HOME": "/root",
    }
    config = load(None, environ)
    assert (config.workers, config.listen[0].address, config.srs.domain) == (3, "[::]:2525", "fwd.example")
    assert config.srs.secrets_file == folder / "srs.secret"
    assert config.delivery.smarthost is not None and config.delivery.smarthost.url.port == 2526


def test_the_environment_wins_over_the_file(folder: Path) -> None:
    config = loaded(folder, MINIMAL, {"RELAY_SRS__DOMAIN": "other.example", "RELAY_SPF__FAIL": "defer"})
    assert (config.srs.domain, config.spf.fail, config.hostname) == ("other.example", "defer", "mx.fwd.example")


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("RELAY_WROKERS", "2", "RELAY_WROKERS: wrokers: unknown key"),
        ("RELAY_SRS__DOMIAN", "x", "RELAY_SRS__DOMIAN: srs.domian: unknown key"),
        ("RELAY_LISTEN", '[{"address": ', "RELAY_LISTEN: not valid JSON"),
        ("RELAY_LISTEN", '[{"adress": "0.0.0.0:25"}]', "RELAY_LISTEN: listen.0.adress: unknown key"),
    ],
)
def test_a_bad_variable_is_refused_by_name(folder: Path, name: str, value: str, said: str) -> None:
    assert said in refusal(folder, MINIMAL, {name: value})


def test_opendkims_trusted_hosts_become_trusted_clients(folder: Path) -> None:
    (folder / "opendkim" / "TrustedHosts").write_text("127.0.0.1\n192.0.2.0/24\n!192.0.2.128/25\nmail.example\n")
    config = loaded(folder, MINIMAL + 'signing = {opendkim = "opendkim"}\nclients = {trusted = ["10.0.0.1"]}\n')
    assert [str(network) for network in config.clients.trusted] == ["10.0.0.1/32", "192.0.2.0/25", "127.0.0.1/32"]
    assert [entry.key for entry in untrusted_host_names(config)] == ["mail.example"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("0.0.0.0/0", "signing.opendkim: {folder}/opendkim/TrustedHosts:1: 0.0.0.0/0 would make this an open relay"),
        ("\xff", "signing.opendkim: {folder}/opendkim/TrustedHosts: not UTF-8"),
    ],
)
def test_bad_trusted_hosts_are_refused_by_file(folder: Path, content: str, said: str) -> None:
    (folder / "opendkim" / "TrustedHosts").write_text(content, encoding="latin-1")
    assert said.format(folder=folder) in refusal(folder, MINIMAL + 'signing = {opendkim = "opendkim"}\n')


def test_a_folder_that_is_not_there_is_refused(folder: Path) -> None:
    said = f"signing.opendkim: {folder}/gone: no such folder"
    assert said in refusal(folder, MINIMAL + 'signing = {opendkim = "gone"}\n')


EVERY_SECRET = (
    MINIMAL
    + """
tls = {certificate = "fullchain.pem", private_key = "privkey.pem"}
arc = {domain = "fwd.example", selector = "arc1", private_key = "dkim/arc1.pem"}
dkim = [{domain = "fwd.example", selector = "relay1", private_key = "dkim/relay1.pem"}]
signing = {opendkim = "opendkim"}
delivery = {smarthost = {url = "smtp://s.example", user = "u", password_file = "smarthost.password"}}
queue = {url = "sqlite:///queue.db"}
"""
)
SECRETS = [
    *("srs.secret", "privkey.pem", "dkim/arc1.pem", "dkim/relay1.pem", "smarthost.password"),
    *("opendkim/old.private", "queue.db", "queue.db-wal"),
]


@pytest.mark.parametrize("name", SECRETS)
@pytest.mark.parametrize("mode", [0o644, 0o640, 0o602])
def test_what_others_can_read_or_write_is_named(folder: Path, name: str, mode: int) -> None:
    (folder / "opendkim" / "KeyTable").write_text("old fwd.example:old:./old.private\n")
    (folder / "opendkim" / "SigningTable").write_text("fwd.example old\n")
    for secret in SECRETS:
        (folder / secret).touch()
        (folder / secret).chmod(0o600)
    config = loaded(folder, EVERY_SECRET)
    assert files_open_to_others(config) == []
    (folder / name).chmod(mode)
    assert files_open_to_others(config) == [folder / name]


@pytest.mark.parametrize(("password", "named"), [(":hunter2", True), ("", False)])
def test_a_configuration_with_a_password_in_it_is_a_secret(folder: Path, password: str, named: bool) -> None:
    config = loaded(folder, MINIMAL + f'queue = {{url = "postgresql://relay{password}@db.example/queue"}}\n')
    (folder / "srs.secret").chmod(0o600)
    (folder / "relay.toml").chmod(0o644)
    assert files_open_to_others(config, folder / "relay.toml") == [folder / "relay.toml"] * named


@pytest.mark.parametrize(("mode", "named"), [(0o755, False), (0o777, True), (0o1777, False), (0o775, False)])
def test_a_folder_in_which_everybody_may_replace_a_secret_is_named(folder: Path, mode: int, named: bool) -> None:
    config = loaded(folder, MINIMAL)
    folder.chmod(mode)
    assert folders_open_to_others(config) == [folder] * named

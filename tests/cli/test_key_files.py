"""The files of new keys; `test_keys` has the commands."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from relay.cli import key_files
from relay.cli.errors import CommandFailed
from relay.sign import keys
from tests import corpus


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys, "generate", lambda kind: corpus.RSA_PEM)  # a fresh one takes half a second


def test_a_key_goes_beside_the_configuration() -> None:
    path = key_files.default_path(Path("/etc/relay/relay.toml"), "fwd.example", "relay2")
    assert path == Path("/etc/relay/dkim/fwd.example.relay2.pem")
    assert key_files.default_path(None, "fwd.example", "relay2") == Path("dkim/fwd.example.relay2.pem")


def test_a_selector_is_free_where_neither_the_configuration_nor_a_file_has_it(tmp_path: Path) -> None:
    config = tmp_path / "relay.toml"
    assert key_files.free_selector(config, "fwd.example", ["relay1"]) == "relay2"
    path = key_files.default_path(config, "fwd.example", "relay2")
    path.parent.mkdir()
    path.touch()
    assert key_files.free_selector(config, "fwd.example", ["relay1"]) == "relay3"
    assert key_files.free_selector(config, "brand.example", ["relay1"]) == "relay2"


def test_a_key_and_its_folders_are_for_their_owner_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        key = key_files.make_key(tmp_path / "a" / "b" / "k.pem", "rsa2048", "fwd.example", "relay1")
    finally:
        os.umask(before)
    assert key.record_name == "relay1._domainkey.fwd.example"
    modes = {name: stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("a", "a/b", "a/b/k.pem")}
    assert modes == {"a": 0o700, "a/b": 0o700, "a/b/k.pem": 0o600}


def test_no_file_is_replaced_and_no_half_of_one_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "k.pem"
    path.write_text("mine")
    with pytest.raises(CommandFailed, match="is there already"):
        key_files.make_key(path, "rsa2048", "fwd.example", "relay1")
    assert path.read_text() == "mine"

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        key_files.make_key(tmp_path / "other.pem", "rsa2048", "fwd.example", "relay1")
    assert not (tmp_path / "other.pem").exists()


def test_the_entry_names_a_file_below_the_configuration_by_its_relative_path(tmp_path: Path) -> None:
    key = key_files.make_key(tmp_path / "dkim" / "k.pem", "rsa2048", "fwd.example", "relay1")
    entry = {"domain": "fwd.example", "selector": "relay1"}
    inside, outside = tmp_path / "relay.toml", tmp_path / "etc" / "relay.toml"
    assert key_files.entry(key, tmp_path / "dkim" / "k.pem", inside) == {**entry, "private_key": "dkim/k.pem"}
    for config in (outside, None):
        named = key_files.entry(key, tmp_path / "dkim" / "k.pem", config)["private_key"]
        assert named == f"{tmp_path}/dkim/k.pem"

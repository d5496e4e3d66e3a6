"""The keys of a configuration where files of keys are missing."""

from __future__ import annotations

from pathlib import Path

from relay.cli.present_keys import MissingKey, missing_keys, read_present
from relay.config.file import load
from relay.config.model import Config
from tests import corpus

CONFIG = """
hostname = "mx.fwd.example"
listen = [{address = "127.0.0.1:2525"}]
srs = {domain = "fwd.example", secrets_file = "srs.secret"}
arc = {domain = "fwd.example", selector = "arc1", private_key = "arc1.pem"}

[[dkim]]
domain = "fwd.example"
selector = "relay1"
private_key = "relay1.pem"

[[dkim]]
domain = "brand.example"
selector = "b1"
private_key = "b1.pem"
sign = ["brand.example", "*.brand.example"]
"""


def loaded(folder: Path, *present: str) -> Config:
    (folder / "relay.toml").write_text(CONFIG)
    for name in present:
        (folder / name).write_bytes(corpus.RSA_PEM)
    return load(folder / "relay.toml", {}, require_files=False)


def test_every_missing_key_is_named(tmp_path: Path) -> None:
    config = loaded(tmp_path, "relay1.pem")
    assert missing_keys(config) == (
        MissingKey("brand.example", "b1", tmp_path / "b1.pem", ("brand.example", "*.brand.example")),
        MissingKey("fwd.example", "arc1", tmp_path / "arc1.pem", seals=True),
    )
    assert [key.record_name for key in read_present(config).keys] == ["relay1._domainkey.fwd.example"]


def test_where_all_are_there_none_is_missing(tmp_path: Path) -> None:
    config = loaded(tmp_path, "relay1.pem", "b1.pem", "arc1.pem")
    assert missing_keys(config) == ()
    assert [key.selector for key in read_present(config).keys] == ["relay1", "b1", "arc1"]


def test_where_none_is_there_all_are_missing(tmp_path: Path) -> None:
    config = loaded(tmp_path)
    assert [key.selector for key in missing_keys(config)] == ["relay1", "b1", "arc1"]
    assert read_present(config).keys == ()


def test_a_key_that_signs_and_seals_is_missing_once(tmp_path: Path) -> None:
    (tmp_path / "relay.toml").write_text(CONFIG.replace("arc1", "relay1"))
    config = load(tmp_path / "relay.toml", {}, require_files=False)
    assert [(key.selector, key.seals) for key in missing_keys(config)] == [("relay1", True), ("b1", False)]

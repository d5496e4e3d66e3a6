"""`srs-relay keys` where the configuration names keys whose files are missing; `test_keys` has the rest."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from relay.sign import keys
from tests import corpus
from tests.cli.key_commands import CONFIG, PEM, filled, ran, refused, texts


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys, "generate", PEM.__getitem__)  # a fresh one takes half a second


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return filled(tmp_path)


MISSING = """
[[dkim]]
domain = "fwd.example"
selector = "relay9"
private_key = "deep/new.pem"

[[dkim]]
domain = "third.example"
selector = "t1"
private_key = "deep/new.pem"

[arc]
domain = "fwd.example"
selector = "arc1"
private_key = "arc1.pem"
"""


@pytest.fixture
def lacking(folder: Path) -> Path:
    """The folder, with a configuration that names keys, a secret and aliases that are not there."""
    (folder / "relay.toml").write_text(CONFIG + MISSING + '[routes]\naliases = "aliases"\n')
    (folder / "srs.secret").unlink()
    return folder


def test_the_keys_that_the_configuration_names_are_made_where_it_names_them(
    lacking: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (lacking / "relay.toml").read_bytes()
    assert ran(lacking, "new") == 0
    printed = capsys.readouterr()
    assert list(texts(printed.out)) == [
        "relay9._domainkey.fwd.example",
        "t1._domainkey.third.example",
        "arc1._domainkey.fwd.example",
    ]
    assert "[[dkim]]" not in printed.out
    for name in ("deep/new.pem", "arc1.pem"):
        assert stat.S_IMODE((lacking / name).stat().st_mode) == 0o600
        assert (lacking / name).read_bytes() == corpus.RSA_PEM
    assert not (lacking / "dkim").exists()
    assert (lacking / "relay.toml").read_bytes() == before
    assert ran(lacking, "new") == 0
    assert "[[dkim]]" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("args", "made"),
    [
        (["--domain", "third.example"], ["deep/new.pem"]),
        (["--selector", "arc1"], ["arc1.pem"]),
        (["--domain", "fwd.example"], ["arc1.pem", "deep/new.pem"]),
        (["--domain", "other.example"], ["dkim/other.example.relay1.pem"]),
        (["--out", "{}/mine.pem"], ["mine.pem"]),
        (["--selector", "mine1"], ["dkim/fwd.example.mine1.pem"]),
    ],
)
def test_options_say_which_key_is_made(lacking: Path, args: list[str], made: list[str]) -> None:
    assert ran(lacking, "new", *(arg.format(lacking) for arg in args)) == 0
    pems = {str(path.relative_to(lacking)) for path in lacking.rglob("*.pem")} - {"relay1.pem"}
    assert sorted(pems) == made


def test_a_new_selector_is_not_that_of_a_key_without_a_file(lacking: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ran(lacking, "new", "--out", str(lacking / "mine.pem")) == 0
    assert "relay10._domainkey.fwd.example" in texts(capsys.readouterr().out.partition("\n\n")[0])


def test_arc_gets_no_ed25519_key(lacking: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "ARC takes RSA keys only" in refused(lacking, capsys, "new", "--algorithm", "ed25519")
    assert ran(lacking, "new", "--algorithm", "ed25519", "--domain", "third.example") == 0
    assert (lacking / "deep" / "new.pem").read_bytes() == corpus.ED25519_PEM


def test_keys_without_files_are_listed(lacking: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ran(lacking, "list", "--json") == 0
    rows = {row["record"]: row for row in json.loads(capsys.readouterr().out)}
    assert [row["state"] for row in rows.values()] == ["active", "active", "missing", "missing", "missing"]
    assert rows["arc1._domainkey.fwd.example"]["arc"] is True
    assert rows["t1._domainkey.third.example"]["signs"] == ["third.example"]
    assert ran(lacking, "list") == 0
    assert f"no key: {lacking}/arc1.pem is missing; `srs-relay keys new` makes it" in capsys.readouterr().out


def test_records_of_keys_without_files_are_said_to_be_missing(
    lacking: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ran(lacking, "dns") == 0
    printed = capsys.readouterr()
    assert list(texts(printed.out)) == ["relay1._domainkey.fwd.example", "b2025._domainkey.brand.example"]
    assert "arc1._domainkey.fwd.example has no key" in printed.err and "`srs-relay keys new` makes it" in printed.err

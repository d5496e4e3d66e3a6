"""From a configuration alone to a host that can be started; `test_init` has the command."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from relay.cli.complete import complete
from relay.cli.errors import CommandFailed
from relay.config.file import load
from relay.process.files import read_files
from relay.sign import keys
from tests import corpus
from tools.reference.examples import example_files

MINIMAL = """
hostname = "mx.fwd.example"
listen = [{address = "127.0.0.1:2525"}]
srs = {domain = "fwd.example", secrets_file = "srs.secret"}
"""


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys, "generate", lambda kind: corpus.RSA_PEM)  # a fresh one takes half a second


@pytest.mark.parametrize("example", [text() for text in example_files().values()], ids=list(example_files()))
def test_an_example_needs_nothing_else(tmp_path: Path, example: str) -> None:
    path = tmp_path / "relay.toml"
    path.write_text(example)
    config, made = complete(path)
    assert sorted(file for file in tmp_path.rglob("*") if file.is_file()) == sorted([path, *made])
    assert {stat.S_IMODE(file.stat().st_mode) for file in made} == {0o600}
    assert path.read_text() == example
    read_files(load(path, {}))
    assert config.srs.secrets_file in made


def test_what_is_there_stays(tmp_path: Path) -> None:
    path = tmp_path / "relay.toml"
    path.write_text(MINIMAL + 'dkim = [{domain = "fwd.example", selector = "a", private_key = "a.pem"}]\n')
    (tmp_path / "srs.secret").write_text("mine\n")
    _, made = complete(path)
    assert made == [tmp_path / "a.pem"]
    assert (tmp_path / "srs.secret").read_text() == "mine\n"


def test_an_alias_file_can_be_toml(tmp_path: Path) -> None:
    path = tmp_path / "relay.toml"
    path.write_text(MINIMAL + 'routes = {aliases = "aliases.toml"}\n')
    complete(path)
    read_files(load(path, {}))


@pytest.mark.parametrize(
    ("text", "said"), [("no TOML", "cannot be used"), (MINIMAL.replace("hostname", "host_name"), "unknown key")]
)
def test_a_configuration_that_cannot_be_used_makes_nothing(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "relay.toml"
    path.write_text(text)
    with pytest.raises(CommandFailed) as caught:
        complete(path)
    assert said in str(caught.value) and "\n" not in str(caught.value) and str(path) in str(caught.value)
    assert [file.name for file in tmp_path.iterdir()] == ["relay.toml"]


def test_where_nothing_is_missing_that_is_said(tmp_path: Path) -> None:
    path = tmp_path / "relay.toml"
    path.write_text(MINIMAL)
    complete(path)
    with pytest.raises(CommandFailed, match="nothing was written"):
        complete(path)

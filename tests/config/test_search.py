"""Which configuration a command takes: the one that is named, the environment, or the first of two files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from relay.cli import run
from relay.config import search
from relay.config.file import load
from relay.config.model import ConfigError
from relay.config.search import find_config


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """The two places, in folders that are there; the files are not."""
    first, second = tmp_path / "etc" / "relay.toml", tmp_path / "lib" / "relay.toml"
    for file in (first, second):
        file.parent.mkdir()
    monkeypatch.setattr(search, "PLACES", (first, second))
    return first, second


HTTP = {"RELAY_HTTP__ADDRESS": "127.0.0.1:8025", "HOME": "/root"}  # as the container image sets it


def test_the_file_that_is_named_wins(places: tuple[Path, Path]) -> None:
    places[0].touch()
    assert find_config(Path("mine.toml"), {"RELAY_HOSTNAME": "mx.fwd.example"}) == Path("mine.toml")


@pytest.mark.parametrize("environ", [{}, HTTP])
def test_without_a_name_the_first_of_the_places_is_taken(places: tuple[Path, Path], environ: dict[str, str]) -> None:
    first, second = places
    second.touch()
    assert find_config(None, environ) == second
    first.touch()
    assert find_config(None, environ) == first
    first.unlink()
    first.parent.rmdir()
    assert find_config(None, environ) == second


@pytest.mark.parametrize("name", ["RELAY_HOSTNAME", "RELAY_LISTEN", "RELAY_SRS__DOMAIN", "RELAY_HTTPS"])
def test_an_environment_with_keys_is_the_whole_configuration(places: tuple[Path, Path], name: str) -> None:
    places[0].touch()
    assert find_config(None, {**HTTP, name: "x"}) is None


def test_where_nothing_is_the_error_says_where_it_may_be(places: tuple[Path, Path]) -> None:
    assert find_config(None, HTTP) is None
    with pytest.raises(search.NoConfig) as caught:
        load(None, HTTP)
    for word in ("--config", "SRS_RELAY_CONFIG", *map(str, places)):
        assert word in str(caught.value)


def test_a_folder_that_cannot_be_read_is_not_passed_over(
    places: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    places[1].touch()
    stat = Path.stat

    def denied(path: Path, **options: bool) -> os.stat_result:
        if path == places[0]:
            raise PermissionError(13, "Permission denied", str(path))
        return stat(path, **options)

    monkeypatch.setattr(Path, "stat", denied)
    with pytest.raises(ConfigError, match=r"etc/relay\.toml: Permission denied: run the command as the user of the"):
        find_config(None, {})


@pytest.mark.parametrize(
    "command",
    [
        ["serve"],
        ["queue", "list"],
        ["queue", "show", "3F2KQ0Z81TWH"],
        ["queue", "drop", "--all"],
        ["keys", "list"],
        ["keys", "dns"],
        ["explain", "/dev/null"],
        ["srs", "forward", "a@b.example"],
    ],
    ids=" ".join,
)
def test_every_command_looks_there(
    places: tuple[Path, Path], command: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in os.environ if name.startswith(("RELAY_", "SRS_RELAY_"))]:
        monkeypatch.delenv(name)
    assert run(command) in (1, 2)
    said = capsys.readouterr().err
    assert "--config" in said and "SRS_RELAY_CONFIG" in said and said.count("\n") == 1
    places[1].write_text("wrokers = 2\n")
    assert run(command) == 1
    assert f"srs-relay: {places[1]}: wrokers: unknown key" in capsys.readouterr().err


def test_an_address_is_rewritten_without_any_configuration(
    places: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file that happens to be there has no part in what the options say already."""
    places[0].write_text("wrokers = 2\n")
    (tmp_path / "secret").write_text("tops3cr3t\n")
    options = ["--domain", "fwd.example", "--secrets-file", str(tmp_path / "secret")]
    assert run(["srs", "forward", "a@b.example", *options]) == 0
    assert capsys.readouterr().out.endswith("=b.example=a@fwd.example\n")

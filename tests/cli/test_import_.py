"""`srs-relay import`: what goes to which stream, what is written, and what is refused."""

from __future__ import annotations

import io
import sys
import tomllib
from pathlib import Path

import pytest

from relay import cli
from tests.importer.loading import load_text

POSTSRSD = "SRS_DOMAIN=srs.example\nSRS_SECRET={folder}/secret\nSRS_EXCLUDE_DOMAINS=a.example,.b.example\n"


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    (tmp_path / "secret").write_text("tops3cr3t\n")
    (tmp_path / "postsrsd").write_text(POSTSRSD.format(folder=tmp_path))
    return tmp_path / "postsrsd"


def test_the_configuration_is_printed_and_the_rest_said_on_stderr(
    tmp_path: Path, conf: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    assert cli.run(["import", "postsrsd", str(conf)]) == 0
    out, err = capsys.readouterr()
    assert tomllib.loads(out)["srs"]["hash"] == "compatible"
    assert load_text(tmp_path, out).srs.domain == "srs.example"
    (tmp_path / "imported.toml").unlink()
    assert f"no counterpart: SRS_EXCLUDE_DOMAINS ({conf}:3): .b.example" in err
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_it_is_written_into_a_folder(tmp_path: Path, conf: Path, capsys: pytest.CaptureFixture[str]) -> None:
    into = tmp_path / "relay"
    assert cli.run(["import", "postsrsd", str(conf), "--write", str(into)]) == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert f"wrote {into}/relay.toml" in err
    assert load_text(into, (into / "relay.toml").read_text()).srs.secrets_file == tmp_path / "secret"
    assert cli.run(["import", "postsrsd", str(conf), "--write", str(into)]) == 1
    assert "--force replaces relay.toml alone" in capsys.readouterr().err
    assert cli.run(["import", "postsrsd", str(conf), "--write", str(into), "--force"]) == 0


def test_postconf_comes_from_standard_input(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = b"myhostname = mx.a.example\nvirtual_alias_maps = inline:{ @bad=|x }\n"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text)))
    assert cli.run(["import", "postfix", "-"]) == 0
    out, _ = capsys.readouterr()
    assert "# From myhostname (postconf -n).\n" in out
    tomllib.loads(out)  # no log line is among it


@pytest.mark.parametrize("program", ["postsrsd", "opendkim", "opendmarc", "policyd-spf", "postfix"])
@pytest.mark.parametrize("content", [b"root:x:0:0\n", b"", b"\0\1", None])
def test_what_cannot_be_read_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], program: str, content: bytes | None
) -> None:
    path = tmp_path / "conf"
    if content is not None:
        path.write_bytes(content)
    assert cli.run(["import", program, str(path)]) == 1
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert str(path) in err


@pytest.mark.parametrize("args", [["postsrs", "/x"], ["postfix"], [], ["postfix", "/x", "--write", "/etc/passwd"]])
def test_a_wrong_call_is_one_line(capsys: pytest.CaptureFixture[str], args: list[str]) -> None:
    assert cli.run(["import", *args]) == 2
    assert capsys.readouterr().err.count("\n") == 1

"""`srs-relay srs`: one address there and back, with options alone or on top of a configuration."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from relay.cli import run
from relay.srs import reply_address as replies
from relay.srs.address import Scheme, forward_token

SECRET = b"tops3cr3t"


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    file = tmp_path / "srs.secret"
    file.write_bytes(SECRET + b"\n")
    return file


@pytest.fixture
def config(tmp_path: Path, secrets: Path) -> Path:
    file = tmp_path / "relay.toml"
    file.write_text(
        f"""
        hostname = "mx.fwd.example"
        [[listen]]
        address = "127.0.0.1:2525"
        [srs]
        domain = "fwd.example"
        secrets_file = "{secrets.name}"
        separator = "+"
        """
    )
    return file


def test_there_and_back_with_options_alone(secrets: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scheme = ["--domain", "example.com", "--secrets-file", str(secrets)]
    assert run(["srs", "forward", "test@otherdomain.com", *scheme, "--separator", "-", "--hash-length", "8"]) == 0
    rewritten = capsys.readouterr().out.strip()
    assert rewritten.startswith("SRS0-") and rewritten.endswith("=otherdomain.com=test@example.com")
    assert len(rewritten.split("=")[0]) == len("SRS0-HHHHHHHH")
    assert run(["srs", "reverse", rewritten, "--secrets-file", str(secrets)]) == 0
    assert capsys.readouterr().out == "test@otherdomain.com\n"


def test_the_scheme_of_a_configuration_and_an_option_on_top(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["srs", "forward", "test@otherdomain.com", "--config", str(config)]) == 0
    rewritten = capsys.readouterr().out.strip()
    assert rewritten.startswith("SRS0+") and rewritten.endswith("@fwd.example")
    assert run(["srs", "forward", "test@otherdomain.com", "--config", str(config), "--domain", "other.example"]) == 0
    assert capsys.readouterr().out.strip() == rewritten.replace("@fwd.example", "@other.example")
    assert run(["srs", "reverse", rewritten, "--config", str(config)]) == 0
    assert capsys.readouterr().out == "test@otherdomain.com\n"


def test_the_framed_hash_by_an_option_or_by_the_configuration(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def said(*command: str) -> str:
        assert run(["srs", *command, "--config", str(config)]) == 0
        return capsys.readouterr().out.strip()

    plain = said("forward", "ann@author.example")
    framed = said("forward", "ann@author.example", "--hash", "framed")
    assert plain != framed
    config.write_text(config.read_text() + 'hash = "framed"\n')
    assert said("forward", "ann@author.example") == framed
    assert said("reverse", framed) == "ann@author.example"
    assert run(["srs", "reverse", plain, "--config", str(config)]) == 1
    assert "forged SRS address" in capsys.readouterr().err
    config.write_text(config.read_text() + "framed_since = 2999-01-01\n")
    assert said("forward", "ann@author.example") == plain
    assert said("reverse", plain) == said("reverse", framed) == "ann@author.example"
    assert said("reverse", plain, "--hash", "compatible") == "ann@author.example"


def test_json_is_safe_to_look_at_too(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    address = '"a\u202eb"@otherdomain.com'
    assert run(["srs", "forward", address, "--config", str(config), "--json"]) == 0
    shown = capsys.readouterr().out
    assert "\u202e" not in shown and json.loads(shown)["address"] == address


def test_json(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["srs", "forward", "jörg@otherdomain.com", "--config", str(config), "--json"]) == 0
    there = json.loads(capsys.readouterr().out)
    assert there["address"] == "jörg@otherdomain.com"
    assert run(["srs", "reverse", there["result"], "--config", str(config), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"address": there["result"], "result": "jörg@otherdomain.com"}


def test_the_author_behind_a_reply_address(secrets: Path, capsys: pytest.CaptureFixture[str]) -> None:
    address = replies.forward("ann@author.example", Scheme("fwd.example", (SECRET,)))
    assert run(["srs", "reverse", str(address), "--secrets-file", str(secrets)]) == 0
    assert capsys.readouterr().out == "ann@author.example\n"
    assert run(["srs", "reverse", str(address).replace("ann", "eve"), "--secrets-file", str(secrets)]) == 1
    assert "forged reply address" in capsys.readouterr().err


def test_a_stored_sender_is_shown_by_its_id(secrets: Path, capsys: pytest.CaptureFixture[str]) -> None:
    token = forward_token("7k2m", Scheme("fwd.example", (SECRET,)), time.time())
    assert run(["srs", "reverse", token, "--secrets-file", str(secrets)]) == 0
    assert "7k2m" in capsys.readouterr().out
    assert run(["srs", "reverse", token, "--secrets-file", str(secrets), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"address": token, "token": "7k2m"}


def test_of_a_long_sender_it_says_that_serve_stores_it(secrets: Path, capsys: pytest.CaptureFixture[str]) -> None:
    long = ["srs", "forward", "x" * 50 + "@otherdomain.com", "--domain", "example.com", "--secrets-file", str(secrets)]
    assert run(long) == 0
    output = capsys.readouterr()
    assert "64 octets" in output.out and "serve stores this sender" in output.out and output.err == ""
    assert "SRS0=HHHH=TT==ID@example.com" in output.out
    assert run([*long, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["result"], said["stored"]) == (None, True)


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (["reverse", "SRS0=FAKE=AA=b.com=a@example.com"], 1, "forged"),
        (["reverse", "a@example.com"], 1, "not an SRS address"),
        (["forward", "nobody", "--domain", "example.com"], 1, "not a valid address"),
        (["forward", "a@b.com", "--domain", "not a domain"], 2, "not a domain name"),
        (["forward", "a@b.com", "--separator", "x"], 2, "separator"),
        (["forward", "a@b.com", "--hash-length", "3"], 2, "hash-length"),
        (["forward", "a@b.com"], 2, "--domain"),
    ],
)
def test_what_fails_says_so_in_one_line(
    arguments: list[str], status: int, says: str, secrets: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["srs", *arguments, "--secrets-file", str(secrets)]) == status
    output = capsys.readouterr()
    assert output.out == ""
    assert says in output.err and output.err.count("\n") == 1


@pytest.mark.parametrize("file", ["absent", "empty"])
def test_a_file_without_secrets_is_named(file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").touch()
    path = str(tmp_path / file)
    assert run(["srs", "forward", "a@b.com", "--domain", "example.com", "--secrets-file", path]) == 1
    error = capsys.readouterr().err
    assert path in error and error.count("\n") == 1


def test_a_bad_configuration_is_named(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config.write_text(config.read_text() + "colour = 1\n")
    assert run(["srs", "forward", "a@b.com", "--config", str(config)]) == 1
    assert "srs.colour: unknown key" in capsys.readouterr().err


def test_an_address_and_an_error_are_seen_as_they_are(secrets: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sender = "joe\u202eelpmaxe@origin.example"
    assert run(["srs", "forward", sender, "--domain", "fwd.example", "--secrets-file", str(secrets)]) == 0
    rewritten = capsys.readouterr().out.strip()
    assert rewritten.isascii() and r"joe\u202eelpmaxe" in rewritten
    assert run(["srs", "reverse", sender + "\x1b[2J\n", "--domain", "fwd.example", "--secrets-file", str(secrets)]) == 1
    error = capsys.readouterr().err
    assert error.startswith(r"srs-relay: joe\u202eelpmaxe@origin.example\x1b[2J") and error.replace("\n", "").isascii()

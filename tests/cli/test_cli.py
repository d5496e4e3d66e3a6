"""The command line as it is called: what it answers, what it says when it cannot, and that it starts quickly."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import typer

import relay
from relay import cli
from relay.cli.errors import CommandFailed
from relay.config.model import ConfigError


def srs_relay(*args: str, **environ: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("RELAY_", "SRS_RELAY_"))}
    return subprocess.run(
        [sys.executable, "-m", "relay", *args], capture_output=True, text=True, timeout=30, env=clean | environ
    )


def test_the_help_names_every_command_and_imports_none() -> None:
    code = (
        "import sys; from relay.cli import run; run(['--help']); "
        "print(sorted({'rich', 'pydantic', 'sqlalchemy', 'dns', 'spf', 'dkim'} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    listed = done.stdout.partition("Commands:\n")[2].splitlines()
    commands = [
        "demo",
        "init",
        "import",
        "serve",
        "check",
        "explain",
        "queue",
        "keys",
        "aliases",
        "users",
        "dns",
        "srs",
    ]
    assert [line.split()[0] for line in listed] == commands
    assert not [line for line in listed if line.endswith("...")]
    assert done.stderr == "[]\n"


@pytest.mark.parametrize("group", [[], ["queue"], ["keys"], ["aliases"], ["users"], ["srs"]])
def test_a_group_without_a_command_shows_its_help(group: list[str]) -> None:
    done = srs_relay(*group)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == srs_relay(*group, "--help").stdout


def test_the_version() -> None:
    assert srs_relay("--version").stdout == f"srs-relay {relay.__version__}\n"


@pytest.mark.parametrize("name", list(cli.COMMANDS))
def test_every_command_has_its_help(name: str) -> None:
    done = srs_relay(name, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"Usage: srs-relay {name} ")


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["servee"], "srs-relay: No such command 'servee'. Did you mean 'serve'? (see srs-relay --help)\n"),
        (["--bogus"], "srs-relay: No such option: --bogus (see srs-relay --help)\n"),
        (["serve", "--bogus"], "srs-relay serve: No such option: --bogus (see srs-relay serve --help)\n"),
    ],
)
def test_a_wrong_call_is_one_line_and_exit_2(args: list[str], said: str) -> None:
    done = srs_relay(*args)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", said)


def test_a_missing_config_is_one_line_and_exit_1(tmp_path: Path) -> None:
    done = srs_relay("serve", "--config", str(tmp_path / "relay.toml"))
    said = f"srs-relay: {tmp_path}/relay.toml: No such file or directory\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", said)


def test_the_config_can_be_named_in_the_environment(tmp_path: Path) -> None:
    done = srs_relay("serve", SRS_RELAY_CONFIG=str(tmp_path / "relay.toml"))
    assert done.stderr == f"srs-relay: {tmp_path}/relay.toml: No such file or directory\n"


def test_a_bad_config_is_one_line_a_key() -> None:
    done = srs_relay("serve", RELAY_WORKERS="none", RELAY_LISTEN="[]", RELAY_SRS="{}")
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "srs-relay: RELAY_WORKERS: workers: must be a valid integer, unable to parse string as an integer",
        """srs-relay: RELAY_LISTEN: listen: one at least is needed; it is written """
        """RELAY_LISTEN='[{"address": "0.0.0.0:25"}]'""",
        "srs-relay: RELAY_SRS: srs.domain: this key is required",
        "srs-relay: RELAY_SRS: srs.secrets_file: this key is required",
    ]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], None]:
    """Put a function in the place of the command `demo`."""

    def replace(function: Callable[[], object]) -> None:
        app = typer.Typer()
        app.command()(function)
        app.command("beside")(lambda: None)
        monkeypatch.setattr(sys.modules[__name__], "app", app, raising=False)
        monkeypatch.setitem(cli.COMMANDS, "demo", (__name__, "app", "A command of the test."))

    return replace


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (CommandFailed("the queue is locked"), 1, "srs-relay: the queue is locked\n"),
        (ConfigError("a: unknown key\nb: unknown key"), 1, "srs-relay: a: unknown key\nsrs-relay: b: unknown key\n"),
        (PermissionError(13, "Permission denied", "/etc/key"), 1, "srs-relay: /etc/key: Permission denied\n"),
        (OSError("no route"), 1, "srs-relay: no route\n"),
        (
            typer.BadParameter("not an address"),
            2,
            "srs-relay demo fail: Invalid value: not an address (see srs-relay demo fail --help)\n",
        ),
        (typer.Exit(3), 3, ""),
        (KeyboardInterrupt(), 130, ""),
        (
            ValueError("first\nsecond"),
            1,
            "srs-relay: internal error: ValueError: first (PYTHONDEVMODE=1 shows where)\n",
        ),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_what_goes_wrong_in_a_command_is_one_line(
    command: Callable[[Callable[[], object]], None],
    capfd: pytest.CaptureFixture[str],
    error: BaseException,
    status: int,
    said: str,
) -> None:
    def fail() -> None:
        raise error

    command(fail)
    assert cli.run(["demo", "fail"]) == status
    assert capfd.readouterr().err == said


def test_a_reader_that_goes_away_is_no_error() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "relay", "--help"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    process.wait(30)
    assert process.stderr.read() == ""
    process.stderr.close()

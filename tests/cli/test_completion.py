"""Shell completion: each shell gets its script, and words of commands that are imported only when they are called."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest


def completed(instruction: str, environ: dict[str, str]) -> str:
    result = subprocess.run(
        [sys.executable, "-c", "import sys; sys.argv[0] = 'srs-relay'; from relay.cli import main; main()"],
        env={**os.environ, "_SRS_RELAY_COMPLETE": instruction, **environ},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (result.returncode, result.stderr) == (0, "")
    return result.stdout


@pytest.mark.parametrize(
    ("shell", "line"),
    [
        ("bash", "complete -o default -F _srs_relay_completion srs-relay"),
        ("zsh", "compdef _srs_relay_completion srs-relay"),
        ("fish", "complete --command srs-relay"),
    ],
)
def test_each_shell_gets_a_script(shell: str, line: str) -> None:
    assert line in completed(f"source_{shell}", {})


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (
            "srs-relay ",
            {"demo", "init", "import", "serve", "check", "explain", "queue", "keys", "aliases", "users", "dns", "srs"},
        ),
        ("srs-relay queue ", {"list", "show", "retry", "hold", "release", "drop"}),
        ("srs-relay queue list --", {"--config", "--state", "--json", "--help"}),
        ("srs-relay aliases ", {"list", "add", "remove", "test"}),
        ("srs-relay users ", {"add", "list", "remove", "passwd"}),
        ("srs-relay keys new --alg", {"--algorithm"}),
        ("srs-relay init DIR --alias a b --fo", {"--for", "--force"}),
    ],
)
def test_bash_completes_commands_and_options(words: str, expected: set[str]) -> None:
    environ = {"COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    assert set(completed("complete_bash", environ).split()) == expected


def test_zsh_and_fish_complete_a_subcommand() -> None:
    words = {"_TYPER_COMPLETE_ARGS": "srs-relay queue re"}
    zsh = completed("complete_zsh", words)
    fish = completed("complete_fish", {**words, "_TYPER_COMPLETE_FISH_ACTION": "get-args"})
    assert '"retry"' in zsh and '"release"' in zsh
    assert [line.partition("\t")[0] for line in fish.splitlines()] == ["retry", "release"]

"""Changes to the configuration file; `test_keys` has the rotation that makes them."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from relay.cli.config_edit import replace_config, toml_entry, with_successor
from relay.cli.errors import CommandFailed
from relay.config.model import ConfigError

TEXT = """\
# Ours.
listen = [{address = "127.0.0.1:2525"}]  # here
[[dkim]]
domain = "FWD.example"
selector = "relay1" # the first

# The other brand.
[[ dkim ]]
domain = "brand.example"
selector = "b1"

[dns]
timeout = "1s"
"""
NEXT = {"domain": "fwd.example", "selector": "relay2"}


def test_an_entry_gets_its_successor_and_the_rest_stays() -> None:
    changed = with_successor(TEXT, "fwd.example", "relay1", {"active_until": 5}, NEXT)
    assert changed == TEXT.replace(
        "# the first\n",
        '# the first\nactive_until = 5\n\n[[dkim]]\ndomain = "fwd.example"\nselector = "relay2"\n',
    )


def test_the_last_entry_gets_its_successor_before_the_next_table() -> None:
    changed = with_successor(TEXT, "brand.example", "b1", {}, NEXT)
    assert changed.index('"b1"') < changed.index('"relay2"') < changed.index("[dns]")
    assert changed.endswith('[dns]\ntimeout = "1s"\n')


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (TEXT.replace('"relay1"', '"other"'), "has no entry"),
        ('dkim = [{domain = "fwd.example", selector = "relay1"}]\n', "has no entry"),
        ('x = """\n[[dkim]]\n"""\n' + TEXT, "in a way that a command cannot change"),
    ],
)
def test_a_file_that_cannot_be_changed_is_not(text: str, problem: str) -> None:
    with pytest.raises(CommandFailed, match=problem):
        with_successor(text, "fwd.example", "relay1", {"active_until": 5}, NEXT)


def test_an_entry_as_text() -> None:
    assert toml_entry(NEXT) == '[[dkim]]\ndomain = "fwd.example"\nselector = "relay2"\n'


GOOD = """\
hostname = "mx.fwd.example"
srs = {domain = "fwd.example", secrets_file = "secret"}
listen = [{address = "127.0.0.1:25"}]
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "relay.toml"
    path.write_text(GOOD)
    (tmp_path / "secret").write_text("secret\n")
    path.chmod(0o640)
    return path


def test_a_file_is_replaced_with_its_mode_and_a_link_stays(config: Path) -> None:
    link = config.with_name("link.toml")
    link.symlink_to(config)
    replace_config(link, GOOD, GOOD + "workers = 2\n")
    assert link.is_symlink()
    assert config.read_text() == GOOD + "workers = 2\n"
    assert stat.S_IMODE(config.stat().st_mode) == 0o640


@pytest.mark.parametrize(
    ("before", "text", "error"),
    [(GOOD, GOOD + "workers = 'x'\n", ConfigError), (GOOD + "#\n", GOOD + "workers = 2\n", CommandFailed)],
)
def test_a_change_that_cannot_be_leaves_the_file(config: Path, before: str, text: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        replace_config(config, before, text)
    assert config.read_text() == GOOD
    assert {path.name for path in config.parent.iterdir()} == {"relay.toml", "secret"}

"""The reference is what the program says: the generated files are as they would be generated now."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib

import pytest

from relay.config.values import Duration, Size, duration, size
from tools.reference import page, settings
from tools.reference.__main__ import FILES, ROOT
from tools.reference.settings import Setting
from tools.reference.values import toml

SETTINGS = [setting for table in settings.tables() for setting in table.settings]
MANUALS = [name for name in FILES if name.startswith("man/")]


@pytest.mark.parametrize("name", FILES)
def test_no_generated_file_has_drifted(name: str) -> None:
    assert (ROOT / name).read_text(encoding="utf-8") == FILES[name](), "`make reference` writes it"


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.path)
def test_each_key_has_a_description_and_a_value_to_show(setting: Setting) -> None:
    assert setting.description.endswith((".", ")"))
    assert setting.required or setting.default or setting.default_in_words
    assert setting.kind and tomllib.loads(f"value = {setting.shown}")


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.path)
def test_each_key_that_a_description_names_is_there(setting: Setting) -> None:
    tables = {setting.path.rpartition(".")[0] for setting in SETTINGS} - {""}
    named = re.findall(r"`([a-z_]+(?:\.[a-z0-9_]+)+)`", setting.text)
    paths = {setting.path for setting in SETTINGS}
    assert [name for name in named if name.rpartition(".")[0] in tables and name not in paths] == []


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.path)
def test_each_key_is_on_the_page_with_its_default_and_its_variable(setting: Setting) -> None:
    entry = page.page().partition(f"\n#### `{setting.path}`\n")[2].partition("\n#")[0]
    assert f"`{setting.variable}`" in entry
    assert setting.required or "Default: " in entry
    assert f"`{setting.default}`" in entry or not setting.default


@pytest.mark.parametrize(("seconds", "text"), [(0.5, "500ms"), (30.0, "30s"), (4080.0, "68m"), (604800.0, "7d")])
def test_durations_are_written_as_they_are_read(seconds: float, text: str) -> None:
    assert toml(seconds, Duration) == f'"{text}"' and duration(text) == seconds


@pytest.mark.parametrize(("octets", "text"), [(25_000_000, "25MB"), (262_144, "256KiB"), (1000, "1KB"), (77, "77")])
def test_sizes_are_written_as_they_are_read(octets: int, text: str) -> None:
    assert toml(octets, Size) == f'"{text}"' and size(text) == octets


@pytest.mark.parametrize("name", MANUALS)
@pytest.mark.skipif(shutil.which("groff") is None, reason="groff is not installed")
def test_a_manual_page_is_set_without_a_warning(name: str) -> None:
    result = subprocess.run(
        ["groff", "-man", "-ww", "-Tutf8", ROOT / name], capture_output=True, text=True, timeout=30, check=False
    )
    assert (result.returncode, result.stderr) == (0, "")

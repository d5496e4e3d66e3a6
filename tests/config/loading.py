"""Loads a configuration from text, or returns the words of its refusal."""

from __future__ import annotations

from pathlib import Path

import pytest

from relay.config.file import load
from relay.config.model import Config, ConfigError

MINIMAL = """
hostname = "mx.fwd.example"
listen = [{address = "127.0.0.1:2525"}]
srs = {domain = "fwd.example", secrets_file = "srs.secret"}
"""


def loaded(folder: Path, text: str, environ: dict[str, str] | None = None) -> Config:
    (folder / "relay.toml").write_text(text.replace("/etc/opendkim", f"{folder}/opendkim"), encoding="utf-8")
    return load(folder / "relay.toml", environ or {})


def refusal(folder: Path, text: str, environ: dict[str, str] | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        loaded(folder, text, environ)
    return str(caught.value)

"""The secrets file and the section [srs] as a scheme."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from relay.config.file import load
from relay.srs.address import Scheme
from relay.srs.configured_scheme import read_secrets, scheme_from_config, short_secrets


@pytest.mark.parametrize(
    ("content", "secrets"),
    [
        (b"one\ntwo\n", (b"one", b"two")),
        (b"one\r\n\r\n  \ntwo", (b"one", b"two")),
        (b" kept as it is \n", (b" kept as it is ",)),
        ("Schlüssel\n".encode(), ("Schlüssel".encode(),)),
    ],
)
def test_secrets_stand_one_a_line(tmp_path: Path, content: bytes, secrets: tuple[bytes, ...]) -> None:
    file = tmp_path / "srs.secret"
    file.write_bytes(content)
    assert read_secrets(file) == secrets


def test_a_secret_as_postsrsd_makes_it_is_not_short() -> None:
    assert short_secrets([b"wMAPPPRgMQzTnmx1HMAqO0Fh"]) == {}
    assert short_secrets([b"x" * 16, b"abc", b"x" * 15]) == {2: 3, 3: 15}


def test_a_file_without_a_secret_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "srs.secret"
    file.write_bytes(b"\n  \n")
    with pytest.raises(ValueError, match="no secret"):
        read_secrets(file)
    with pytest.raises(FileNotFoundError):
        read_secrets(tmp_path / "absent")


def test_the_scheme_of_a_configuration(tmp_path: Path) -> None:
    (tmp_path / "srs.secret").write_text("tops3cr3t\n")
    (tmp_path / "relay.toml").write_text(
        """
        hostname = "mx.fwd.example"
        [[listen]]
        address = "127.0.0.1:2525"
        [srs]
        domain = "Fwd.Example"
        secrets_file = "srs.secret"
        separator = "+"
        hash_length = 8
        hash_min = 5
        max_age = "36h"
        alphabet = "url"
        """
    )
    expected = Scheme(
        "fwd.example", (b"tops3cr3t",), separator="+", hash_length=8, hash_min=5, max_age=2, alphabet="url"
    )
    assert scheme_from_config(load(tmp_path / "relay.toml", {})) == expected
    for day, first in (("", -math.inf), ("2026-12-01", 20788)):
        environ = {"RELAY_SRS__HASH": "framed"} | ({"RELAY_SRS__FRAMED_SINCE": day} if day else {})
        scheme = scheme_from_config(load(tmp_path / "relay.toml", environ))
        assert scheme == replace(expected, framed=True, framed_since=first)

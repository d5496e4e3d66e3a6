"""Files that cannot be used are found before anything starts, in a line that names the key and the file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from relay.config.model import Config, ConfigError
from relay.process.files import read_files
from relay.sign.keys import generate


def config(folder: Path, **tables: Any) -> Config:
    return Config.model_validate(
        {
            "hostname": "mx.test",
            "listen": [{"address": "127.0.0.1:0"}],
            "srs": {"domain": "fwd.test", "secrets_file": "srs.secret"},
            **tables,
        },
        context={"base": folder},
    )


SMARTHOST = {"smarthost": {"url": "smtp://hub.test", "user": "relay", "password_file": "bad"}}


@pytest.mark.parametrize(
    ("content", "tables", "key"),
    [
        (b"\n", {"srs": {"domain": "fwd.test", "secrets_file": "bad"}}, "srs.secrets_file"),
        (b"x", {"dkim": [{"domain": "fwd.test", "selector": "s", "private_key": "bad"}]}, "dkim.0.private_key"),
        (b"a@@fwd..test x y\n", {"routes": {"aliases": "bad"}}, "routes"),
        (b"joe@fwd.test REJEKT\n", {"senders": {"access": "bad"}}, "senders.access"),
        (b"x", {"tls": {"certificate": "bad", "private_key": "good.pem"}}, "tls"),
        (b"\xff", {"delivery": SMARTHOST}, "delivery.smarthost.password_file"),
    ],
)
def test_a_file_that_is_no_good_is_named_with_its_key(
    tmp_path: Path, content: bytes, tables: dict[str, Any], key: str
) -> None:
    (tmp_path / "srs.secret").write_text("secret\n")
    (tmp_path / "good.pem").write_bytes(generate("rsa2048"))
    (tmp_path / "bad").write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        read_files(config(tmp_path, **tables))
    assert str(caught.value).startswith(f"{key}: {tmp_path}/bad")
    (tmp_path / "bad").unlink()
    with pytest.raises(ConfigError, match=f"^{key}: {tmp_path}/bad: No such file"):
        read_files(config(tmp_path, **tables))


def test_opendkims_keys_sign_behind_our_own(tmp_path: Path) -> None:
    (tmp_path / "srs.secret").write_text("secret\n")
    (tmp_path / "key.pem").write_bytes(generate("ed25519"))
    folder = tmp_path / "opendkim"
    folder.mkdir()
    (folder / "KeyTable").write_text(f"k %:old:{tmp_path}/key.pem\n")
    (folder / "SigningTable").write_text("a.example k\nb.example k\n")
    entry = {"domain": "a.example", "selector": "new", "private_key": "key.pem"}
    signer = read_files(config(tmp_path, signing={"opendkim": "opendkim"}, dkim=[entry])).signer
    assert [key.record_name for key in signer.table.select("x", "a.example", 0)] == ["new._domainkey.a.example"]
    assert [key.record_name for key in signer.table.select("x", "b.example", 0)] == ["old._domainkey.b.example"]
    assert signer.table.domains == {"a.example", "b.example"}
    (folder / "SigningTable").write_text("a.example gone\n")
    with pytest.raises(ConfigError, match=r"^signing\.opendkim: .*/SigningTable:1: the KeyTable has no key 'gone'$"):
        read_files(config(tmp_path, signing={"opendkim": "opendkim"}))


def test_the_password_is_the_line_of_its_file(tmp_path: Path) -> None:
    (tmp_path / "srs.secret").write_text("secret\n")
    (tmp_path / "bad").write_text("pass word \n")
    assert read_files(config(tmp_path, delivery=SMARTHOST)).passwords == {"smarthost": "pass word "}

"""A file that is missing is named with what makes it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.config.loading import refusal

CONFIG = """
hostname = "mx.fwd.example"
listen = [{address = "127.0.0.1:2525"}]
srs = {domain = "fwd.example", secrets_file = "srs.secret"}
tls = {certificate = "fullchain.pem", private_key = "privkey.pem"}
routes = {aliases = "aliases"}
arc = {domain = "fwd.example", selector = "arc1", private_key = "dkim/arc1.pem"}
dkim = [{domain = "fwd.example", selector = "relay1", private_key = "dkim/relay1.pem"}]
"""


@pytest.mark.parametrize(
    ("file", "mend"),
    [
        ("srs.secret", "`srs-relay init {}/relay.toml` makes it"),
        ("dkim/relay1.pem", "`srs-relay keys new --config {}/relay.toml` makes it"),
        ("dkim/arc1.pem", "`srs-relay keys new --config {}/relay.toml` makes it"),
        ("fullchain.pem", "get a certificate for the host name, or remove [tls]"),
        ("privkey.pem", "get a certificate for the host name, or remove [tls]"),
        ("aliases", "`touch {}/aliases` makes it"),
    ],
)
def test_a_missing_file_is_named_with_its_mend(folder: Path, file: str, mend: str) -> None:
    (folder / file).unlink()
    assert f"{folder}/{file}: No such file or directory; {mend.format(folder)}" in refusal(folder, CONFIG)


def test_where_there_is_no_file_of_the_configuration_the_mend_names_none(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from relay.config.file import load
    from relay.config.model import ConfigError

    monkeypatch.chdir(folder)
    environ = {
        "RELAY_HOSTNAME": "mx.fwd.example",
        "RELAY_LISTEN": '[{"address": "127.0.0.1:2525"}]',
        "RELAY_SRS__DOMAIN": "fwd.example",
        "RELAY_SRS__SECRETS_FILE": "none.secret",
        "RELAY_DKIM": '[{"domain": "fwd.example", "selector": "a", "private_key": "none.pem"}]',
    }
    with pytest.raises(ConfigError) as caught:
        load(None, environ)
    secret, key = str(caught.value).splitlines()
    assert f"openssl rand -hex 32 > {folder}/none.secret" in secret
    assert "`srs-relay keys new` makes it" in key

"""The keys that a source does not know."""

from __future__ import annotations

from pathlib import Path

from relay.importer.asked import ask_for_host, ask_for_srs, tell_routes
from relay.importer.draft import Draft, Key
from relay.importer.text import config_text
from relay.srs.configured_scheme import read_secrets
from tests.importer.loading import loaded


def asked() -> Draft:
    draft = Draft("OpenDMARC", "/etc/opendmarc.conf")
    ask_for_host(draft, domain="a.example")
    ask_for_srs(draft, domain="a.example")
    tell_routes(draft)
    return draft


def test_a_host_of_which_nothing_is_known_can_be_filled_in(tmp_path: Path) -> None:
    draft = asked()
    assert draft.to_fill_in() == ["hostname", "srs.domain", "listen"]
    config = loaded(tmp_path, draft, wanted=True)
    assert (config.hostname, config.srs.domain) == ("mx.a.example", "a.example")
    assert config.routes.postmaster == "admin@mailbox.example"
    assert "does not know which recipients are ours" in config_text(draft)


def test_a_new_secret_is_long_and_so_are_its_hashes(tmp_path: Path) -> None:
    config = loaded(tmp_path, asked())
    assert len(read_secrets(config.srs.secrets_file)[0]) >= 32
    assert (config.srs.hash, config.srs.hash_length, config.srs.hash_min) == ("compatible", 8, 8)
    assert asked().new_files != asked().new_files


def test_what_is_known_is_not_asked_for() -> None:
    draft = Draft("Postfix", "main.cf")
    draft.set((), "hostname", "mx.b.example")
    draft.entry("listen", {"address": Key("0.0.0.0:25")})
    ask_for_host(draft)
    assert draft.to_fill_in() == []

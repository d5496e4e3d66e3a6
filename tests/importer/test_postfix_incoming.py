"""Postfix, as far as mail comes in: its name, trusted networks, limits."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.importer.loading import loaded, meanings
from tests.importer.postfix_site import site


@pytest.mark.parametrize(("text", "known"), [("mx.b.example", True), ("vm", False), ("localhost", False)])
def test_the_host_name(tmp_path: Path, text: str, known: bool) -> None:
    draft = site(tmp_path, f"myhostname = {text}\n")
    assert (draft.value((), "hostname") == text) is known
    assert ("hostname" in draft.to_fill_in()) is not known


@pytest.mark.parametrize(
    ("text", "trusted"),
    [
        ("mynetworks = 127.0.0.0/8 [::ffff:127.0.0.0]/104 [::1]/128\n", ["127.0.0.0/8", "::1/128"]),
        ("mynetworks = 192.0.2.1, 10.0.0.0/8\n", ["192.0.2.1/32", "10.0.0.0/8"]),
        ("mynetworks = !10.0.0.0/9 10.0.0.0/8\n", ["10.128.0.0/9"]),
        ("mynetworks = 10.0.0.0/8 !10.0.0.0/9\n", ["10.0.0.0/8"]),
        ("mynetworks = !10.0.0.0/7 10.0.0.0/8 ::1\n", ["::1/128"]),
        ("mynetworks = cidr:/etc/postfix/nets, /etc/postfix/list\n", ["10.0.0.0/8", "192.0.2.0/24", "::1/128"]),
        ("mynetworks = cidr:{{10.0.0.0/8 OK}, {::1 OK}}\n", ["10.0.0.0/8", "::1/128"]),
        ("mynetworks = texthash:/etc/postfix/nets\n", ["10.0.0.0/8"]),
        ("mynetworks_style = subnet\n", ["127.0.0.0/8", "::1/128"]),
    ],
)
def test_trusted_networks(tmp_path: Path, text: str, trusted: list[str]) -> None:
    files = {"nets": "10.0.0.0/8 OK\n", "list": "192.0.2.0/24\n[::1] # c\n"}
    assert list(site(tmp_path, text, **files).strings(("clients",), "trusted")) == [*trusted]


@pytest.mark.parametrize(
    "wide", ["0.0.0.0/0", "!10.1.0.0/16 0.0.0.0/0", "2000::/3", "10.0.0.0/8 11.0.0.0/8", "12.0.0.0/7"]
)
def test_networks_that_would_open_the_relay_are_not_trusted(tmp_path: Path, wide: str) -> None:
    draft = site(tmp_path, f"mynetworks = {wide} 192.0.2.0/24\n")
    assert draft.strings(("clients",), "trusted") == ("192.0.2.0/24",)
    assert "too wide" in meanings(draft)["mynetworks"]


@pytest.mark.parametrize("entry", ["mysql:/x.cf", "/none", "mx.example"])
def test_networks_that_cannot_be_known_are_named(tmp_path: Path, entry: str) -> None:
    draft = site(tmp_path, f"mynetworks = {entry} 10.0.0.0/8\n")
    assert draft.strings(("clients",), "trusted") == ("10.0.0.0/8",)
    assert entry in meanings(draft)["mynetworks"]


def test_limits(tmp_path: Path) -> None:
    draft = site(
        tmp_path,
        "message_size_limit = 50000000\nheader_size_limit = 100000\nhopcount_limit = 30\nsmtpd_timeout = 120s\n"
        "smtpd_client_connection_count_limit = 20\nsmtpd_recipient_limit = 500\nsmtpd_hard_error_limit = 10\n"
        "smtpd_forbid_bare_newline = yes\n",
    )
    config = loaded(tmp_path, draft)
    assert (config.receive.max_message_size, config.receive.max_header_size) == (50_000_000, 100_000)
    assert (config.receive.max_hops, config.receive.bare_newline) == (30, "normalize")
    assert (config.limits.connections_per_client, config.limits.recipients) == (20, 500)
    assert (config.limits.errors, config.limits.command_timeout) == (10, 120)


@pytest.mark.parametrize(
    "text",
    ["message_size_limit = 0", "message_size_limit = 99999999999", "smtpd_recipient_limit = 50", "hopcount_limit = x"],
)
def test_limits_that_cannot_be_are_named(tmp_path: Path, text: str) -> None:
    draft = site(tmp_path, f"{text}\n")
    assert text.split()[0] in meanings(draft)
    loaded(tmp_path, draft)

"""`srs-relay serve` with something that it cannot run with: one line that names it, exit code 1, never a traceback."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from relay.sign.keys import generate
from tests.journeys.relay_process import RelayProcess
from tests.peers import free_port

pytestmark = pytest.mark.slow  # a dozen starts of the whole program


@pytest.fixture
def relay(tmp_path: Path) -> RelayProcess:
    """A relay that would start, and has not been."""
    config = {
        "hostname": "mx.fwd.example",
        "workers": 1,
        "listen": [{"address": f"127.0.0.1:{free_port()}"}],
        "tls": {"certificate": "cert.pem", "private_key": "key.pem"},
        "srs": {"domain": "fwd.example", "secrets_file": "srs.secret"},
        "dkim": [{"domain": "fwd.example", "selector": "relay1", "private_key": "dkim.pem"}],
        "routes": {"aliases": "aliases"},
        "queue": {"url": "sqlite:///queue.db"},
    }
    relay = RelayProcess(tmp_path / "relay", config)
    (relay.folder / "srs.secret").write_text("tops3cr3t\n")
    (relay.folder / "dkim.pem").write_bytes(generate("ed25519"))
    (relay.folder / "aliases").write_text("alice@fwd.example carol@mailbox.example\n")
    request = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    files = ["-keyout", str(relay.folder / "key.pem"), "-out", str(relay.folder / "cert.pem")]
    subprocess.run([*request, "-subj", "/CN=mx.fwd.example", *files], check=True, capture_output=True)
    return relay


def refusal(relay: RelayProcess) -> str:
    """The one line on stderr, without the program's name."""
    done = relay.command("serve")
    assert done.returncode == 1, done.stderr
    assert re.fullmatch(r"srs-relay: .*\n", done.stderr), done.stderr
    return done.stderr.removeprefix("srs-relay: ").rstrip("\n")


def test_with_everything_in_place_it_starts_and_stops(relay: RelayProcess) -> None:
    relay.start()
    assert relay.terminate() == 0
    assert relay.stderr == ""


@pytest.mark.parametrize(
    ("aliases", "postmaster", "warned"),
    [
        ("alice@fwd.example carol@mailbox.example\n", "", True),
        ("alice@fwd.example carol@mailbox.example\n", "carol@mailbox.example", False),
        ("postmaster@mx.fwd.example carol@mailbox.example\n", "", False),
        ("postmaster carol@mailbox.example\n", "", False),
        ("alice@fwd.example carol@mailbox.example\n", "postmaster@fwd.example", True),
        ("alice@fwd.example carol@mailbox.example\n", "alice@fwd.example", False),
        ("postmaster carol@mailbox.example\n", "nobody@fwd.example", False),
        ("@fwd.example carol@mailbox.example\n", "postmaster@fwd.example", False),
    ],
)
def test_a_relay_without_a_postmaster_says_so_once(
    relay: RelayProcess, aliases: str, postmaster: str, warned: bool
) -> None:
    (relay.folder / "aliases").write_text(aliases)
    text = relay.config_file.read_text()
    relay.config_file.write_text(text.replace('["routes"]\n', f'["routes"]\npostmaster = "{postmaster}"\n'))
    relay.start()
    warnings = relay.events("no_postmaster")
    assert relay.terminate() == 0
    assert ["routes.postmaster" in warning["mend"] for warning in warnings] == [True] * warned


def test_without_a_postmaster_it_names_the_rule_that_is_not_met(relay: RelayProcess) -> None:
    relay.start()
    (warning,) = relay.events("no_postmaster")
    assert relay.terminate() == 0
    assert "RFC 5321 section 4.5.1" in warning["problem"] and "routes.postmaster" in warning["mend"]


def test_short_secrets_are_named_and_used(relay: RelayProcess) -> None:
    (relay.folder / "srs.secret").write_text("abc\nSixteen octets !\n")
    relay.start()
    (warning,) = relay.events("srs_secret_short")
    assert relay.terminate() == 0
    assert (warning["number"], warning["octets"], warning["level"]) == (1, 3, "warning")
    assert warning["file"] == f"{relay.folder}/srs.secret" and "openssl rand -base64 24" in warning["mend"]
    assert "abc" not in relay.log_text


def test_as_root_it_says_what_to_do(relay: RelayProcess) -> None:
    relay.start()
    warnings = relay.events("running_as_root")
    assert relay.terminate() == 0
    assert ["CAP_NET_BIND_SERVICE" in warning["mend"] for warning in warnings] == [True] * (os.geteuid() == 0)


def test_a_crash_leaves_nothing_behind(relay: RelayProcess) -> None:
    """In no process: neither a core file nor, to a program that the kernel pipes it to, any of the memory."""
    relay.start()
    processes = [relay.pid, *relay.workers()]
    try:
        assert len(processes) == 2
        for pid in processes:
            limits = Path(f"/proc/{pid}/limits").read_text()
            assert re.search(r"^Max core file size +0 +0 ", limits, re.MULTILINE)
            assert int(Path(f"/proc/{pid}/coredump_filter").read_text(), 16) == 0
    finally:
        assert relay.terminate() == 0


def empty(path: Path) -> None:
    path.write_bytes(b"")


def rubbish(path: Path) -> None:
    path.write_bytes(b"\x00\xffThis is nothing of the kind.\n" * 5)


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        *((name, damage) for name in ("dkim.pem", "cert.pem", "key.pem") for damage in (empty, rubbish)),
        *((name, damage) for name in ("srs.secret", "dkim.pem", "cert.pem") for damage in (Path.unlink, folder)),
        ("srs.secret", empty),
        ("aliases", Path.unlink),
        ("aliases", rubbish),
    ],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_a_file_that_cannot_be_used(relay: RelayProcess, name: str, damage: Callable[[Path], Any]) -> None:
    damage(relay.folder / name)
    assert str(relay.folder / name) in refusal(relay)


def test_a_key_that_does_not_belong_to_the_certificate(relay: RelayProcess) -> None:
    (relay.folder / "key.pem").write_bytes(generate("rsa2048"))
    assert str(relay.folder / "key.pem") in refusal(relay)


def test_a_queue_file_that_is_none_is_left_alone(relay: RelayProcess) -> None:
    queue = relay.folder / "queue.db"
    notes = b"These are notes of mine, not a queue at all. " * 100
    queue.write_bytes(notes)
    assert refusal(relay) == f"{queue}: file is not a database: move it away, or name another file in queue.url"
    assert queue.read_bytes() == notes


def test_a_queue_that_cannot_be_opened(relay: RelayProcess) -> None:
    (relay.folder / "queue.db").mkdir()
    said = "unable to open database file: it is a folder: move it away, or name another file in queue.url"
    assert refusal(relay) == f"{relay.folder}/queue.db: {said}"


def test_a_queue_in_a_folder_that_is_not_there(relay: RelayProcess) -> None:
    text = relay.config_file.read_text()
    relay.config_file.write_text(text.replace("queue.db", "spool/queue.db"))
    text = refusal(relay)
    assert text.startswith(f"{relay.folder}/spool/queue.db") and text.endswith(": No such file or directory")


def test_an_address_that_cannot_be_had(relay: RelayProcess) -> None:
    text = relay.config_file.read_text()
    relay.config_file.write_text(text.replace("127.0.0.1", "192.0.2.1"))
    said = f"cannot listen on 192.0.2.1:{relay.port}: Cannot assign requested address: no interface of this host has"
    assert refusal(relay).startswith(said)

"""`srs-relay explain`: what it says of a message is what the relay would do, and nothing is sent or stored."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from relay.cli import run
from relay.mail.message import Message
from relay.queue.connect import connect
from relay.queue.store import Store
from relay.sign.dkim_signature import sign
from relay.sign.keys import SigningKey, generate, parse, zone_line
from relay.srs.address import Scheme, forward_token
from tests.journeys.world import Nameserver

SENDER_IP, OUR_IP, STRANGER = "192.0.2.11", "192.0.2.25", "192.0.2.66"
PEM = generate("rsa2048")
THEIRS, OURS = (SigningKey(domain, "s1", parse(PEM)) for domain in ("shop.example", "fwd.example"))
PLAIN = b"From: Shop News <news@shop.example>\r\nTo: alice@fwd.example\r\nSubject: hello\r\n\r\nHi.\r\n"
SIGNED = sign(Message(PLAIN), THEIRS, 1_790_000_000) + PLAIN

Explained = dict[str, Any]


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    handlers, level = logging.root.handlers, logging.root.level
    yield
    structlog.reset_defaults()
    logging.captureWarnings(False)
    logging.root.handlers, logging.root.level = handlers, level


@pytest.fixture(scope="module")
def nameserver() -> Iterator[str]:
    zone = {
        ("shop.example", "TXT"): [f'"v=spf1 ip4:{SENDER_IP} -all"'],
        ("_dmarc.shop.example", "TXT"): ['"v=DMARC1; p=reject"'],
        ("_dmarc.fwd.example", "TXT"): ['"v=DMARC1; p=reject; adkim=s"'],
        ("fwd.example", "TXT"): [f'"v=spf1 ip4:{OUR_IP} -all"'],
        ("mx.fwd.example", "A"): [OUR_IP],
    }
    for key in (THEIRS, OURS):
        zone[key.record_name, "TXT"] = [zone_line(key.record_name, key.public_record()).partition(" TXT ")[2]]
    server = Nameserver(zone, {"_dmarc.down.example": "servfail"})
    server.start()
    yield server.endpoint
    server.stop()


@pytest.fixture
def folder(tmp_path: Path, nameserver: str) -> Path:
    (tmp_path / "srs.secret").write_bytes(b"tops3cr3t\n")
    (tmp_path / "relay1.pem").write_bytes(PEM)
    (tmp_path / "aliases").write_text("alice@fwd.example carol@mailbox.example\n")
    (tmp_path / "signed.eml").write_bytes(SIGNED)
    (tmp_path / "plain.eml").write_bytes(PLAIN.replace(b"\r\n", b"\n"))
    (tmp_path / "relay.toml").write_text(
        f"""
        hostname = "mx.fwd.example"
        listen = [{{address = "127.0.0.1:2525"}}]
        dns = {{nameservers = ["{nameserver}"]}}
        clients = {{trusted = ["198.51.100.0/24"]}}
        srs = {{domain = "fwd.example", secrets_file = "srs.secret"}}
        dkim = [{{domain = "fwd.example", selector = "s1", private_key = "relay1.pem"}}]
        routes = {{aliases = "aliases"}}
        """
    )
    return tmp_path


def explained(folder: Path, capsys: pytest.CaptureFixture[str], message: str, *options: str) -> Explained:
    files = set(folder.iterdir())
    assert run(["explain", "--config", str(folder / "relay.toml"), "--json", *options, str(folder / message)]) == 0
    assert set(folder.iterdir()) == files, "a dry run leaves nothing behind"
    found: Explained = json.loads(capsys.readouterr().out)
    return found


def dkim_of(checks: Explained) -> list[tuple[str, str]]:
    return [(one["result"], one["domain"]) for one in checks["dkim"]]


def test_signed_mail_goes_on_as_it_is_and_passes_at_the_next_hop(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = explained(folder, capsys, "signed.eml", "--ip", SENDER_IP, "--from", "news@shop.example", "--next-hop-view")
    assert [step["reply"].split()[0] for step in found["session"]] == ["250", "250", "250"]
    assert (found["accepted"], found["unforwardable"]) == (True, "")
    assert found["checks"]["spf"]["result"] == found["checks"]["dmarc"]["result"] == "pass"
    assert ("_dmarc.shop.example", ["v=DMARC1; p=reject"]) in [(one["name"], one["records"]) for one in found["dns"]]
    [way] = found["deliveries"]
    assert (way["recipient"], way["original_recipient"]) == ("carol@mailbox.example", "alice@fwd.example")
    assert way["mail_from"].startswith("SRS0=") and not way["from_rewritten"]
    assert [field.partition(":")[0] for field in way["added"]] == [
        "ARC-Seal",
        "ARC-Message-Signature",
        "ARC-Authentication-Results",
        "DKIM-Signature",
        "Authentication-Results",
        "X-SRS-Relay",
        "Received",
    ]
    [view] = way["next_hop_view"]
    assert view["ip"] == OUR_IP
    assert view["checks"]["spf"]["result"] == view["checks"]["arc"]["result"] == "pass"
    assert dkim_of(view["checks"]) == [("pass", "fwd.example"), ("pass", "shop.example")]
    assert (view["checks"]["dmarc"]["result"], view["checks"]["dmarc"]["aligned"]) == ("pass", ["dkim"])


def test_mail_that_passes_by_spf_alone_gets_our_from(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = explained(folder, capsys, "plain.eml", "--ip", SENDER_IP, "--from", "news@shop.example", "--next-hop-view")
    assert "SPF alone" in found["unforwardable"]
    [way] = found["deliveries"]
    assert way["from_rewritten"] and "Shop News via fwd.example" in way["from"][0]
    [view] = way["next_hop_view"]
    assert (view["checks"]["dmarc"]["result"], view["checks"]["dmarc"]["domain"]) == ("pass", "fwd.example")


def test_a_forgery_shows_the_reply_and_nothing_that_leaves(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = explained(folder, capsys, "plain.eml", "--ip", STRANGER, "--from", "x@elsewhere.example")
    assert found["session"][-1]["reply"].startswith("550 5.7.26") and not found["accepted"]
    assert (found["checks"]["dmarc"]["result"], found["deliveries"]) == ("fail", [])


def test_a_deferral_shows_the_name_that_dns_does_not_answer_for(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "down.eml").write_bytes(PLAIN.replace(b"news@shop.example", b"news@down.example"))
    found = explained(folder, capsys, "down.eml", "--ip", STRANGER, "--from", "x@elsewhere.example")
    assert (
        found["session"][-1]["reply"].startswith("451 4.7.26")
        and "_dmarc.down.example" in found["session"][-1]["reply"]
    )
    assert (found["checks"]["dmarc"]["result"], found["deliveries"]) == ("temperror", [])
    assert ("_dmarc.down.example", []) in [(one["name"], one["records"]) for one in found["dns"]]


def test_a_recipient_that_is_refused_is_shown(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = explained(folder, capsys, "plain.eml", "--ip", SENDER_IP, "--to", "x@elsewhere.example")
    assert found["session"][-1]["reply"].startswith("550 5.7.1") and found["checks"] is None


def test_of_a_trusted_client_nothing_is_checked(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = explained(folder, capsys, "plain.eml", "--ip", "198.51.100.5", "--to", "x@elsewhere.example")
    assert found["client"]["trusted"] and found["accepted"]
    assert found["checks"]["spf"] is None and found["checks"]["dmarc"] is None


def test_sender_and_recipients_are_those_of_the_message(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = explained(folder, capsys, "plain.eml", "--ip", SENDER_IP)
    assert [step["command"] for step in found["session"][:2]] == [
        "MAIL FROM:<news@shop.example>",
        "RCPT TO:<alice@fwd.example>",
    ]


def test_a_person_reads_it(folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    options = ["--config", str(folder / "relay.toml"), "--ip", SENDER_IP, "--next-hop-view"]
    assert run(["explain", *options, str(folder / "plain.eml")]) == 0
    out = capsys.readouterr().out
    for said in ("p=reject at shop.example; aligned: spf", "Forwarding would break it", "(rewritten)", "ARC-Seal: i=1"):
        assert said in out


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["nowhere.eml"], "nowhere.eml: No such file or directory"),
        (["--ip", "1.2.3", "plain.eml"], "'1.2.3' is not an address"),
        (["--from", "@", "plain.eml"], "'@': the address has no domain"),
        (["--to", "alice", "plain.eml"], "'alice': the address has no domain"),
    ],
)
def test_what_cannot_be_explained_is_one_line(
    folder: Path, capsys: pytest.CaptureFixture[str], options: list[str], said: str
) -> None:
    assert run(["explain", "--config", str(folder / "relay.toml"), *options[:-1], str(folder / options[-1])]) in (1, 2)
    out, err = capsys.readouterr()
    assert out == "" and said in err and err.count("\n") == 1


def test_what_came_from_outside_moves_no_cursor_and_turns_no_line(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    hostile = "From: \x1b[2Jnews\u202e <news@shop.example>\r\nTo: alice@fwd.example\r\nSubject: \u200bx\r\n\r\nHi.\r\n"
    (folder / "hostile.eml").write_bytes(hostile.encode())
    options = ["--ip", SENDER_IP, "--helo", "mx\u202e.shop.example", "--from", "n\u2066x@shop.example"]
    assert run(["explain", "--config", str(folder / "relay.toml"), *options, str(folder / "hostile.eml")]) == 0
    text = capsys.readouterr().out
    assert text.replace("\n", "").isprintable()
    assert r"mx\u202e.shop.example" in text and r"n\u2066x@shop.example" in text


async def stored(folder: Path, sender: str) -> str:
    queue = await connect(f"sqlite:///{folder / 'queue.db'}", owner="test")
    try:
        return await Store(queue, "test").token_for(sender, time.time(), 86400)
    finally:
        await queue.close()


def test_a_stored_sender_is_found_in_the_queue(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    long = "x" * 60 + "@shop.example"
    token = asyncio.run(stored(folder, long))
    address = forward_token(token, Scheme("fwd.example", (b"tops3cr3t",)), time.time())
    options = ["--config", str(folder / "relay.toml"), "--json", "--ip", SENDER_IP, "--to", address]
    assert run(["explain", *options, str(folder / "signed.eml")]) == 0
    assert [way["recipient"] for way in json.loads(capsys.readouterr().out)["deliveries"]] == [long]


def test_a_sender_too_long_for_an_srs_address_has_one_token_for_all_deliveries(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with (folder / "aliases").open("a") as aliases:
        aliases.write("pair@fwd.example a@one.example, b@two.example\n")
    options = ["--config", str(folder / "relay.toml"), "--json", "--ip", SENDER_IP, "--to", "pair@fwd.example"]
    assert run(["explain", *options, "--from", "x" * 60 + "@shop.example", str(folder / "signed.eml")]) == 0
    first, second = (way["mail_from"] for way in json.loads(capsys.readouterr().out)["deliveries"])
    assert first == second and first.endswith("@fwd.example")

"""`srs-relay explain`: what it says of a message is what the relay would do, and nothing is sent or stored."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dkim
import pytest

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
def kernel(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What the kernel sends from, by family; without an entry there is no route."""
    sources = {"ipv4": OUR_IP}
    for module in ("relay.sending_addresses", "relay.cli.address_seen"):
        monkeypatch.setattr(
            f"{module}.kernel_choice",
            lambda destination, source="": sources.get("ipv6" if ":" in destination else "ipv4"),
        )
    return sources


@pytest.fixture(scope="module")
def nameserver() -> Iterator[str]:
    zone = {
        ("mailbox.example", "MX"): ["10 mx.mailbox.example."],
        ("mx.mailbox.example", "A"): ["8.8.8.8"],
        ("mx.mailbox.example", "AAAA"): ["2a01:4f8::8"],
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
    assert (view["address_from"], view["behind"]) == ("kernel", "")
    assert view["hosts"] == [{"name": "mx.mailbox.example", "address": "8.8.8.8", "port": 25}]
    assert ("mailbox.example", "MX") in [(one["name"], one["type"]) for one in way["dns"]]
    opinion = view["second_opinion"]
    assert opinion["agrees"] and opinion["differences"] == opinion["problems"] == []
    assert dkim_of(opinion) == dkim_of(view["checks"])
    assert opinion["spf"]["result"] == opinion["arc"]["result"] == opinion["dmarc"]["result"] == "pass"
    assert [(one["field"], one["domain"], one["selector"]) for one in way["signatures"]] == [
        ("ARC-Seal", "fwd.example", "s1"),
        ("DKIM-Signature", "fwd.example", "s1"),
    ]


def test_spf_of_the_next_hop_is_for_the_address_that_mail_leaves_from(
    folder: Path, capsys: pytest.CaptureFixture[str], kernel: dict[str, str]
) -> None:
    """A host with IPv6 whose SPF and name have IPv4 alone."""
    kernel["ipv6"] = "2001:db8::25"
    options = ["signed.eml", "--ip", SENDER_IP, "--next-hop-view"]
    [way] = explained(folder, capsys, *options)["deliveries"]
    assert [(view["ip"], view["checks"]["spf"]["result"]) for view in way["next_hop_view"]] == [
        ("2001:db8::25", "fail"),
        (OUR_IP, "pass"),
    ]
    with (folder / "relay.toml").open("a") as config:
        config.write('delivery = {families = ["ipv4"]}\n')
    [way] = explained(folder, capsys, *options)["deliveries"]
    assert [view["ip"] for view in way["next_hop_view"]] == [OUR_IP]


def test_where_dkimpy_differs_both_opinions_are_shown(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A signature with l= that leaves a part of the body open: dkimpy accepts it."""
    content = PLAIN.replace(b"news@shop.example", b"news@open.example")  # has no DMARC, so From stays
    signer = dkim.DKIM(content)
    options = {"include_headers": [b"from", b"to", b"subject"], "length": True, "canonicalize": (b"relaxed", b"simple")}
    signature = signer.sign(b"s1", b"shop.example", PEM, **options)
    (folder / "open.eml").write_bytes(signature + content + b"Something else.\r\n")
    found = explained(folder, capsys, "open.eml", "--ip", SENDER_IP, "--next-hop-view")
    [view] = found["deliveries"][0]["next_hop_view"]
    [difference] = [one for one in view["second_opinion"]["differences"] if one["check"] == "dkim"]
    assert (difference["subject"], difference["ours"]["result"]) == ("shop.example (s1)", "policy")
    assert difference["theirs"] == {"result": "pass", "problem": ""} and difference["by"].startswith("dkimpy 1.")
    assert not view["second_opinion"]["agrees"]
    monkeypatch.setenv("COLUMNS", "200")
    arguments = ["--config", str(folder / "relay.toml"), "--ip", SENDER_IP, "--next-hop-view", str(folder / "open.eml")]
    assert run(["explain", *arguments]) == 0
    out = capsys.readouterr().out
    assert "differs  DKIM of shop.example (s1): we say policy (" in out and "says pass" in out


def test_a_header_that_dkimpy_cannot_read_is_an_opinion_and_no_error(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "odd.eml").write_bytes(b"this is no field\r\n" + SIGNED)
    found = explained(folder, capsys, "odd.eml", "--ip", SENDER_IP, "--next-hop-view")
    [view] = found["deliveries"][0]["next_hop_view"]
    assert view["second_opinion"]["problems"] == ["dkimpy cannot read this header: 'this is no field'"]


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


def test_what_access_tables_say_is_shown(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = folder / "relay.toml"
    config.write_text(config.read_text() + 'senders = {access = "senders.access"}\n')
    table = folder / "senders.access"
    table.write_text("shop.example HOLD look at it\n")
    found = explained(folder, capsys, "plain.eml", "--ip", SENDER_IP, "--from", "news@shop.example")
    assert found["tables"] == ["senders.access has HOLD look at it for <news@shop.example> (shop.example)"]
    assert found["accepted"] and found["held"] == "senders.access shop.example: look at it"
    table.write_text("shop.example OK\n")
    options = ("--ip", "198.51.100.5", "--from", "news@shop.example")
    (said,) = explained(folder, capsys, "plain.eml", *options)["tables"]
    assert said.endswith("which does not count: SPF is not checked for trusted clients")


def test_sender_and_recipients_are_those_of_the_message(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = explained(folder, capsys, "plain.eml", "--ip", SENDER_IP)
    assert [step["command"] for step in found["session"][:2]] == [
        "MAIL FROM:<news@shop.example>",
        "RCPT TO:<alice@fwd.example>",
    ]


def shown(folder: Path, capsys: pytest.CaptureFixture[str], *options: str) -> str:
    assert run(["explain", "--config", str(folder / "relay.toml"), "--ip", SENDER_IP, *options]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("message", ["signed.eml", "plain.eml"])
def test_a_person_sees_the_decisions_on_one_screen(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, message: str
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    lines = shown(folder, capsys, str(folder / message)).splitlines()
    assert len(lines) <= 24 and max(map(len, lines)) <= 80
    text = "\n".join(lines)
    for said in (
        "Accepted, and would leave for 1 address.",
        "250 2.0.0 Ok: queued as",
        "p=reject at shop.example; aligned: spf",
        "To carol@mailbox.example, behind alice@fwd.example",
        "next hop   mailbox.example",
        "ARC seal fwd.example (s1), DKIM fwd.example (s1)",
        "More: --headers, --dns",
    ):
        assert said in text
    assert re.search(r"<SRS0=\S+=shop\.example=news@fwd\.example> \(srs:", text)
    assert ("(rewritten)" in text) == ("Forwarding would break it" in text) == (message == "plain.eml")
    assert "ARC-Seal: i=1" not in text and "v=spf1" not in text


def test_headers_and_dns_are_printed_on_demand(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    message = str(folder / "plain.eml")
    headers = shown(folder, capsys, "--headers", message)
    assert "  ARC-Seal: i=1" in headers and "v=spf1" not in headers and "More: --dns\n" in headers
    dns = shown(folder, capsys, "--dns", "--next-hop-view", message)
    assert "ARC-Seal: i=1" not in dns and "More: --headers\n" in dns
    assert f"  shop.example TXT\n    v=spf1 ip4:{SENDER_IP} -all\n" in dns
    assert "  mailbox.example MX\n    10 mx.mailbox.example\n" in dns
    assert "What DNS says to the next hop of carol@mailbox.example, for 192.0.2.25" in dns
    assert "More" not in shown(folder, capsys, "--dns", "--headers", message)


def test_no_address_is_broken_over_two_lines(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    alias, target = f"{'a' * 50}@fwd.example", f"{'b' * 60}@{'mailbox.' * 5}example"
    with (folder / "aliases").open("a") as aliases:
        aliases.write(f"{alias} {target}\n")
    sender = '"news and offers of the week"@shop.example'
    for width in ("40", "80"):
        monkeypatch.setenv("COLUMNS", width)
        text = shown(folder, capsys, "--from", sender, "--to", alias, "--next-hop-view", str(folder / "plain.eml"))
        for address in (alias, target, f"<{sender}>", f"={sender.partition('@')[0][1:]}@fwd.example"):
            assert address in text, text


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

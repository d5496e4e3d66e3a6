"""The Received field: who, by whom, how and for whom, with nothing in it that a client could abuse."""

from __future__ import annotations

from typing import Any

import pytest

from relay.mail.envelope import Client
from relay.mail.message import Message
from relay.rewrite.received_field import address_literal, received_field

NOW = 1_750_000_000.9
TLS: dict[str, Any] = {"tls": "TLSv1.3 TLS_AES_256_GCM_SHA384", "cipher_bits": (256, 256)}


def received(client: Client, recipient: str = "", smtputf8: bool = False) -> str:
    return received_field(client, "mx.fwd.example", "q1", recipient, smtputf8, NOW).decode("ascii")


def test_the_whole_field() -> None:
    client = Client("192.0.2.1", 25, "mail.a.example", "mx.a.example", protocol="ESMTPS", **TLS)
    assert received(client, "alice@fwd.example") == (
        "Received: from mail.a.example (mx.a.example [192.0.2.1])\r\n"
        "\t(using TLSv1.3 with cipher TLS_AES_256_GCM_SHA384 (256/256 bits))\r\n"
        "\tby mx.fwd.example with ESMTPS id q1\r\n"
        "\tfor <alice@fwd.example>;\r\n"
        "\tSun, 15 Jun 2025 15:06:40 +0000\r\n"
    )


def test_nothing_of_a_hidden_client_is_shown() -> None:
    client = Client("2001:db8::1", 25, "laptop.home", "dsl-1.isp.example", protocol="ESMTPSA", user="ann", **TLS)
    written = received_field(client, "mx.fwd.example", "q1", "alice@fwd.example", False, NOW, hidden=True).decode()
    assert written == (
        "Received: from mx.fwd.example\r\n"
        "\t(using TLSv1.3 with cipher TLS_AES_256_GCM_SHA384 (256/256 bits))\r\n"
        "\tby mx.fwd.example with ESMTPSA id q1\r\n"
        "\tfor <alice@fwd.example>;\r\n"
        "\tSun, 15 Jun 2025 15:06:40 +0000\r\n"
    )


def test_a_client_without_a_name_and_without_ehlo() -> None:
    assert received(Client("2001:db8::1", 25)).startswith("Received: from unknown (unknown [IPv6:2001:db8::1])\r\n\tby")


@pytest.mark.parametrize("recipient", ["", "j\u00f6rg@fwd.example"])
def test_a_recipient_that_cannot_be_named_is_not(recipient: str) -> None:
    assert "for <" not in received(Client("192.0.2.1", 25), recipient)


@pytest.mark.parametrize(
    ("protocol", "expected"),
    [("ESMTP", "UTF8SMTP"), ("ESMTPS", "UTF8SMTPS"), ("ESMTPSA", "UTF8SMTPSA"), ("SMTP", "SMTP")],
)
def test_the_keyword_of_smtputf8(protocol: str, expected: str) -> None:
    client = Client("192.0.2.1", 25, protocol=protocol)
    assert f" with {expected} id " in received(client, smtputf8=True)
    assert f" with {protocol} id " in received(client)


@pytest.mark.parametrize("name", ["a\r\nBcc: x", "(a) [192.0.2.9]", "b\u00fccher.example", 'x" <y> ; z', "a" * 5000])
def test_no_name_of_a_client_breaks_out_of_its_place(name: str) -> None:
    written = received(Client("192.0.2.1", 25, name, name))
    (field,) = Message(written.encode() + b"\r\n").fields
    assert field.name == "received"
    first_line = written.partition("\r\n")[0]
    assert first_line.count("(") == first_line.count(")") == 1
    assert first_line.endswith("[192.0.2.1])")
    assert not {";", "<", '"', "\u00fc"} & {*first_line}


def test_addresses_are_written_as_literals_of_smtp() -> None:
    assert [address_literal(ip) for ip in ("192.0.2.1", "2001:db8::1")] == ["192.0.2.1", "IPv6:2001:db8::1"]

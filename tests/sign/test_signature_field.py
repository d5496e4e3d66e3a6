"""How a signature field is written: its tags in their order, folded, with a signature over what stands before it."""

from __future__ import annotations

import base64
import hashlib

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from relay.mail.message import Message
from relay.sign.covered_fields import covered_fields
from relay.sign.keys import SigningKey
from relay.sign.signature_field import field_octets, fold, message_signature, signed_field
from tests import corpus

KEY = corpus.ED25519
HEADER = b"from:a@a.example\r\n"


def test_the_tags_in_their_order() -> None:
    covered = covered_fields(Message(b"From: a@a.example\r\n\r\n").fields)
    assert covered is not None
    field = message_signature("DKIM-Signature", " v=1;", covered, "HASH", KEY, 1_750_000_000).decode()
    assert all(len(line) <= 78 for line in field.split("\r\n"))
    text = field.replace(":\r\n ", ":").replace("\r\n ", " ").partition(" b=")[0]
    assert text.startswith(
        f"DKIM-Signature: v=1; a=ed25519-sha256; c=relaxed/relaxed; d={KEY.domain}; s={KEY.selector}; t=1750000000;"
        " h=from:from:"
    )
    assert text.endswith("content-transfer-encoding; bh=HASH;")


@pytest.mark.parametrize("canonicalization", ["relaxed", "simple"])
def test_the_signature_is_over_the_header_and_the_field_before_it(canonicalization: str) -> None:
    text = "DKIM-Signature: v=1;\r\n h=" + "x" * 60 + "; bh=HASH;"
    if canonicalization == "relaxed":
        field = signed_field("DKIM-Signature", text, HEADER, KEY)
        signed = b"dkim-signature:v=1; h=" + b"x" * 60 + b"; bh=HASH; b="
    else:
        field = signed_field("DKIM-Signature", text, HEADER, KEY, "simple")
        signed = field[: field.rindex(b" b=") + 3]
    signature = base64.b64decode(b"".join(field[field.rindex(b" b=") + 3 :].split()))
    public = base64.b64decode(KEY.public_record().partition("p=")[2])
    digest = hashlib.sha256(HEADER + signed).digest()
    Ed25519PublicKey.from_public_bytes(public).verify(signature, digest)
    assert max(map(len, field.split(b"\r\n"))) <= 78


def test_a_field_is_folded_between_its_pieces_only() -> None:
    assert fold(["Name:", " one", " two"]) == "Name: one two"
    assert fold(["Name:", " " + "a" * 70, " " + "b" * 70]) == f"Name: {'a' * 70}\r\n {'b' * 70}"
    assert fold(["Name:", " " + "a" * 70, "b" * 10]) == f"Name: {'a' * 70}\r\n {'b' * 10}"
    assert fold(["Name:", " " + "a" * 200]) == f"Name:\r\n {'a' * 200}"


@pytest.mark.parametrize("key", [corpus.RSA, corpus.ED25519], ids=["rsa", "ed25519"])
def test_a_field_without_its_names_is_never_longer_than_announced(key: SigningKey) -> None:
    field = signed_field("ARC-Message-Signature", f"ARC-Message-Signature:\r\n {'x' * 900};", HEADER, key)
    assert len(field) <= field_octets(key)


@pytest.mark.parametrize("column", range(60, 90))
def test_the_signature_begins_a_line_where_it_has_no_room(column: int) -> None:
    field = signed_field("X", f"X: {'x' * (column - 4)};", HEADER, corpus.RSA)
    first, *others = field.removesuffix(b"\r\n").split(b"\r\n ")
    assert len(first) <= max(column, 78) and max(map(len, others)) <= 77
    signature = b"".join([*([first] if b" b=" in first else []), *others]).partition(b"b=")[2]
    assert len(base64.b64decode(signature, validate=True)) == corpus.RSA.signature_octets

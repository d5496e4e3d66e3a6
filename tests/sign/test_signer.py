from __future__ import annotations

import pytest

from relay.message import Message
from relay.sign.dkim import SIGNED_NAMES
from relay.sign.keys import SigningKey, generate, parse
from relay.sign.signer import Signer

NOW = 1_790_000_000.0
PRIVATE = parse(generate("ed25519"))


def key(domain: str, selector: str) -> SigningKey:
    return SigningKey(domain, selector, PRIVATE)


SIGNER = Signer([key("brand.example", "b1"), key("fwd.example", "f1"), key("fwd.example", "f2")], "fwd.example")


@pytest.mark.parametrize(
    ("author", "selectors"),
    [
        ("a@brand.example", ["b1"]),
        ("a@fwd.example", ["f1", "f2"]),
        ("a@elsewhere.example", ["f1", "f2"]),
        ("a@brand.example, b@elsewhere.example", ["f1", "f2"]),
    ],
)
def test_the_authors_domain_signs_as_itself_and_the_forwarder_for_the_rest(author: str, selectors: list[str]) -> None:
    fields = SIGNER.fields(Message(f"From: {author}\r\n\r\n".encode()), NOW).decode()
    assert [line.partition("s=")[2].partition(";")[0] for line in fields.split("DKIM-Signature:")[1:]] == selectors


def test_without_a_key_of_the_forwarder_the_first_key_signs() -> None:
    fields = Signer([key("brand.example", "b1")], "fwd.example").fields(Message(b"From: a@x.example\r\n\r\n"), NOW)
    assert b"d=brand.example" in fields


def test_no_keys_no_signature() -> None:
    assert Signer([], "fwd.example").fields(Message(b"From: a@x.example\r\n\r\n"), NOW) == b""


def test_a_size_that_is_announced_has_room_for_the_signatures() -> None:
    keys = [key("fwd.example", "f1"), SigningKey("fwd.example", "f2", parse(generate("rsa4096")))]
    message = Message("".join(f"{name}: x\r\n" for name in SIGNED_NAMES).encode() + b"\r\nHi.\r\n")
    signer = Signer(keys, "fwd.example")
    assert 0 < len(signer.fields(message, NOW)) <= signer.octets(message) < 4096

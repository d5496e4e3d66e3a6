"""Control characters inside the addresses of From, Sender and Reply-To, and in the names beside them."""

from __future__ import annotations

import pytest

from relay.authenticate.control_characters import refuse_control_characters
from relay.mail.message import Message
from relay.mail.reply import Refused

CONTROLS = [b"\0", b"\x01", b"\x0b", b"\x0c", b"\x1b", b"\x7f", b"\xc2\x85"]


@pytest.mark.parametrize("name", [b"From", b"sender", b"REPLY-TO", b"From "])
@pytest.mark.parametrize("control", CONTROLS)
@pytest.mark.parametrize(
    "value",
    [
        b"ann@b%s.example",
        b"%sann@b.example",
        b"ann@b.example%s",
        b"Ann <an%sn@b.example>",
        b"Ann <%sann@b.example>",
        b"Ann <ann@b.example%s>",
        b"Ann <ann%s>",
        b"ann @ %sb.example",
        b"ann@b\r\n .%sexample",
        b'"an%sn"@b.example',
        b'<"an%sn" @b.example>',
        b"joe@c.example, Us: ann@%sb.example;",
        b"ann@b.exa%smple (Ann)",
        b"\x1b$B@n8}\x1b(B <ann@b%s.example>",
        b'"A (b" <ann@b%s.example>, "c) d" <joe@c.example>',
        b'"ann"@b%s.example, "Joe" <joe@c.example>',
        b"(a\\) <ann@b%s.example> (b)",
        b'"A <ann@b%s.example>',
        b"\x1b$B ann@b%s.example",
    ],
)
def test_inside_an_address(name: bytes, control: bytes, value: bytes) -> None:
    message = Message(b"%s: %s\r\nSubject: s\r\n\r\nbody\r\n" % (name, value % control))
    with pytest.raises(Refused, match=rf"^550 5\.6\.0 (?i:{name.decode().strip()}) has "):
        refuse_control_characters(message)


@pytest.mark.parametrize(
    "value",
    [
        b"Ann\0 <ann@b.example>",
        b"\x01 Ann \x7f<ann@b.example>",
        b'"Ann \x0b\x07" <ann@b.example>',
        b"Ann (\x01) <ann@b.example>",
        b"ann@b.example (\0)",
        b"Ann\r\n\t<ann@b.example>",
        b"Ann <ann@b.example\t>",
        b"Ann\t<\tann\t@\tb.example\t>",
        b'\x1b$B@n8}<"(\x1b(B <ann@b.example>',
        b"\x1b$B@n8}\x1b(B<ann@b.example>",
        b'"\x1b$@@n8}\x1b(J" <ann@b.example>',
        b"\x1b$)C\x0e0!@L\x0f <ann@b.example>",
        b"\x1b(I1@2\x1b(B <ann@b.example>",
        b"\x1b[31mAnn\x1b[0m <ann@b.example>",
        "Ann\x85 <ann@b.example>".encode(),
        b"J\xfcrgen\x85 <ann@b.example>",
        b'"A\x01 <ann@b.example>',
        b"\x1b$B@n8}\x1b$(D@<\x1b(B <ann@b.example>",
    ],
)
def test_beside_an_address(value: bytes) -> None:
    refuse_control_characters(
        Message(b"From: %s\r\nReply-To: %s\r\nTo: \0 <a\0@b>\r\nSubject: \0\r\n\r\n\0\r\n" % (value, value))
    )


@pytest.mark.parametrize("value", [b'"\x01\\', b"(\x01\\", b'\x01("\\', b"\x1b$B\x01", b'"\\"\x01', b'\\"\x01'])
def test_what_is_never_closed_is_read_once(value: bytes) -> None:
    """As long as a header may be: read anew from each octet it would take minutes, in which nobody else is served."""
    refuse_control_characters(Message(b"Sender: \x01%s\r\n\r\n" % (value * (240_000 // len(value)))))

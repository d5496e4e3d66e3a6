"""From, the last resort: an author whose mail would fail DMARC at the next hop becomes an address of ours.

This is the one edit of a field that came in. It happens in steps, because an address may have to be stored first:
`authors` says who wrote, `relay.srs.reply_address.reply_addresses` which addresses of ours stand for them, and
`rewritten` makes the message that leaves.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from relay.authenticate.author import author_domains
from relay.mail.address import domain_of
from relay.mail.mailbox_list import AUTHORS, READ_CHARACTERS, Author, clean, decoded, field, read, text_of
from relay.mail.message import HeaderField, Message
from relay.srs.reply_address import UNKNOWN

ORIGINAL = b"X-Original-From"

_LINE_OCTETS = 998  # RFC 5322 section 2.1.1: what a line may have


def authors(message: Message) -> tuple[str, ...]:
    """The addresses in the From fields as far as they can be read, each once."""
    return tuple(dict.fromkeys(author.address for author in _authors(message)))


def rewritten(message: Message, addresses: Mapping[str, str], domain: str) -> Message:
    """The message as it leaves when its authors may not appear in From.

    One From stands in the place of the first: each author under the address of ours, with the name (or where there is
    none the address, written `news at shop.example`) and `via DOMAIN`, as mailing lists do it. Where nobody can be
    read, what stood there becomes the name, over an address that takes no replies. Every From that came in stays where
    it was, as `X-Original-From` with the same octets, and below the new one stands a Reply-To with the authors where
    there was none. All other fields and the body are those that came in. A message whose authors are all of `domain`
    already, or that has none, comes back as it is.

    The content is copied: a large message is for a thread.

    Args:
        addresses: an address of `domain` for each of `authors(message)`.
        domain: ours, normal.

    Raises:
        KeyError: there is no address for an author.
    """
    found = _authors(message)
    if {*author_domains(message), *(domain_of(author.address) for author in found)} <= {domain}:
        return message
    shown = [_shown(author, addresses[author.address], domain) for author in found]
    on_top = field("From", shown or [_unknown(message, domain)])
    if found and not message.all("reply-to"):
        on_top += field("Reply-To", [Author(clean(name), address) for name, address in found])
    header = []
    for one in message.fields:
        if one.name == "from":
            header.append(on_top + _renamed(one))
            on_top = b""
        else:
            header.append(one.raw)
    return message.with_header(b"".join(header))


def _authors(message: Message) -> list[Author]:
    return [author for value in _values(message) for author in read(value)][:AUTHORS]


def _values(message: Message) -> Iterator[str]:
    """The From fields as text, as far as they are read."""
    room = READ_CHARACTERS
    for one in message.all("from"):
        if value := text_of(one.value)[:room]:
            yield value
            room -= len(value)


def _shown(author: Author, address: str, domain: str) -> Author:
    if address == author.address:
        return Author(clean(author.name), address)
    return Author(f"{clean(author.name) or clean(author.address)} via {domain}", address)


def _unknown(message: Message, domain: str) -> Author:
    return Author(f"{clean(decoded(' '.join(_values(message))))} via {domain}", f"{UNKNOWN}@{domain}")


def _renamed(one: HeaderField) -> bytes:
    """The field under its new name, folded after it where the first line would become too long."""
    value = one.raw.partition(b":")[2]
    first_line = value.partition(b"\r\n")[0]
    fold = b"" if len(ORIGINAL) + 1 + len(first_line) <= _LINE_OCTETS else b"\r\n "
    return ORIGINAL + b":" + fold + value

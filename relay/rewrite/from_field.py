"""Rewrites From, as a last resort: an author whose mail would fail DMARC at the next hop becomes an address of ours.

This is the only edit of a field that came in. It takes three steps, because an author may have to be stored first:
`author_addresses` reads who wrote, `relay.srs.reply_address.reply_addresses` makes the addresses of ours for them, and
`with_rewritten_from` makes the message that leaves.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from relay.authenticate.author import author_domains
from relay.mail.address import domain_of
from relay.mail.mailbox_list import AUTHORS, READ_CHARACTERS, Author, clean, decoded, field, read, text_of
from relay.mail.message import HeaderField, Message
from relay.srs.reply_address import UNKNOWN

ORIGINAL = b"X-Original-From"

_LINE_OCTETS = 998  # of a line at most (RFC 5322 section 2.1.1)


def author_addresses(message: Message) -> tuple[str, ...]:
    """The addresses in the From fields as far as they can be read, each once."""
    return tuple(dict.fromkeys(author.address for author in _authors(message)))


def with_rewritten_from(message: Message, addresses: Mapping[str, str], domain: str) -> Message:
    """The message as it leaves if its authors may not appear in From.

    One From takes the place of the first. It names each author under the address of ours, with the author's name (or
    without a name the address, written `news at shop.example`) and `via DOMAIN`, as mailing lists do. If no author can
    be read, the text of From becomes the name, over an address that takes no replies. Every From that came in stays in
    its place as `X-Original-From` with the same octets. If there was no Reply-To, one with the authors follows the new
    From. All other fields and the body stay as they came in. A message whose authors are all of `domain` already, or
    that has none, is returned as it is.

    The content is copied, so a large message should be rewritten in a thread.

    Args:
        addresses: an address of `domain` for each of `author_addresses(message)`.
        domain: ours, normal.

    Raises:
        KeyError: there is no address for an author.
    """
    authors = _authors(message)
    if {*author_domains(message), *(domain_of(author.address) for author in authors)} <= {domain}:
        return message
    new_authors = [_new_author(author, addresses[author.address], domain) for author in authors]
    new_fields = field("From", new_authors or [_unknown_author(message, domain)])
    if authors and not message.all("reply-to"):
        new_fields += field("Reply-To", [Author(clean(name), address) for name, address in authors])
    header = []
    for header_field in message.fields:
        if header_field.name == "from":
            header.append(new_fields + _renamed(header_field))
            new_fields = b""
        else:
            header.append(header_field.raw)
    return message.with_header(b"".join(header))


def _authors(message: Message) -> list[Author]:
    return [author for value in _from_values(message) for author in read(value)][:AUTHORS]


def _from_values(message: Message) -> Iterator[str]:
    """The values of the From fields as text, up to `READ_CHARACTERS` in all."""
    room = READ_CHARACTERS
    for from_field in message.all("from"):
        if value := text_of(from_field.value)[:room]:
            yield value
            room -= len(value)


def _new_author(author: Author, address: str, domain: str) -> Author:
    if address == author.address:
        return Author(clean(author.name), address)
    return Author(f"{clean(author.name) or clean(author.address)} via {domain}", address)


def _unknown_author(message: Message, domain: str) -> Author:
    return Author(f"{clean(decoded(' '.join(_from_values(message))))} via {domain}", f"{UNKNOWN}@{domain}")


def _renamed(from_field: HeaderField) -> bytes:
    """The field as X-Original-From, folded after the new name if the first line would become too long."""
    value = from_field.raw.partition(b":")[2]
    first_line = value.partition(b"\r\n")[0]
    fold = b"" if len(ORIGINAL) + 1 + len(first_line) <= _LINE_OCTETS else b"\r\n "
    return ORIGINAL + b":" + fold + value

"""The From that leaves: as a mail program reads it, and nothing else of the message changed by an octet.

The judges are Python's email package and Perl's Mail::Address, which share no code with ours.
"""

from __future__ import annotations

import email
import json
import re
import subprocess
import unicodedata
from email import policy
from email.errors import NonASCIILocalPartDefect
from email.headerregistry import AddressHeader, BaseHeader

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.authenticate.author import author_domains
from relay.mail.mailbox_list import AUTHORS, NAME_CHARACTERS, READ_CHARACTERS
from relay.mail.message import Message
from relay.rewrite.from_field import author_addresses, with_rewritten_from
from relay.srs.address import Scheme, Token
from relay.srs.reply_address import forward, forward_token
from tests import corpus
from tests.peers import needs

SCHEME = Scheme("fwd.example", (b"tops3cr3t",))
BODY = b"One line,\r\nand another.\r\n"


def reply_address(author: str) -> str:
    found = forward(author, SCHEME)
    return forward_token(found.id, SCHEME) if isinstance(found, Token) else found


def leaving(message: Message) -> Message:
    addresses = {author: reply_address(author) for author in author_addresses(message)}
    return with_rewritten_from(message, addresses, "fwd.example")


def with_from(*values: str, fields: str = "Subject: s\r\n") -> Message:
    header = "".join(f"From: {value}\r\n" for value in values) + fields
    return Message(header.encode("utf-8", "surrogateescape") + b"\r\n" + BODY)


def mailboxes(message: Message, name: str) -> list[tuple[str, str]]:
    """Display names and addresses of a field as Python's email package reads it, which has nothing to complain of."""
    header = message.content[: message.body_offset].decode("utf-8", "surrogateescape")
    field = email.message_from_string(header, policy=policy.SMTPUTF8)[name]
    assert isinstance(field, AddressHeader) and isinstance(field, BaseHeader)
    assert not [defect for defect in field.defects if not isinstance(defect, NonASCIILocalPartDefect)]  # RFC 6532
    return [(one.display_name, one.addr_spec) for one in field.addresses]


ANN, JOE = "ann@author.example", "joe@x.example"
SHAPES = {
    # what came in: names and addresses of the authors
    f"Ann Author <{ANN}>": [("Ann Author", ANN)],
    f"<{ANN}>": [("ann at author.example", ANN)],
    ANN: [("ann at author.example", ANN)],
    f"Ann Author <{ANN}>, Joe <{JOE}>": [("Ann Author", ANN), ("Joe", JOE)],
    f"{ANN},{JOE},": [("ann at author.example", ANN), ("joe at x.example", JOE)],
    # names
    f'"Author, Ann (\\"A\\")" <{ANN}>': [('Author, Ann ("A")', ANN)],
    f'"back\\\\slash" <{ANN}>': [("back\\slash", ANN)],
    f"J. R. Author <{ANN}>": [("J. R. Author", ANN)],
    f"{ANN} (Ann (the) Author)": [("Ann (the) Author", ANN)],
    f"Ann (of Author) <{ANN}>": [("Ann", ANN)],
    f'{ANN} (6" tall), {JOE} (5" tall)': [('6" tall', ANN), ('5" tall', JOE)],
    f"Ann\r\n\tAuthor\r\n <{ANN}>": [("Ann Author", ANN)],
    f"=?utf-8?q?J=C3=BCrgen_=C3=84?= <{ANN}>": [("Jürgen Ä", ANN)],
    f"=?iso-8859-1?Q?J=FCrgen?= =?iso-8859-1*de?Q?_=C4?= <{ANN}>": [("Jürgen Ä", ANN)],
    f"=?utf-8?B?SsO8cmdlbiDD?=\r\n =?utf-8?B?hA==?= <{ANN}>": [("Jürgen Ä", ANN)],  # a character in two halves
    f"=?utf-8?B?SsO8cmdlbg?= von =?utf-8?q?=C3=84?= <{ANN}>": [("Jürgen von Ä", ANN)],
    f"=?utf-8?q?=C3=84, Ann?= <{ANN}>": [("Ä, Ann", ANN)],
    f'"=?utf-8?q?J=C3=BCrgen?=" <{ANN}>': [("Jürgen", ANN)],
    f"=?iso-2022-jp?B?GyRCRnxLXBsoQg==?= <{ANN}>": [("日本", ANN)],
    f"=?x-unknown?q?J=FCrgen?= <{ANN}>": [("J\ufffdrgen", ANN)],
    f"=?punycode\0?q?x?= <{ANN}>": [("x", ANN)],
    f"=?utf-8?B?x?= <{ANN}>": [("x", ANN)],
    f"Jürgen Ä <{ANN}>": [("Jürgen Ä", ANN)],
    f"J\udcfcrgen <{ANN}>": [("Jürgen", ANN)],  # in Latin-1, as it should not be
    # nothing in a name that is not what it seems
    f'"{JOE}" <{ANN}>': [("joe at x.example", ANN)],
    f'"joe \N{FULLWIDTH COMMERCIAL AT} x.example" <{ANN}>': [("joe at x.example", ANN)],
    f'"Joe <{JOE}>" <{ANN}>': [("Joe <joe at x.example>", ANN)],
    f"=?utf-8?q?joe=40x=2Eexample?= <{ANN}>": [("joe at x.example", ANN)],
    f"=?utf-8?q?=3D=3Futf-8=3Fq=3Fjoe=3D40x=3F=3D?= <{ANN}>": [("=?utf-8?q?joe=40x?=", ANN)],
    f'"\u202enna\u2066" <{ANN}>': [("nna", ANN)],
    f"=?utf-8?q?A=00=0D=0ABcc:_x=1B=E2=80=AEnn?= <{ANN}>": [("A Bcc: xnn", ANN)],
    f'"\u200b\u202e" <{ANN}>': [("ann at author.example", ANN)],
    f'"\u0646\u0627\u0645\u200c\u0647\u0627" <{ANN}>': [("\u0646\u0627\u0645\u200c\u0647\u0627", ANN)],  # Persian
    # groups
    f"Authors: Ann <{ANN}>, {JOE};": [("Ann", ANN), ("joe at x.example", JOE)],
    f"One: {ANN};, Two: {JOE};": [("ann at author.example", ANN), ("joe at x.example", JOE)],
    # addresses
    '"Ann Author"@author.example': [('"Ann Author" at author.example', '"Ann Author"@author.example')],
    '"ann"@author.example': [("ann at author.example", ANN)],
    "Jörg <jörg@author.example>": [("Jörg", "jörg@author.example")],
    "Jörg <ann@bücher.example>": [("Jörg", "ann@xn--bcher-kva.example")],
    f"Long <{'x' * 64}@author.example>": [("Long", f"{'x' * 64}@author.example")],
    f"Ann < ann @ author . example >, {JOE}": [("Ann", ANN), ("joe at x.example", JOE)],
    f"Ann <@relay.example,@other.example:{ANN}>": [("Ann", ANN)],
    "Ann <ann@author.example.>": [("Ann", ANN)],
    "..ann..@author.example": [('"..ann.." at author.example', '"..ann.."@author.example')],
    # malformed, and still plain
    f"Ann Author {ANN}": [("Ann Author", ANN)],
    f"Ann <{ANN}": [("Ann", ANN)],
    f"Ann <{ANN}> <{JOE}>": [("Ann", ANN), ("joe at x.example", JOE)],
    f"<<{ANN}>>": [("ann at author.example", ANN)],
    f"Ann <<{ANN}>>, Joe < <{JOE}> >": [("Ann", ANN), ("Joe", JOE)],
    f"Ann <ann <{ANN}>>": [("Ann", ANN)],
    f"<mailto:{ANN}>": [("ann at author.example", ANN)],
    f"Ann <MailTo: {ANN}?subject=x>, mailto:{JOE}": [("Ann", ANN), ("joe at x.example", JOE)],
    f"Ann <<mailto:{ANN}>>": [("Ann", ANN)],
    f"Ann <SMTP:{ANN}>": [("Ann", ANN)],
    f"Ann <'{ANN}'>, '{JOE}'": [("Ann", ANN), ("joe at x.example", JOE)],
    f'Ann <"{ANN}">, Joe <{JOE},>': [("Ann", ANN), ("Joe", JOE)],
    f"Ann <[{ANN}]>, Joe [{JOE}]": [("Ann", ANN), ("Joe", JOE)],
    f"Author, Ann <{ANN}>": [("Ann", ANN)],
    f"Ann <nobody>, Joe <{JOE}>": [("Joe", JOE)],
}


@pytest.mark.parametrize(("value", "expected"), SHAPES.items())
def test_each_author_stays_in_the_name_over_an_address_of_ours(value: str, expected: list[tuple[str, str]]) -> None:
    message = with_from(value)
    left = leaving(message)
    assert mailboxes(left, "From") == [
        (f"{name} via fwd.example", reply_address(address)) for name, address in expected
    ]
    unquoted = [
        address.replace('"', "") for _, address in mailboxes(left, "Reply-To")
    ]  # which the judge is careless of
    assert unquoted == [address.replace('"', "") for _, address in expected]
    assert author_domains(left) == ["fwd.example"]
    assert left.all("from")[0].raw.isascii()
    assert [one.raw[len("X-Original-From") :] for one in left.all("x-original-from")] == [
        one.raw[len("From") :] for one in message.all("from")
    ]


_PERL = r"""
use strict; use warnings; use Mail::Address; use Encode; use JSON::PP;
while (defined(my $line = <STDIN>)) {
    chomp $line;
    print encode_json([map {
        my $name = $_->phrase; $name =~ s/^"(.*)"$/$1/s and $name =~ s/\\(.)/$1/g;
        [decode("MIME-Header", $name), $_->address]
    } Mail::Address->parse($line)]), "\n";
}
"""


@needs("perl:Mail::Address")
def test_perl_reads_the_same() -> None:
    left = [leaving(with_from(value)).all("from")[0].value for value in SHAPES]
    perl = subprocess.run(["perl", "-e", _PERL], input=b"\n".join(left), capture_output=True, check=True, timeout=20)
    found = [[tuple(one) for one in json.loads(line)] for line in perl.stdout.splitlines()]
    assert found == [
        [(f"{name} via fwd.example", reply_address(address)) for name, address in expected]
        for expected in SHAPES.values()
    ]


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ("Ann <ann@author.example> extra@@", None),
        ("ann@@author.example", "ann at at author.example"),
        ("ann@joe@author.example", "ann at joe at author.example"),
        ("Ann <ann smith@author.example>", "Ann <ann smith at author.example>"),
        ("=?utf-8?q?J=C3=BC?= (<a@x.example>", "Jü (<a at x.example>"),
        ("@author.example", "at author.example"),
        ("x" * READ_CHARACTERS + "@author.example", "x" * (NAME_CHARACTERS - 3) + "..."),
    ],
)
def test_what_nobody_can_read_leaves_under_our_domain_all_the_same(value: str, name: str | None) -> None:
    left = leaving(with_from(value))
    address = reply_address(ANN) if name is None else "reply=unknown@fwd.example"
    assert mailboxes(left, "From") == [(f"{name or 'Ann'} via fwd.example", address)]
    assert author_domains(left) == ["fwd.example"]
    assert len(left.all("reply-to")) == (name is None)
    assert left.all("x-original-from")[0].value == value.encode()


def test_of_several_from_fields_one_is_left() -> None:
    message = with_from(f"Ann <{ANN}>", "junk", f"Joe <{JOE}>, {ANN}", fields="Subject: s\r\nFrom: <b@y.example>\r\n")
    assert author_addresses(message) == (ANN, JOE, "b@y.example")
    left = leaving(message)
    assert [one.name for one in left.fields] == [
        "from",
        "reply-to",
        *["x-original-from"] * 3,
        "subject",
        "x-original-from",
    ]
    assert [name for name, _ in mailboxes(left, "From")] == [
        f"{name} via fwd.example" for name in ("Ann", "Joe", "ann at author.example", "b at y.example")
    ]


@pytest.mark.parametrize("value", ["Ann <ann@fwd.example>", "ann@FWD.example, Joe <joe@fwd.example>", "nobody", ""])
def test_who_writes_from_our_domain_or_from_none_stays(value: str) -> None:
    message = with_from(value)
    assert leaving(message) is message


def test_an_author_of_ours_beside_another_stays() -> None:
    left = leaving(with_from(f'"Chief" <chief@fwd.example>, Ann <{ANN}>'))
    assert mailboxes(left, "From") == [("Chief", "chief@fwd.example"), ("Ann via fwd.example", reply_address(ANN))]


@pytest.mark.parametrize("reply_to", ["list@lists.example", "", "not an address"])
def test_a_reply_to_that_is_there_stays_the_only_one(reply_to: str) -> None:
    left = leaving(with_from(ANN, fields=f"REPLY-TO: {reply_to}\r\n"))
    assert [one.raw for one in left.all("reply-to")] == [f"REPLY-TO: {reply_to}\r\n".encode()]


def test_an_x_original_from_of_others_stays() -> None:
    left = leaving(with_from(ANN, fields=f"X-Original-From: {JOE}\r\n"))
    assert [one.value.decode() for one in left.all("x-original-from")] == [ANN, JOE]


def test_more_authors_than_anyone_reads_are_cut_off() -> None:
    many = [f"a{number}@author.example" for number in range(AUTHORS + 10)]
    left = leaving(with_from(", ".join(many[:3]), ", ".join(many[3:])))
    assert [address for _, address in mailboxes(left, "Reply-To")] == many[:AUTHORS]
    assert len(mailboxes(left, "From")) == AUTHORS


@pytest.mark.parametrize(
    "value",
    [
        f"{'word ' * 200}<{ANN}>",
        f"{'x' * 900} <{ANN}>",
        f"{'日' * 300} <{ANN}>",
        f'"{chr(92) + chr(34)}{(chr(92) + chr(34)) * 300}" <{ANN}>',
        ", ".join(f"{'é' * 40} <{'x' * 60}{n}@{'y' * 60}.example>" for n in range(AUTHORS)),
    ],
)
def test_lines_stay_short(value: str) -> None:
    left = leaving(with_from(value))
    for name in ("from", "reply-to"):
        [field] = left.all(name)
        lines = field.raw.split(b"\r\n")[:-1]
        assert all(len(line) <= 998 and line.strip() for line in lines)
        assert not [line for line in lines if len(line) > 76 and b"=?" in line]
    assert all(len(name) <= NAME_CHARACTERS + len(" via fwd.example") for name, _ in mailboxes(left, "Reply-To"))


@pytest.mark.parametrize(("octets", "folded"), [(982, False), (983, True)])
def test_a_line_that_its_new_name_makes_too_long_is_folded(octets: int, folded: bool) -> None:
    value = ("Ann <ann@author.example>" + " " * 1000)[: octets - 2] + "x"
    [original] = leaving(with_from(value)).all("x-original-from")
    assert original.raw.startswith(b"X-Original-From:" + b"\r\n " * folded + b" Ann <")
    assert original.value == value.encode() and max(map(len, original.raw.split(b"\r\n"))) <= 998


# nothing else

CHANGED = ("from", "reply-to", "x-original-from")


def assert_only_from_differs(message: Message) -> None:
    left = leaving(message)
    assert left.content[left.body_offset :] == message.content[message.body_offset :]
    assert left.relaxed_body_hash == Message(left.content).relaxed_body_hash == message.relaxed_body_hash
    # The octets are those of before but for one insertion, and a longer name of each From.
    header = left.content[: left.body_offset]
    assert set(author_domains(left)) <= {"fwd.example"}
    if left is not message:
        inserted = b"".join(
            one.raw for one in left.fields if one.name in ("from", *["reply-to"] * (not message.all("reply-to")))
        )
        assert header.count(inserted) == 1
        header = header.replace(inserted, b"")
        before = re.sub(rb"(?im)^From(?=[ \t]*:)[ \t]*", b"X-Original-From", message.content[: message.body_offset])
        assert header.replace(b"X-Original-From:\r\n ", b"X-Original-From:") == before
        assert len(left.all("x-original-from")) == len(message.all("from")) + len(message.all("x-original-from"))


def test_the_body_is_not_hashed_again() -> None:
    assert leaving(Message(with_from(ANN).content, b"known from DATA")).relaxed_body_hash == b"known from DATA"


@pytest.mark.parametrize(
    ("name", "content"), [pytest.param(*mail, id=mail[0]) for mail in [*corpus.made(), *corpus.signed()]]
)
def test_the_rest_of_messy_mail_leaves_octet_for_octet(name: str, content: bytes) -> None:
    message = Message(content)
    assert_only_from_differs(Message(content, message.relaxed_body_hash))


@pytest.mark.parametrize("source", corpus.SOURCES)
@pytest.mark.slow
def test_the_rest_of_mail_that_packages_ship_leaves_octet_for_octet(source: str) -> None:
    for _, content in corpus.shipped(source):
        assert_only_from_differs(Message(content))


quick = settings(max_examples=300, deadline=None)
texts = st.text(st.sampled_from('ab@.,:;<>()[]"\\= ?qB\t\u202eé') | st.characters(codec="utf-8"), max_size=60)


domains = st.lists(st.text(st.characters(codec="utf-8", min_codepoint=0x30), max_size=70), max_size=5).map(".".join)


@quick
@given(st.lists(texts | domains.map("ann@{}".format), min_size=1, max_size=3))
def test_whatever_stands_in_from_leaves_under_our_domain(values: list[str]) -> None:
    lines = [re.sub(r"[\r\n]", " ", value) for value in values]
    message = with_from(*lines)
    left = leaving(message)
    assert set(author_domains(left)) <= {"fwd.example"}
    if left is not message:
        assert all(address.endswith("@fwd.example") for _, address in mailboxes(left, "From"))


@quick
@given(st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Zl", "Zp")), max_size=30))
def test_any_name_is_read_as_it_was_written(name: str) -> None:
    """Written as other programs write it, by Python's email package, it comes out the same but for what is hidden."""
    written = email.message.EmailMessage(policy=policy.SMTP)
    written["From"] = email.headerregistry.Address(name, addr_spec=ANN)
    plain = unicodedata.normalize("NFC", name)
    [(shown, _)] = mailboxes(leaving(Message(written.as_bytes() + BODY)), "From")
    expected = "".join(c for c in " ".join(plain.split()) if unicodedata.category(c) != "Cf" or c in "\u200c\u200d")
    expected = re.sub("\\s*[@\uff20\ufe6b]\\s*", " at ", expected).strip() or "ann at author.example"
    assert "".join(unicodedata.normalize("NFC", shown).split()) == "".join(f"{expected} via fwd.example".split())

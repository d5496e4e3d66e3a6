"""A From that is written oddly counts as whatever some reader makes of it, and ordinary mail as it always did.

The judges are Python's email package, Perl's Mail::Address and Mail::DKIM, and rspamd; what nodemailer, mailparser and
Email::Address read was measured with them (`relay.authenticate.lenient_from`).
"""

from __future__ import annotations

import email
import email.utils
import json
import subprocess
from email import policy
from itertools import chain
from pathlib import Path

import idna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.authenticate.author import AUTHORS, author_domains, doubtful_domains
from relay.authenticate.control_characters import has_control_in_address
from relay.mail.message import Message
from tests import corpus
from tests.peers import needs, program

EVIL = "x@evil.example"


def with_from(value: str | bytes) -> Message:
    octets = value.encode() if isinstance(value, str) else value
    return Message(b"From: " + octets + b"\r\nSubject: s\r\n\r\nbody\r\n")


# No domain has these; each has a reader that goes on behind it.
JUNK = [" ", "\t", "\r\n ", "\r\n\t", "\0", "\x01", "\x1b", "\x7f", '""', "(c)", "<>", ")", "=?utf-8?q??=", "\r\n (c) "]
ZERO_WIDTH = [*"\xad\u034f\u1806\u180b\u200b\u200c\u200d\u2060\ufe0f\ufeff\u202e"]


@pytest.mark.parametrize("where", [0, 2, 3, 4])
@pytest.mark.parametrize(
    "around", ["ceo@{}", "CEO <ceo@{}>", "ceo@{} (CEO)", f"{EVIL}, ceo@{{}}", "<ceo@{}", '"a b"@{}']
)
@pytest.mark.parametrize("junk", [*JUNK, *ZERO_WIDTH], ids=ascii)
def test_a_domain_with_junk_in_it_is_read_without(junk: str, around: str, where: int) -> None:
    message = with_from(around.format("fwd.example"[:where] + junk + "fwd.example"[where:]))
    assert "fwd.example" in (*author_domains(message), *doubtful_domains(message))


@pytest.mark.parametrize(
    "value",
    [
        b"ceo@fw\xffd.example",
        b"CEO <ceo@\x80fwd.example>",
        b"ceo@fw\xadd.example CEO",
        'ceo@"fwd.example"',
        'CEO <ceo@"fwd".example>',
        'ceo@"\\fwd.example"',
        "ceo@fw\\d.example",
        "ceo@[fwd.example]",
        "ceo@=?utf-8?q?fwd=2Eexample?=",
        "CEO <ceo@=?utf-8?b?ZndkLmV4YW1wbGU=?=>",
        "ceo@fwd=?iso-8859-1?q?=2E?=example",
        "=?utf-8?q?ceo=40?=fwd.example",
        "ceo=?utf-8?q?=40?=fwd.example",
        "=?utf-16?b?/v8AYwBlAG8AQABmAHcAZAAuAGUAeABhAG0AcABsAGU=?=",
        "ceo@fwd\N{ONE DOT LEADER}example",
        "ceo@fw\u200dd\N{IDEOGRAPHIC FULL STOP}example",
        '"ceo@fwd.example"',
        '"ceo@fwd.example" <>',
        f'"ceo@fwd.example x"@{EVIL.partition("@")[2]}',
        f'"ceo@fwd.example" {EVIL}',
        "(ceo@fwd.example)",
        "CEO (ceo@fwd.example)",
        'all of us: "ceo@fwd.example";',
        "ceo@f w d . e x a m p l e",
        "ceo@fwd.exam<>ple",
        "ceo@fwd.example . Ann",
        '"ceo@fwd.exam=?utf-8?q??=ple"',
        f"ceo@fw d.example <{EVIL}>",
    ],
)
def test_what_some_reader_takes_for_the_author_counts(value: str | bytes) -> None:
    message = with_from(value)
    assert "fwd.example" in (*author_domains(message), *doubtful_domains(message))


@pytest.mark.parametrize(
    ("domain", "author", "doubtful"),
    [
        ("faß.example", "xn--fa-hia.example", "fass.example"),
        (idna.decode("xn--mgba3gch31f060k.example"), "xn--mgba3gch31f060k.example", "xn--mgba3gch31f.example"),
        (idna.decode("xn--10cl1a0b660p.example"), "xn--10cl1a0b660p.example", "xn--10cl1a0b.example"),
    ],
)
def test_names_that_idna_2003_has_otherwise_are_read_both_ways(domain: str, author: str, doubtful: str) -> None:
    message = with_from(f"Ann <ann@{domain}>")
    assert (author_domains(message), doubtful_domains(message)) == ([author], [doubtful])


ORDINARY: list[str | bytes] = [
    "ann@b.example",
    "<ann@b.example>",
    "Ann <ann@b.example>",
    "  Ann   <  ann@b.example  >  ",
    "Ann\r\n\t<ann@b.example>",
    "Ann<ann@b.example>",
    "ann @ b . example",
    "ann@b.example.",
    "Ann <ann@b.example>,",
    "Ann <ann@b.example>;",
    ", ann@b.example",
    "<ann@b.example> (Ann)",
    "ann@b.example (Ann at b.example)",
    "(Ann) ann@b.example",
    "<ann@b.example> Ann",
    '"a@c.example" <ann@b.example>',
    "'a@c.example' <ann@b.example>",
    "ann@b.example <ann@b.example>",
    '"ann@b.example" <ann@b.example>',
    "Ann (a@c.example) <ann@b.example>",
    "=?utf-8?q?a=40c=2Eexample?= <ann@b.example>",
    '"=?utf-8?q?a=40c=2Eexample?=" <ann@b.example>',
    "=?utf-8?B?SsO8cmdlbg==?= =?utf-8?q?von_B?=\r\n <ann@b.example>",
    "Ann @ Home <ann@b.example>",
    '"Ann @ Home" <ann@b.example>',
    "Author, Ann <ann@b.example>",
    "Ann <ann@b.example>, Joe <joe@b.example>",
    "Us: Ann <ann@b.example>, joe@b.example;",
    "Us: ann@b.example;",
    "<@relay.b.example:ann@b.example>",
    "<<ann@b.example>>",
    "<mailto:ann@b.example>",
    "Ann <mailto:ann@b.example?subject=x>",
    '"ann smith"@b.example',
    '"Ann \\"the\\" Author" <ann@b.example>',
    "Jürgen <ann@b.example>",
    "Ann \N{ZERO WIDTH JOINER}\N{NO-BREAK SPACE}\N{SOFT HYPHEN} <ann@b.example>",
    b"J\xfcrgen <ann@b.example>",
    b"\x83@\x83j\x8fo <ann@b.example>",  # Shift_JIS, with an at sign for its second octet
    b"\x1b$BF|K\\\x1b(B <ann@b.example>",
    b'\x1b$B@n8}!<"(\x1b(B <ann@b.example>',  # ISO-2022-JP, with everything
    b"Ann\x07\0 <ann@b.example>",
    b"\xef\xbb\xbfAnn <ann@b.example>",
]


@pytest.mark.parametrize("value", ORDINARY, ids=ascii)
def test_sloppy_mail_has_no_further_authors(value: str | bytes) -> None:
    message = with_from(value)
    assert doubtful_domains(message) == [] and "b.example" in author_domains(message)
    assert not has_control_in_address(message.fields[0])


@pytest.mark.parametrize("domain", ["[192.0.2.1]", "[IPv6:2001:db8::1]", "localhost", "host . lan"])
def test_a_host_is_nobody_s_domain(domain: str) -> None:
    assert doubtful_domains(with_from(f"root@{domain}")) == []


@pytest.mark.parametrize("name", ["bücher", "日本語", "пример", "straßenbau".replace("ß", "ss"), "한국"])
def test_an_internationalized_domain_has_one_reading(name: str) -> None:
    message = with_from(f"Ann <ann@{name}.example>")
    assert len(author_domains(message)) == 1 and doubtful_domains(message) == []


def test_no_message_of_the_corpus_has_further_authors() -> None:
    for name, content in chain(corpus.made(), corpus.signed()):
        assert doubtful_domains(Message(content)) == [], name


@pytest.mark.parametrize("source", corpus.SOURCES)
@pytest.mark.slow
def test_no_mail_that_packages_ship_has_further_authors(source: str) -> None:
    for name, content in corpus.shipped(source):
        message = Message(content)
        assert doubtful_domains(message) == [], name
        fields = [field for field in message.fields if field.name in ("from", "sender", "reply-to")]
        assert not any(map(has_control_in_address, fields)), name


@pytest.mark.parametrize(
    "value",
    [
        ", ".join(f"a@b{n}.example c{n}" for n in range(2000)),
        "".join(f"a@b{n} .x," for n in range(1500)),
        "".join(f"ü.a{n}\\@" for n in range(500)),
    ],
)
def test_more_than_anyone_reads_is_said_to_be_so(value: str) -> None:
    message = with_from(value)
    assert len(author_domains(message)) > AUTHORS or len(doubtful_domains(message)) > AUTHORS


# real readers

PIECES = st.sampled_from(
    [
        *JUNK,
        *ZERO_WIDTH,
        "fwd.example",
        "fwd",
        ".example",
        "ceo@",
        "@",
        "<",
        ">",
        EVIL,
        f"<{EVIL}>",
        '"',
        "(",
        ",",
        "x",
        ":",
    ]
)
PLACED = st.lists(PIECES, min_size=1, max_size=7).map("".join)
SHAPES = [
    around.format("fwd.example"[:where] + junk + "fwd.example"[where:])
    for where in (0, 2, 3, 4)
    for around in ("ceo@{}", "CEO <ceo@{}>", "ceo@{} CEO", f"{EVIL}, ceo@{{}}", "<ceo@{}", '"a b"@{}')
    for junk in [*JUNK, *ZERO_WIDTH, *'"<[]();:\\']
]


def names_ours(address: str) -> bool:
    """Whether a reader that knows IDNA2003 goes to our domain with an address that was read."""
    domain = address.rpartition("@")[2].strip(">] ").rstrip(".").lower()
    try:
        return "@" in address and domain.encode("idna").lower() == b"fwd.example"
    except UnicodeError:
        return False


def assert_seen(value: str, addresses: list[str], reader: str) -> None:
    if any(map(names_ours, addresses)):
        message = with_from(value)
        assert "fwd.example" in (*author_domains(message), *doubtful_domains(message)), f"{reader}: {value!r}"


def python_reads(value: str) -> list[str]:
    unfolded = value.replace("\r\n", "")
    found = [address for _, address in email.utils.getaddresses([unfolded])] + [email.utils.parseaddr(unfolded)[1]]
    header = f"From: {value}\r\n\r\n".encode()
    for rules in (policy.default, policy.SMTPUTF8, policy.compat32):
        try:
            field = email.message_from_bytes(header, policy=rules)["From"]
            found += [one.addr_spec for one in getattr(field, "addresses", ())]
        except Exception:  # what the reader under test makes of garbage is nothing then
            continue
    return found


@settings(max_examples=1000, deadline=None)
@given(PLACED)
def test_what_python_reads_counts(value: str) -> None:
    assert_seen(value, python_reads(value), "python")


def test_what_python_reads_of_our_domain_counts() -> None:
    for value in SHAPES:
        assert_seen(value, python_reads(value), "python")


_PERL = r"""
use strict; use warnings; use Mail::Address; use Mail::DKIM::Verifier; use JSON::PP;
while (defined(my $line = <STDIN>)) {
    my $value = decode_json($line)->[0]; utf8::encode($value);
    my $verifier = Mail::DKIM::Verifier->new;
    $verifier->PRINT("From: $value\r\nSubject: s\r\n\r\nbody\r\n"); $verifier->CLOSE;
    my $originator = eval { $verifier->message_originator };
    $value =~ s/\r\n//g;
    my @found = map { $_->address } (Mail::Address->parse($value), $originator ? $originator : ());
    print encode_json([map { my $text = $_ // ""; utf8::decode($text); $text } @found]), "\n";
}
"""


@needs("perl:Mail::Address", "perl:Mail::DKIM")
def test_what_perl_reads_counts() -> None:
    lines = "".join(json.dumps([value]) + "\n" for value in SHAPES)
    perl = subprocess.run(["perl", "-e", _PERL], input=lines, capture_output=True, text=True, check=True, timeout=60)
    found = [json.loads(line) for line in perl.stdout.rstrip("\n").split("\n")]
    assert sum(any(map(names_ours, addresses)) for addresses in found) > 100
    for value, addresses in zip(SHAPES, found, strict=True):
        assert_seen(value, addresses, "perl")


_LUA = """
local util, pool, ucl = require "rspamd_util", require "rspamd_mempool".create(), require "ucl"
for line in io.lines(arg[1]) do
    local parser = ucl.parser(); parser:parse_string(line)
    local found = {}
    for _, one in ipairs(util.parse_mail_address(parser:get_object()[1], pool, 100) or {}) do
        table.insert(found, one.addr or "")
    end
    print("=" .. table.concat(found, " "))
end
"""


@needs("rspamd")
def test_what_rspamd_reads_counts(tmp_path: Path) -> None:
    values = [value.replace("\r\n", "") for value in SHAPES if "\0" not in value]
    (tmp_path / "values").write_text("".join(json.dumps([value]) + "\n" for value in values))
    (tmp_path / "read.lua").write_text(_LUA)
    command = [program("rspamadm"), "lua", "-b", "-s", str(tmp_path / "read.lua"), "-a", str(tmp_path / "values")]
    rspamd = subprocess.run(command, capture_output=True, text=True, errors="replace", check=True, timeout=60)
    found = [line[1:].split(" ") for line in rspamd.stdout.rstrip("\n").split("\n") if line.startswith("=")]
    assert sum(any(map(names_ours, addresses)) for addresses in found) > 50
    for value, addresses in zip(values, found, strict=True):
        assert_seen(value, addresses, "rspamd")

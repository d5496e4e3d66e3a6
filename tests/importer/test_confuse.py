"""The syntax of postsrsd.conf."""

from __future__ import annotations

import pytest

from relay.importer.confuse import Option, options


def read(text: str) -> list[Option]:
    return list(options(text, {"HOST": "mx.example"}))


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ('domains = {"a.example", "b.example"}', ("a.example", "b.example")),
        ("domains = {a.example b.example,}", ("a.example", "b.example")),
        ("domains = {}", ()),
        ("domains={'a.example'}// c", ("a.example",)),
        ("socketmap = unix:/var/spool/postfix/srs # c", ("unix:/var/spool/postfix/srs",)),
        ("secrets-file = /etc/postsrsd.secret", ("/etc/postsrsd.secret",)),
        ('separator = "="', ("=",)),
        ("hash-length = 4", ("4",)),
        ('srs-domain = "srs.${HOST}"', ("srs.mx.example",)),
        ("srs-domain = ${HOST}", ("mx.example",)),
        ("srs-domain = '${HOST}'", ("${HOST}",)),
        ('srs-domain = "${NONE:-x.example}"', ("x.example",)),
        (r'srs-domain = "a\x41\101\n\"\\b"', ('aAA\n"\\b',)),
        (r"srs-domain = 'a\'b\nc'", (r"a'b\nc",)),
        ("/* domains = {x} */ srs-domain = a", ("a",)),
        ('include("more.conf")', ("more.conf",)),
    ],
)
def test_values(text: str, values: tuple[str, ...]) -> None:
    assert [option.values for option in read(text)] == [values]


def test_names_lines_and_what_is_added() -> None:
    text = "# c\ndomains = {a}\n/* x\n*/\ndomains += {b}\nmilter-rewrite-local = on"
    assert read(text) == [
        Option("domains", ("a",), False, 2),
        Option("domains", ("b",), True, 5),
        Option("milter-rewrite-local", ("on",), False, 6),
    ]


@pytest.mark.parametrize(
    "text",
    ["domains", "domains = {", "domains = }", "= a", '"a" = b', 'a = "x', "a = 'x", "a {", "a = ,=", "/* x", "a ="],
)
def test_what_is_not_in_this_syntax_is_named_with_its_line(text: str) -> None:
    with pytest.raises(ValueError, match="line 2: "):
        read(f"\n{text}")

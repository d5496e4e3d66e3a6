"""What a file that is no TOML gets to hear: the line, the key, and how its value is written."""

from __future__ import annotations

import tomllib

import pytest

from relay.config.toml_error import explain


def said(text: str) -> str:
    with pytest.raises(tomllib.TOMLDecodeError) as caught:
        tomllib.loads(text)
    return explain(text, caught.value)


@pytest.mark.parametrize(
    ("text", "mend"),
    [
        ("# ours\n\nhostname = mx.fwd.example\n", 'line 3: hostname needs quotes: hostname = "mx.fwd.example"'),
        ("[srs]\ndomain = fwd.example # ours", 'line 2: srs.domain needs quotes: domain = "fwd.example"'),
        ("[[listen]]\naddress = 0.0.0.0:25\n", 'line 2: listen.address needs quotes: address = "0.0.0.0:25"'),
        ("[queue]\nretry_min = 5m\n", 'line 2: queue.retry_min needs quotes: retry_min = "5m"'),
        ("[limits]\nmin_rate = 2KiB", 'line 2: limits.min_rate needs quotes: min_rate = "2KiB"'),
        ("[srs]\nsecrets_file = /srs", 'line 2: srs.secrets_file needs quotes: secrets_file = "/srs"'),
        ('[clients]\ntrusted = [192.0.2.10, "::1"]', 'line 2: clients.trusted: 192.0.2.10 needs quotes: "192.0.2.10"'),
        ('[a]\nb = [\n  "1.2.3.4",\n  192.0.2.10,\n]', 'line 4: a.b: 192.0.2.10 needs quotes: "192.0.2.10"'),
        ("b = [\n  fwd.example\n]", 'line 2: b: fwd.example needs quotes: "fwd.example"'),
        ("listen = [{address = 0.0.0.0:25}]", 'line 1: listen: 0.0.0.0:25 needs quotes: "0.0.0.0:25"'),
        ('listen = [{address = "0.0.0.0:25", tls = none}]', 'line 1: listen: none needs quotes: "none"'),
        ("[arc]\nseal = True", "line 2: arc.seal: True is written true"),
        ("[arc]\nseal = no", "line 2: arc.seal: no is written false"),
        ('a = 1\nhostname = "mx.fwd.example\n', "line 2: hostname: the quotation mark at the end"),
        ("hostname = \u201cmx.example\u201d", 'line 1: hostname: \u201c is no quotation mark here: a text'),
        ("hostname: mx.fwd.example", 'line 1: a key and its value have = between them: hostname = "mx.fwd.example"'),
        ('hostname "mx.fwd.example"', 'line 1: a key and its value have = between them: hostname = "mx.fwd.example"'),
        ('[srs]\ndomain = "a"\ndomain = "b"\n', "line 3: srs.domain stands there twice"),
        ("[srs]\na = 1\n[dns]\n[srs]\nb = 2\n", "line 4: the table [srs] stands there twice"),
        ("hostname =\nworkers = 2", "line 1: hostname has no value"),
        ("hostname = 'mx.fwd.example\n[srs]\nd = 'x'\n", "line 1: hostname: the quotation mark at the end"),
        ('[clients]\ntrusted = ["::1"\n[srs]\n', "line 3: clients.trusted: the bracket ] at the end of the array"),
        ('a = [\n  "x"\nb = "c"\n', "line 3: a: the bracket ] at the end of the array is missing"),
        ('a = ["x" "y"]\n', "line 1: a: a comma is missing between two values"),
        ("[srs\ndomain = 1", "line 1: the table is written [srs]"),
        ("[[listen]\naddress = 1", "line 1: the table is written [[listen]]"),
    ],
)  # fmt: skip
def test_it_is_told_how_the_line_is_written(text: str, mend: str) -> None:
    assert said(text).startswith(mend)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a = 1\nlisten = ?\n", "line 2: listen: invalid value"),
        ("[srs]\nhash_length = 08\n", "line 2: srs.hash_length: expected newline"),
        ('x = "a" "b"\n', "line 1: x: expected newline"),
        ('path = "C:\\x"\n', "line 1: path: unescaped"),
        ('a = [\n  "x",\n', "line 3: "),
    ],
)
def test_what_is_not_understood_is_told_with_the_key_and_the_words_of_the_parser(text: str, line: str) -> None:
    assert said(text).startswith(line)
    assert "quotes" not in said(text)

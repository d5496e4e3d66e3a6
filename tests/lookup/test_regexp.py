"""Regexp tables, judged by Debian's postmap with the same table."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest

from relay.lookup.regexp import parse_regexp
from relay.lookup.source import BadTable
from tests.peers import needs

TABLE = r"""
# a comment
/^plain@x\.example$/          one
!/@/                          no at
/^([a-z]+)-([0-9]+)@/         $2.${1}@$(1).example $$
/^(a|ab)(c|bcd)(d*)@longest/  1=$1 2=$2 3=$3
/^opt(x)?y@/                  [$1]
/^Case@/i                     exact case
/^brackets[\.]q@/             bracket
/^cls[[:digit:][:upper:]]+@/  class
/^neg[^]a]+@/                 negated bracket
/^rep(ab){2,3}@/              repeated
/^rep2a{2}b*c+d?@/            counted
|^pipe/slash@|                another delimiter
/^esc\/slash@/                escaped slash
if /^in/
/^inner@/                     inside
if !/^inner2/
/^in.*@deep$/                 deeper
endif
/^inner2@/                    second
endif
if !/^out/
/^never@/                     not out
endif
/\bword\b.*@w$/               word
/^\w+_\w+@gnu$/               gnu
/^lazy.+?@/                   not lazy
/^a**b@/                      stars
/(^|\.)anchor($|@)/           anchors
/^two lines@/                 joined
  over  lines
/^dot.@/                      dot
/^cycle((a|b)*|c)*@/          nested
"""
KEYS = r"""
plain@x.example PLAIN@x.example plainxxx none abc-42@y abc-@y abcd@longest abcdd@longest optxy@z opty@z
case@y Case@y brackets.q@ brackets\q@ cls4A@ clsx@ CLS@ negbc@ neg]@ repabab@ repab@ REPABABAB@ rep2aabbcc@
rep2aac@ rep2ac@ pipe/slash@ esc/slash@ inner@ in@deep inner2@deep inner2@ outnever@ never@ a.word.b@w
swords@w a_b@gnu lazyy@ lazy@ aab@ x.anchor@y anchor@ xanchor@ dot.@ dotx@ cycleabab@ cyclec@ äöü@x.example
postmaster@x.example
""".split()  # noqa: SIM905 (that many quotes would be hard to read)
BAD = ["/(/ x", "/x/q y", "/x", "/[/ x", "/(x)/ $2", "!/x/ $1", "/x/ $", "/x/", "endif", "if /x/ y", " /x/ y", "x y"]


@needs("postmap")
def test_what_a_table_says_is_what_postmap_says(tmp_path: Path) -> None:
    path = tmp_path / "table"
    path.write_text(TABLE)
    table = parse_regexp(TABLE, str(path))
    assert not table.bad.lines
    ours, theirs = {}, {}
    for key in KEYS:
        done = subprocess.run(["postmap", "-q", key, f"regexp:{path}"], capture_output=True, text=True, check=False)
        theirs[key] = done.stdout.rstrip("\n") or None
        found = table.find(key)
        ours[key] = found.value if found is not None else None
    assert ours == theirs
    assert len(set(theirs.values())) > 25, "the keys try most lines"


def test_an_answer_names_its_line() -> None:
    found = parse_regexp(TABLE, "virtual.re").find("inner2@")
    assert found is not None and found.where == "virtual.re:21"


@pytest.mark.parametrize("line", BAD)
def test_a_bad_line_may_be_for_what_no_line_before_it_matches(line: str) -> None:
    table = parse_regexp(f"/^early/ early\n/^late/ x\n{line if line[0] != ' ' else '/y/ z'}\n/^last/ last\n", "table")
    if line[0] == " ":
        table = parse_regexp(f"{line}\n/^last/ last\n", "table")
    else:
        found = table.find("early")
        assert found is not None and found.value == "early"
    assert len(table.bad.lines) >= 1
    with pytest.raises(BadTable):
        table.find("last")


def test_an_if_without_an_end_is_named() -> None:
    assert [line.problem for line in parse_regexp("/a/ b\nif /x/\n/y/ z\n", "t").bad.lines] == ["an if has no endif"]


def test_a_table_without_one_good_line_is_none() -> None:
    with pytest.raises(ValueError, match=r"^t:1: "):
        parse_regexp("/(/ x\n", "t")


def test_what_strangers_choose_takes_no_time() -> None:
    table = parse_regexp("/^(a+)+$/ x\n/^(.*a){20}$/ y\n/^([a-z]+[.-]?)*@x$/ z\n", "t")
    started = time.process_time()
    for key in ("a" * 300 + "!", "a." * 150 + "@y"):
        table.find(key)
    assert time.process_time() - started < 0.1

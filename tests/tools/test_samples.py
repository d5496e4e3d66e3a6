"""The samples of the documentation are what the program prints, and its stages are in the order of a real message."""

from __future__ import annotations

import re
from collections.abc import Mapping

import pytest

from tools.samples.aliases_run import run_aliases
from tools.samples.demo_run import Line, run_demo
from tools.samples.pages import PAGES, ROOT, comparable, replaced, samples, shown

PAGE = """\
# A page

<!-- sample: log -->

    12:00:00 3368NXT9VF80 mail from=<a@b>
    12:00:01 3368NXT9VF80 rcpt rcpt=c@d

    12:00:01 3368NXVPCX80 mail from=<>

Some words.

    not a sample

<!-- sample: demo -->
```
one

two
```
"""


@pytest.fixture(scope="module")
def run() -> tuple[str, list[Line]]:
    return run_demo()


@pytest.mark.slow
@pytest.mark.parametrize("name", PAGES)
def test_the_samples_of_a_page_are_those_of_the_program(run: tuple[str, list[Line]], name: str) -> None:
    there = shown((ROOT / name).read_text(encoding="utf-8"))
    fresh = samples(*run, run_aliases())
    assert there
    for sample, block in there.items():
        assert comparable(block) == comparable(fresh[sample]), f"{name}: `make samples` writes it"


@pytest.mark.slow
def test_the_stages_are_in_the_order_of_the_log(run: tuple[str, list[Line]]) -> None:
    """docs/how-it-works.md: the chain of its first block, and the table below it."""
    page = (ROOT / "docs" / "how-it-works.md").read_text(encoding="utf-8")
    chain = re.search(r"^    (receive → .*)$", page, re.MULTILINE)
    rows = re.findall(r"^\| (\w+) \| [^|]+ \| (`[^|]+) \|$", page, re.MULTILINE)
    assert chain is not None and chain[1].split(" → ") == [stage for stage, _ in rows]
    _, log = run
    first = next(line["id"] for line in log if line["event"] == "queued")
    events = [line["event"] for line in log if line.get("id") == first]
    places = {stage: _place(cell, events) for stage, cell in rows}
    reached = [place for place in places.values() if place >= 0]
    assert reached == sorted(reached) and len(reached) == 7  # all but the bounce
    delivered = next(line for line in log if line["event"] == "delivered")
    assert delivered["signed_by"] == ["fwd.example:relay1"]


def _place(cell: str, events: list[str]) -> int:
    """Where in a log the first event of a cell of that table is; -1 where there is none of them."""
    named = re.findall(r"`(\w+)`", cell)
    return min((events.index(name) for name in named if name in events), default=-1)


def test_a_sample_is_replaced_and_nothing_beside_it() -> None:
    fresh = {"log": "    12:34:56 new line\n", "demo": "```\nthree\n```\n"}
    before, after = (
        PAGE.split("<!-- sample: log -->\n\n")[0],
        "\nSome words.\n\n    not a sample\n\n<!-- sample: demo -->\n",
    )
    assert replaced(PAGE, fresh) == f"{before}<!-- sample: log -->\n\n{fresh['log']}{after}{fresh['demo']}"


def test_a_sample_that_says_the_same_stays_as_it_is() -> None:
    same = {
        "log": "    09:08:07 3368NXT9VF99 mail from=<a@b>\n    09:08:07 3368NXT9VF99 rcpt rcpt=c@d\n\n"
        "    09:08:08 3368NXVPCX99 mail from=<>\n",
        "demo": "```\none\n\ntwo\n```\n",
    }
    assert replaced(PAGE, same) == PAGE


def test_a_signature_that_needs_quotes_makes_no_other_sample() -> None:
    """Quotes stand around a value with a slash. With them a cell may be full up to its border."""
    assert comparable('│ header.b="Mpt/QbCt"; arc=none│\n') == comparable("│ header.b=FE7p4Rx0; arc=none  │\n")


def mixed(*changes: tuple[str, str]) -> Mapping[str, str]:
    block = "    12:00:00 3368NXT9VF80 mail from=<a@b> size=5\n    12:00:01 3368NXT9VF80 rcpt rcpt=c@d\n"
    for old, new in changes:
        block = block.replace(old, new)
    return {"block": comparable(block)}


@pytest.mark.parametrize(
    ("change", "same"),
    [
        (("12:00", "23:59"), True),
        (("3368NXT9VF80", "3368NXVPCX80"), True),
        (("size=5", "size=600"), True),
        (("VF80 rcpt", "VF81 rcpt"), False),  # another message
        (("mail from", "mail sender"), False),
        (("rcpt=c@d", ""), False),
        (("mail", "rcpt"), False),
    ],
)
def test_what_differs_from_run_to_run_does_not_count(change: tuple[str, str], same: bool) -> None:
    assert (mixed(change) == mixed()) is same

"""What `srs-relay check` prints for a person."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from relay.check.finding import Finding
from relay.cli.check_view import SUBJECTS, counts, show, show_changes

RECORD = 'fwd.example. 3600 IN TXT "v=spf1 mx ip4:203.0.113.5 ip6:2001:db8::5 include:_spf.provider.example -all"'
ERROR = Finding(
    "spf",
    "fwd.example",
    "error",
    "fail for 203.0.113.5, which is an address that mail leaves from, as the kernel has it",
    f"put in its place:\n{RECORD}",
)
WARNING = Finding("ptr", "2001:db8:1234:5678:9abc:def0:1234:5678", "warning", "leads to a.example, not to b.example")
OK = Finding("mx", "fwd.example", "ok", "leads here (mx.fwd.example)")
HINTED = Finding("tls-rpt", "fwd.example", "ok", "no reports are asked for", "with a record they come")


def shown(*findings: Finding, width: int = 80, terminal: bool = False) -> str:
    out = io.StringIO()
    show(findings, Console(file=out, width=width, force_terminal=terminal, no_color=True, color_system=None))
    return out.getvalue()


def test_what_is_wrong_comes_first_with_its_mend() -> None:
    assert shown(OK, WARNING, HINTED, ERROR) == (
        f"error    spf          fwd.example: {ERROR.text}\n"
        "                      mend: put in its place:\n"
        f"                      {RECORD}\n"
        "warning  ptr          2001:db8:1234:5678:9abc:def0:1234:5678: leads to a.example, not to b.example\n"
        "ok       mx           fwd.example: leads here (mx.fwd.example)\n"
        "ok       tls-rpt      fwd.example: no reports are asked for\n"
        "                      hint: with a record they come\n"
        "\n"
        "1 error, 1 warning, 2 ok\n"
    )


@pytest.mark.parametrize("width", [20, 60, 80, 200])
def test_a_terminal_breaks_no_name_and_no_record(width: int) -> None:
    lines = shown(ERROR, WARNING, width=width, terminal=True).splitlines()
    assert [line.strip() for line in lines].count(RECORD) == 1
    assert any("2001:db8:1234:5678:9abc:def0:1234:5678:" in line for line in lines)
    assert all(len(line) <= max(width, 62) for line in lines if RECORD not in line)


def test_a_domain_among_many_is_one_word() -> None:
    many = [Finding("mx", f"d{number}.example", "ok", "leads here") for number in range(100)]
    hints = [Finding("tls-rpt", f"d{number}.example", "ok", "none", f"hint {number}") for number in range(100)]
    lines = shown(*many, *hints).splitlines()
    first = ", ".join(f"d{number}.example" for number in range(SUBJECTS))
    assert lines == [
        f"ok       mx           {first} and 92 more: leads here",
        f"ok       tls-rpt      {first} and 92 more: none",
        "                      hint: hint 0",
        "",
        "no errors, no warnings, 200 ok",
    ]


def test_one_cause_has_its_mend_once() -> None:
    findings = [Finding("mx", f"d{number}.example", "error", "no answer", "start the resolver") for number in (1, 2)]
    assert shown(*findings, WARNING).splitlines()[:4] == [
        "error    mx           d1.example: no answer",
        "                      mend: start the resolver",
        "error    mx           d2.example: no answer",
        "                      mend: as above",
    ]


def test_what_others_wrote_does_not_move_the_cursor() -> None:
    finding = Finding("dmarc", "fwd.example", "error", "the record is void: \x1b[2J\u202e", "[red]publish[/red]\x07")
    printed = shown(finding)
    assert "\x1b" not in printed and "\u202e" not in printed and "\x07" not in printed
    assert "[red]publish[/red]" in printed


def test_colours_are_for_terminals() -> None:
    out = io.StringIO()
    show([ERROR], Console(file=out, width=80, force_terminal=True, color_system="standard"))
    assert out.getvalue().startswith("\x1b[1;31merror")
    assert "\x1b" not in shown(ERROR)


def changed(before: list[Finding], after: list[Finding]) -> list[str]:
    out = io.StringIO()
    show_changes(before, after, "12:00:30", Console(file=out, width=80))
    return out.getvalue().splitlines()


def test_what_is_mended_is_shown_as_it_is_then() -> None:
    mended = Finding("spf", "fwd.example", "ok", "pass for 203.0.113.5")
    assert changed([ERROR, WARNING, OK], [mended, WARNING, OK]) == [
        "ok       spf          fwd.example: pass for 203.0.113.5",
        "12:00:30 no errors, 1 warning, 2 ok",
    ]


def test_what_is_gone_is_named() -> None:
    assert changed([ERROR, OK], [OK]) == [
        f"gone     spf          fwd.example: {ERROR.text}",
        "12:00:30 no errors, no warnings, 1 ok",
    ]


def test_figures_of_the_moment_are_no_change() -> None:
    before, after = (Finding("resolver", "127.0.0.1", "ok", f"answers in {ms} ms") for ms in (3, 4))
    assert changed([before], [after]) == ["12:00:30 no errors, no warnings, 1 ok, as before"]


def test_counts() -> None:
    assert counts([ERROR, ERROR, WARNING, OK]) == "2 errors, 1 warning, 1 ok"

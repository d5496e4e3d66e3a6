"""Assignments of sourced files and of systemd units."""

from __future__ import annotations

import pytest

from relay.importer.shell_variables import Variable, shell_variables, unit_lines

PLAIN = [
    ("SRS_DOMAIN=example.com", "example.com"),
    ("SRS_DOMAIN==", "="),
    ('SRS_DOMAIN="example.com"  # ours', "example.com"),
    ("SRS_DOMAIN='example.com'", "example.com"),
    ("SRS_DOMAIN=exam\"ple\".'com'", "example.com"),
    ("export SRS_DOMAIN=example.com", "example.com"),
    ("SRS_DOMAIN=$BASE", "base.example"),
    ("SRS_DOMAIN=${BASE}.x", "base.example.x"),
    ('SRS_DOMAIN="$BASE,$OTHER"', "base.example,"),
    ("SRS_DOMAIN=${OTHER:-example.com}", "example.com"),
    ("SRS_DOMAIN=${BASE:-example.com}", "base.example"),
    ("SRS_DOMAIN='$BASE'", "$BASE"),
    ('SRS_DOMAIN="a\nb"', "a\nb"),
    ("SRS_DOMAIN=a\\\nb", "ab"),
    ("SRS_DOMAIN=a\\ b", "a b"),
    ('SRS_DOMAIN="a\\"b\\c"', 'a"b\\c'),
    ("SRS_DOMAIN=", ""),
    ("SRS_DOMAIN=a#b", "a#b"),
    ("SRS_DOMAIN=`postconf -h mydomain`", None),
    ("SRS_DOMAIN=$(postconf -h mydomain || true)", None),
    ("if [ -r /etc/x ]; then SRS_DOMAIN=example.com; fi", "example.com"),
]


def variables(text: str) -> list[Variable]:
    found = shell_variables(text, {"BASE": "base.example"})
    return [entry for entry in found if isinstance(entry, Variable)]


@pytest.mark.parametrize(("text", "value"), PLAIN)
def test_values_are_those_of_a_shell(text: str, value: str | None) -> None:
    assert variables(text) == [Variable("SRS_DOMAIN", value, 1)]


def test_lines_are_counted_past_quotes_and_continuations() -> None:
    text = "# SRS_A=1\nSRS_B='x\ny'\nSRS_C=1 SRS_D=2; SRS_E=3\\\n4\nSRS_F=5\n"
    assert [(name, line) for name, _, line in variables(text)] == [
        *(("SRS_B", 2), ("SRS_C", 4), ("SRS_D", 4), ("SRS_E", 4), ("SRS_F", 6))
    ]


def test_earlier_values_are_seen_by_later_ones() -> None:
    assert variables("A=1\nB=$A$A\n")[1].value == "11"


def test_commands_are_named_and_not_run() -> None:
    found = list(shell_variables("test -x /a && exit 0\nSRS_A=1 b.example c", {}))
    assert [entry.value for entry in found] == ["test", "exit", "1", "b.example"]
    assert [getattr(entry, "after_assignment", None) for entry in found] == [False, False, None, True]


@pytest.mark.parametrize("text", ["A='x", 'A="x', "A=`x", "A=$(x"])
def test_what_does_not_end_is_named_with_its_line(text: str) -> None:
    with pytest.raises(ValueError, match="line 2"):
        variables(f"\n{text}\n")


def test_a_unit_has_settings_of_its_service() -> None:
    text = "[Unit]\nExecStart=no\n[Service]\n; c\nExecStart=/bin/a -b \\\n# c\n  -c\n"
    text += 'Environment=A=1 "B=2 3"\n[Install]\nX=1\n'
    assert [(name, value, line) for name, value, line in unit_lines(text)] == [
        ("ExecStart", "/bin/a -b  -c", 5),
        ("Environment", 'A=1 "B=2 3"', 8),
    ]

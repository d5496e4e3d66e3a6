"""README's output of the demo is that of the program."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools import readme_demo

SHOWN = readme_demo.block(readme_demo.README.read_text(encoding="utf-8"))


@pytest.mark.slow
def test_readme_shows_what_the_demo_prints(capsys: pytest.CaptureFixture[str]) -> None:
    assert readme_demo.main(["--check"]) == 0, capsys.readouterr().out


def test_what_differs_with_every_run_does_not_count() -> None:
    other = SHOWN.replace("=JT=", "=KA=").replace("Nov", "Dec")
    for digit in "123":
        other = other.replace(f"t=1795998{digit}", f"t=1895998{digit}")
    assert readme_demo.comparable(other) == readme_demo.comparable(SHOWN)


def test_a_row_is_the_same_however_it_is_wrapped() -> None:
    narrow = "│ARC │ a=b header.b=abcdefgh;   │\n│    │ arc=none │\nTitle\n│SPF │ pass │\n"
    wide = '│ARC │ a=b │\n│ │ header.b="abc/efgh"; arc=none │\nTitle\n│SPF │ pass │\n'
    assert readme_demo.comparable(narrow) == readme_demo.comparable(wide)
    assert readme_demo.comparable(narrow) == ["ARC │ a=b header.b=VALUE; arc=none", "Title", "SPF │ pass"]


@pytest.mark.parametrize("changed", [("│ pass", "│ fail"), ("by dkimpy", "by us"), ("RCPT TO", "RCPT")])
def test_everything_else_counts(changed: tuple[str, str]) -> None:
    assert readme_demo.comparable(SHOWN.replace(*changed)) != readme_demo.comparable(SHOWN)


def test_a_block_that_differs_is_written(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    readme = tmp_path / "README.md"
    readme.write_text("Above.\n\nIt prints:\n\n```\nold 1\n```\n\nBelow.\n")
    monkeypatch.setattr(readme_demo, "README", readme)
    monkeypatch.setattr(readme_demo, "run", lambda: "new 2\n")
    assert readme_demo.main(["--check"]) == 1 and "old" in readme.read_text()
    assert "-old 0\n+new 0" in capsys.readouterr().out
    assert readme_demo.main([]) == 0
    assert readme.read_text() == "Above.\n\nIt prints:\n\n```\nnew 2\n```\n\nBelow.\n"
    monkeypatch.setattr(readme_demo, "run", lambda: "new 3\n")
    assert readme_demo.main([]) == 0 and "new 2" in readme.read_text(), "the same but for what changes with each run"


def test_a_readme_without_the_block_is_an_error() -> None:
    with pytest.raises(ValueError, match="no output of the demo"):
        readme_demo.block("It prints nothing.\n")

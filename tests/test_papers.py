"""What the papers name is there: files, packages and classes in code spans, and the targets of relative links."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAPERS = [
    ROOT / "CONTRIBUTING.md",
    ROOT / "SECURITY.md",
    ROOT / "docs" / "glossary.md",
    ROOT / "docs" / "standards.md",
    ROOT / "docs" / "transport.md",
    *sorted((ROOT / "docs" / "decisions").glob("*.md")),
]

_FILE = re.compile(r"`((?:relay|tests|config|docs)/[\w./-]+)`")
_MODULE = re.compile(r"`(relay(?:\.[a-z_]+)+)`")
_CLASS = re.compile(r"`(relay(?:\.[a-z_]+)+)\.([A-Z]\w+)`")
_LINK = re.compile(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)")

each_paper = pytest.mark.parametrize("paper", PAPERS, ids=lambda paper: paper.name)


@each_paper
def test_files_and_packages_exist(paper: Path) -> None:
    text = paper.read_text()
    names = {*_FILE.findall(text), *(module.replace(".", "/") for module in _MODULE.findall(text))}
    assert [name for name in sorted(names) if not (ROOT / name).exists() and not (ROOT / f"{name}.py").exists()] == []


@each_paper
def test_classes_are_in_their_packages(paper: Path) -> None:
    for package, name in _CLASS.findall(paper.read_text()):
        files = (ROOT / package.replace(".", "/")).glob("**/*.py")
        defined = re.compile(rf"^class {name}\b", re.MULTILINE)
        assert any(defined.search(file.read_text()) for file in files), f"{package}.{name}"


@each_paper
def test_links_lead_to_files(paper: Path) -> None:
    targets = _LINK.findall(paper.read_text())
    assert [target for target in targets if not (paper.parent / target).exists()] == []


def test_links_of_the_site_stay_within_it() -> None:
    docs = ROOT / "docs"
    for paper in PAPERS:
        if docs in paper.parents:
            for target in _LINK.findall(paper.read_text()):
                assert docs in (paper.parent / target).resolve().parents, f"{paper.name}: {target}"


def test_every_standard_names_what_does_it_and_a_test() -> None:
    page = (ROOT / "docs" / "standards.md").read_text()
    rows = [line.strip("|").split("|") for line in re.findall(r"^\| .*$", page, re.MULTILINE)]
    rows = [row for row in rows if row[0].strip() != "document"]
    assert {len(row) for row in rows} == {5}, "document, what, file, test, left out"
    without_file = [row[0] for row in rows if not re.search(r"`relay/[\w/]+\.py`", row[2])]
    without_test = [row[0] for row in rows if not re.search(r"`tests/[\w/]*test_\w+\.py`", row[3])]
    assert (without_file, without_test) == ([], [])
    assert len(rows) > 40


def test_every_decision_is_listed() -> None:
    decisions = ROOT / "docs" / "decisions"
    index = (decisions / "index.md").read_text()
    records = {path.name for path in decisions.glob("[0-9]*.md")}
    assert records == set(re.findall(r"\((\d{4}-[\w-]+\.md)\)", index))


def test_the_layers_are_those_of_the_contract() -> None:
    contract = (ROOT / "pyproject.toml").read_text().partition("\nlayers = [")[2].partition("\n]")[0]
    layers = [name.strip() for line in re.findall(r'"([^"]+)"', contract) for name in line.split(":")]
    table = (ROOT / "CONTRIBUTING.md").read_text().partition("## The layers")[2].partition("The way of a message")[0]
    assert re.findall(r"`relay\.(\w+)`", table) == layers

"""Hooks of MkDocs: the site is made of docs/, of README.md as its first page, and of the files that they link to.

Links are written so that they work in the repository. `on_page_markdown` changes those that leave docs/, because the
site has no folder above its own.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
PAGES = ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")  # of the repository's own folder, beside README.md


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Expands patterns like `decisions/*.md` in `nav`, and leaves out pages that are not there."""
    config.nav = _expanded(config.nav or [])
    return config


def _expanded(entries: list[Any]) -> list[Any]:
    nav: list[Any] = []
    for entry in entries:
        match entry:
            case str():
                pages = sorted((ROOT / "docs").glob(entry), key=lambda path: (path.name != "index.md", path.name))
                nav += [path.relative_to(ROOT / "docs").as_posix() for path in pages]
                if entry == "index.md" or (entry in PAGES and (ROOT / entry).exists()):
                    nav.append(entry)
            case dict():
                for title, inside in entry.items():
                    below = _expanded(inside if isinstance(inside, list) else [inside])
                    if below:
                        nav.append({title: below if isinstance(inside, list) else below[0]})
    return nav


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds README.md as the first page, and the other pages of the repository's own folder."""
    files.append(File.generated(config, "index.md", content=(ROOT / "README.md").read_text(encoding="utf-8")))
    for name in PAGES:
        if (ROOT / name).exists():
            files.append(File.generated(config, name, abs_src_path=str(ROOT / name)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Changes links to files of the repository into links within the site, and adds these files."""
    uri = page.file.src_uri
    source = "README.md" if uri == "index.md" else uri if uri in PAGES else f"docs/{uri}"

    def link(match: re.Match[str]) -> str:
        target, anchor = match[1], match[2] or ""
        if re.match(r"[a-z]+:", target):
            return match[0]
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        if not (ROOT / path).is_file():
            return match[0]
        inside = "index.md" if path == "README.md" else path.removeprefix("docs/")
        if files.get_file_from_path(inside) is None:
            files.append(File.generated(config, inside, abs_src_path=str(ROOT / path)))
        return f"]({posixpath.relpath(inside, posixpath.dirname(uri) or '.')}{anchor})"

    return re.sub(r"\]\(([^)#\s]+)(#[^)\s]*)?\)", link, markdown)

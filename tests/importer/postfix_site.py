"""A Postfix whose files are in a folder of their own."""

from __future__ import annotations

from pathlib import Path

from relay.importer import postfix
from relay.importer.draft import Draft


def site(folder: Path, main_cf: str, **files: str) -> Draft:
    """The draft of an installation.

    Args:
        main_cf: its parameters, without `myhostname`, which is `mx.a.example`.
        files: the text of each file beside main.cf, by its name; main.cf names it below /etc/postfix.
    """
    etc = folder / "postfix"
    etc.mkdir(exist_ok=True)
    (etc / "main.cf").write_text(f"myhostname = mx.a.example\n{main_cf}")
    for name, text in files.items():
        (etc / name).write_text(text)
    return postfix.read(etc)

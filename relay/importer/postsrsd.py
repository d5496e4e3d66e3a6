"""`import postsrsd`: PostSRSd 1 (/etc/default/postsrsd, a systemd unit) and PostSRSd 2 (postsrsd.conf).

What is made has `[[tables]]` and no listener: it answers Postfix in the place of PostSRSd.
"""

from __future__ import annotations

import re
from pathlib import Path

from relay.importer import postsrsd_1, postsrsd_2
from relay.importer.draft import Draft, ImportFailed, Key
from relay.importer.source_file import read_text

_FILES = ("postsrsd.conf", "postsrsd", "default/postsrsd", "override.conf")  # in a folder, the first that exists
_FIRST = re.compile(r"^\s*#?\s*(?:export\s+)?(?:SRS_[A-Z_]+|RUN_AS|CHROOT)=|^\s*\[Service\]\s*$", re.MULTILINE)
_SECOND = re.compile(
    r"^\s*#?\s*(?:domains|domains-file|srs-domain|socketmap|milter|original-envelope|envelope-database|secrets-file"
    r"|separator|hash-length|hash-minimum|always-rewrite)\s*\+?=",
    re.MULTILINE,
)


def read(path: Path) -> Draft:
    """The configuration in a file, or in the usual file of a folder.

    Raises:
        ImportFailed: it is neither of PostSRSd 1 nor of PostSRSd 2, or cannot be read.
    """
    if path.is_dir():
        file = next((path / name for name in _FILES if (path / name).is_file()), None)
        if file is None:
            raise ImportFailed(f"{path}: there is none of {', '.join(_FILES)} in this folder")
        path = file
    text = read_text(path)
    if _FIRST.search(text):
        draft = postsrsd_1.draft(path, text)
    elif _SECOND.search(text):
        draft = postsrsd_2.draft(path, text)
    else:
        raise ImportFailed(
            f"{path}: this is neither a configuration of PostSRSd 1 (SRS_DOMAIN=…) nor of PostSRSd 2 (srs-domain = …)"
        )
    if draft.program.endswith("1"):
        _ask(draft, "PostSRSd took Postfix's: `postconf -h mydomain` prints it.")
    else:
        _ask(draft, "PostSRSd takes srs-domain, or else the first of its domains.")
    return draft


def _ask(draft: Draft, before: str) -> None:
    """The keys that PostSRSd does not know."""
    text = "the name of this host, which only mail that comes in needs. Default: the system's full name."
    draft.ask((), "hostname", "mail.example.org", text, "if wanted")
    draft.entry(
        "listen",
        {"address": Key("0.0.0.0:25")},
        "where mail comes in. Without it the relay only answers Postfix: it is no MTA and has no queue.",
        "if wanted",
    )
    draft.ask(
        ("srs",),
        "domain",
        "example.org",
        f"the domain of rewritten senders. {before}",
    )

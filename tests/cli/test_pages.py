"""What the pages say can be done: the commands and records of the three uses, and the lines of configuration of all.

`make reference` writes the records in them and config/examples; `tests/config/test_reference.py` sees if they differ.
"""

from __future__ import annotations

import re
import shlex
import socket
import textwrap
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from relay import cli
from relay.cli import host_addresses, init_site
from relay.cli.host_addresses import Host
from relay.config.model import Config
from relay.sign import keys
from tests import corpus
from tools.reference.parts import ADDRESS, PAGES, ROOT

USES = (*PAGES, "README.md")
# Their lines of configuration are for a forwarding host that has a certificate.
OTHERS = ("docs/transport.md", "docs/how-it-works.md", "docs/operating.md")
TEXTS = {name: (ROOT / name).read_text(encoding="utf-8") for name in (*USES, *OTHERS)}


def blocks(page: str) -> Iterator[str]:
    """The code in a page: runs of indented lines."""
    for block in re.findall(r"(?:^(?: {4}.*)?\n)+", TEXTS[page], re.MULTILINE):
        if block.strip():
            yield textwrap.dedent(block).strip("\n")


def commands(page: str, name: str) -> list[list[str]]:
    """The commands of the relay in the code of a page, without the program's name."""
    words = [
        shlex.split(line, comments=True)
        for block in blocks(page)
        for line in block.replace("\\\n", " ").splitlines()
        if line.startswith(f"srs-relay {name} ")
    ]
    return [line[1:] for line in words]


def example(page: str) -> dict[str, Any]:
    """The configuration that a page is about."""
    name = Path(page).stem if page in PAGES else "forwarding-host"
    tables = tomllib.loads((ROOT / f"config/examples/{name}.toml").read_text(encoding="utf-8"))
    tls = {"certificate": "fullchain.pem", "private_key": "privkey.pem"}
    return {**tables, "tls": tls} if page in OTHERS else tables


@pytest.mark.parametrize("page", USES)
def test_the_command_of_a_page_writes_its_example(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(socket, "getfqdn", lambda: "localhost")
    monkeypatch.setattr(host_addresses, "look", lambda: Host({"ipv4": ADDRESS, "ipv6": None}, lambda ip: False))
    monkeypatch.setattr(init_site, "may_bind", lambda port: True)
    monkeypatch.setattr(init_site, "has_ipv6", lambda: True)
    monkeypatch.setattr(keys, "generate", lambda kind: corpus.RSA_PEM)
    (command,) = (command for command in commands(page, "init") if len(command) > 2)  # the other completes a copy
    command[command.index("/var/lib/srs-relay")] = str(tmp_path)
    assert cli.run(command) == 0
    written = tomllib.loads((tmp_path / "relay.toml").read_text())
    assert written.pop("delivery") == {"families": ["ipv4"]}
    expected = example(page)
    for tables in (written, expected):
        del tables["routes"]["postmaster"]
    assert written == expected
    if page != "README.md":
        shown = next(block for block in blocks(page) if block.startswith("; Mail for")).splitlines()
        printed = capsys.readouterr().out.splitlines()
        assert [_without_key(line) for line in printed] == [_without_key(line) for line in shown]


def _without_key(line: str) -> str:
    return re.sub(r"p=M.*", "p=", line)


def snippets() -> Iterator[tuple[str, str]]:
    """The lines of configuration in the pages, each with the name of its page."""
    for page in TEXTS:
        for block in blocks(page):
            if re.match(r"\[+[a-z]", block):
                yield page, block


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """The tables with those of `over` on top."""
    both = {key: merged(base[key], over[key]) for key in base.keys() & over.keys() if isinstance(over[key], dict)}
    return {**base, **over, **both}


@pytest.mark.parametrize(("page", "snippet"), list(snippets()))
def test_lines_of_a_page_fit_into_its_example(page: str, snippet: str) -> None:
    Config.model_validate(merged(example(page), tomllib.loads(snippet)), context={"base": Path("/etc/srs-relay")})


@pytest.mark.parametrize(("page", "at_least"), [("docs/transport.md", 9), ("docs/mailbox-front.md", 1)])
def test_the_pages_have_such_lines(page: str, at_least: int) -> None:
    assert len([found for found, _ in snippets() if found == page]) >= at_least

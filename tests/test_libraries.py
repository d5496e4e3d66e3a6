"""The mail libraries: where each is imported, that installing the package brings them, and that `serve` stays small."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def importers(library: str) -> set[str]:
    """The files of the program that import a library."""
    found = set()
    for path in (ROOT / "relay").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [name.name for name in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                names.append(node.module or "")
            if library in {name.partition(".")[0] for name in names}:
                found.add(str(path.relative_to(ROOT)))
    return found


@pytest.mark.parametrize(
    ("library", "files"),
    [
        ("aiohttp", {"relay/content_filter/rspamd.py", "relay/https.py"}),
        ("aiosmtpd", {"relay/cli/demo_servers.py"}),
        ("OpenSSL", {"relay/transport_security/dane.py"}),
        ("dkim", {"relay/cli/dkimpy_opinion.py"}),
        ("spf", {"relay/authenticate/spf_evaluation.py", "relay/cli/pyspf_opinion.py"}),
    ],
)
def test_a_mail_library_stands_behind_one_file_for_each_part(library: str, files: set[str]) -> None:
    assert importers(library) == files


@pytest.mark.parametrize("library", ["aiosmtplib", "dns"])
def test_the_libraries_of_the_hot_path_are_used(library: str) -> None:
    assert {path.split("/")[1] for path in importers(library)} >= {"dns": {"dns.py"}, "aiosmtplib": {"deliver"}}[
        library
    ]


def test_all_five_come_with_the_package() -> None:
    dependencies = (ROOT / "pyproject.toml").read_text().partition("\ndependencies = [")[2].partition("\n]")[0]
    names = set(re.findall(r'^    "([\w.-]+)', dependencies, re.MULTILINE))
    assert names >= {"aiosmtpd", "aiosmtplib", "dkimpy", "dnspython", "pyspf", "pynacl"}


def test_serve_imports_none_of_the_libraries_of_other_commands() -> None:
    code = """
import importlib, pkgutil, sys
import relay, relay.cli.serve
others = ("relay.cli", "relay.check", "relay.importer", "relay.__main__")
for module in pkgutil.walk_packages(relay.__path__, "relay."):
    if not module.name.startswith(others):
        importlib.import_module(module.name)
print(sorted({"aiosmtpd", "dkim", "nacl", "public"} & set(sys.modules)))
print("relay.process.supervisor" in sys.modules and "spf" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, cwd=ROOT)
    assert done.stdout.split("\n") == ["[]", "True", ""], done.stderr

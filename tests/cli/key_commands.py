"""A folder with keys, and the commands on it; `test_keys` and `test_keys_missing` share it."""

from __future__ import annotations

from pathlib import Path

import dns.rdatatype
import dns.zone
import pytest
from dns.rdtypes.txtbase import TXTBase

from relay import cli
from tests import corpus

PEM = {"rsa2048": corpus.RSA_PEM, "ed25519": corpus.ED25519_PEM, "rsa4096": corpus.RSA_PEM}

CONFIG = """\
# Ours.
hostname = "mx.fwd.example"  # as in DNS
listen = [{address = "127.0.0.1:2525"}]
srs = {domain = "fwd.example", secrets_file = "srs.secret"}

# The keys.
[[dkim]] # the first
domain = "FWD.example"
selector = "relay1"
private_key = "relay1.pem"  # made by init
#sign = ["fwd.example"]

# --- DNS ---

[dns]
nameservers = ["127.0.0.1:9"]

# The other brand.
[[dkim]]
domain = "brand.example"
selector = "b2025"
private_key = "relay1.pem"
sign = ["brand.example", "*.brand.example"]
"""


def filled(folder: Path) -> Path:
    """The folder, with the configuration and its keys."""
    (folder / "srs.secret").write_text("secret\n")
    (folder / "relay1.pem").write_bytes(corpus.RSA_PEM)
    (folder / "relay.toml").write_text(CONFIG)
    return folder


def ran(folder: Path, *args: str) -> int:
    """Run a command of `srs-relay keys`; returns its exit status."""
    return cli.run(["keys", *args, "--config", str(folder / "relay.toml")])


def refused(folder: Path, capsys: pytest.CaptureFixture[str], *args: str) -> str:
    """The one line that says why."""
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert ran(folder, *args) != 0
    assert before == {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    [line] = capsys.readouterr().err.splitlines()
    return line


def texts(zone: str) -> dict[str, str]:
    """The TXT records in a zone file."""
    parsed = dns.zone.from_text(zone, origin="example", relativize=False, check_origin=False)
    return {
        name.to_text(omit_final_dot=True): b"".join(rdata.strings).decode()
        for name, _, rdata in parsed.iterate_rdatas(dns.rdatatype.TXT)
        if isinstance(rdata, TXTBase)
    }

"""Whom OpenDKIM's files make a trusted client: those whose mail OpenDKIM signs, and nobody else, for they may relay."""

from __future__ import annotations

import ipaddress
import re
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.config import opendkim_syntax as opendkim
from relay.config.opendkim import find
from relay.config.opendkim_syntax import TableEntry
from relay.network import within
from tests import corpus, milter
from tests.peers import needs, program, wait_until

CLIENTS = [
    ("localhost", "127.0.0.1"),
    ("a.example", "192.0.2.7"),
    ("b.example", "192.0.2.200"),
    ("c.example", "198.51.100.7"),
    ("six.example", "2001:db8::7"),
]
MESSAGE = b"From: a@example.org\r\nDate: Thu, 1 Jan 2026 00:00:00 +0000\r\n\r\nHi.\r\n"
INTERNAL = "InternalHosts refile:FOLDER/TrustedHosts"


# --- beside OpenDKIM itself -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "conf"),
    [
        ("127.0.0.1\n192.0.2.0/24 # ours\n!192.0.2.7\n2001:db8::/32\n", INTERNAL),
        ("192.0.2.0/24\n!192.0.2.0/25\n192.0.2.7\n", INTERNAL),
        ("192.0.2.7\n!192.0.2.0/24\n", INTERNAL),
        ("198.51.100.7\n192.0.2.0/24\n!192.0.2.0/24\n", INTERNAL),
        ("198.51.100.7\n!192.0.2.0/24\n192.0.2.0/24\n", INTERNAL),
        ("192.0.2.0/255.255.255.0\n198.51.100.0/0.0.0.255\nlocalhost\n", INTERNAL),
        ("192.0.2.7/24\n198.51.100.0/24\n", "InternalHosts FOLDER/TrustedHosts"),
        ("198.51.100.7\n", "InternalHosts 192.0.2.0/24, !192.0.2.200"),
    ],
)
@needs("opendkim")
def test_those_are_trusted_whose_mail_opendkim_signs(tmp_path: Path, lines: str, conf: str) -> None:
    ours = trusted(write(tmp_path, lines, conf))
    assert ours and ours == opendkim_signs(tmp_path)


@needs("opendkim")
def test_the_ignore_list_trusts_nobody_even_if_it_has_the_usual_name(tmp_path: Path) -> None:
    """OpenDKIM's own default is 127.0.0.1; that we take only from who says so."""
    folder = write(tmp_path, "127.0.0.1\n192.0.2.0/24\n", "ExternalIgnoreList refile:FOLDER/TrustedHosts")
    assert trusted(folder) == set()
    assert opendkim_signs(folder) == {"127.0.0.1"}


def write(folder: Path, hosts: str, conf: str) -> Path:
    (folder / "TrustedHosts").write_text(hosts)
    (folder / "key.pem").write_bytes(corpus.RSA_PEM)
    (folder / "KeyTable").write_text(f"k example.org:s:{folder}/key.pem\n")
    (folder / "SigningTable").write_text("*@example.org k\n")
    tables = f"KeyTable {folder}/KeyTable\nSigningTable refile:{folder}/SigningTable\n"
    (folder / "opendkim.conf").write_text(tables + conf.replace("FOLDER", str(folder)) + "\n")
    return folder


def trusted(folder: Path) -> set[str]:
    networks = find(folder).internal_hosts().networks
    return {address for _, address in CLIENTS if within(address, networks)}


def opendkim_signs(folder: Path) -> set[str]:
    """Of the clients those whose mail a running OpenDKIM signs."""
    conf, socket = folder / "judge.conf", folder / "s"
    own = f"\nMode s\nRequireSafeKeys no\nSocket local:{socket}\n"
    conf.write_text((folder / "opendkim.conf").read_text() + own)
    with subprocess.Popen([program("opendkim"), "-f", "-x", str(conf)]) as judge:
        try:
            wait_until(lambda: milter.listens(socket) or judge.poll() is not None, "OpenDKIM's socket")
            return {
                address
                for host, address in CLIENTS
                if any(b"DKIM-Signature" in change for change in milter.changes(socket, host, address, MESSAGE))
            }
        finally:
            judge.kill()  # asked to stop, it waits for five seconds


# --- in the files -----------------------------------------------------------------------------------------------------


def hosts(*lines: str) -> opendkim.InternalHosts:
    return opendkim.internal_hosts(TableEntry(line, "", f"TrustedHosts:{n}") for n, line in enumerate(lines, 1))


def test_trusted_hosts_are_addresses_and_networks_and_names_are_kept_apart() -> None:
    found = hosts(
        "127.0.0.1", "localhost", "[2001:db8::1]", "10.1.0.0/16", "::ffff:192.0.2.1", "mail.example", ".x.example"
    )
    addresses = ("127.0.0.1", "::1", "2001:db8::1", "10.1.2.3", "192.0.2.1")
    assert all(within(address, found.networks) for address in addresses)
    assert not within("10.2.0.0", found.networks)
    assert [name.key for name in found.names] == ["mail.example", ".x.example"]


def test_a_network_that_opendkim_never_finds_trusts_nobody() -> None:
    found = hosts("192.0.2.7/24")
    assert found.networks == () and found.names[0].where == "TrustedHosts:1"


@pytest.mark.parametrize("line", ["0.0.0.0/0", "::/0", "0.0.0.0/1", "2000::/3"])
def test_nobody_becomes_an_open_relay_by_moving_over(line: str) -> None:
    with pytest.raises(ValueError, match=rf"TrustedHosts:2: {re.escape(line)} would make this an open relay"):
        hosts("127.0.0.1", line)


def test_nobody_becomes_an_open_relay_by_many_lines() -> None:
    halves = [f"{first}.0.0.0/8" for first in range(256)]
    with pytest.raises(ValueError, match=r"TrustedHosts:1: 0\.0\.0\.0/0 would make this an open relay"):
        hosts(*halves, "!10.0.0.1")


def test_without_a_configuration_the_file_has_its_usual_name(tmp_path: Path) -> None:
    (tmp_path / "trusted.hosts").write_text("192.0.2.1\n")
    assert [str(one) for one in find(tmp_path).internal_hosts().networks] == ["192.0.2.1/32"]


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 255), st.integers(24, 32)), max_size=6), st.integers(0, 255))
def test_the_smallest_network_decides_and_of_two_equal_ones_the_exclusion(
    lines: list[tuple[bool, int, int]], last: int
) -> None:
    entries = [(ipaddress.ip_network(f"192.0.2.{n}/{bits}", strict=False), wanted) for wanted, n, bits in lines]
    found = hosts(*(f"{'' if wanted else '!'}{network}" for network, wanted in entries))
    address = ipaddress.ip_address(f"192.0.2.{last}")
    matching = [(network.prefixlen, not wanted) for network, wanted in entries if address in network]
    assert within(str(address), found.networks) == (bool(matching) and not max(matching)[1])


def test_thousands_of_hosts_are_read_at_once() -> None:
    addresses = [f"10.{n // 256}.{n % 256}.1" for n in range(20_000)]
    assert len(hosts(*addresses).networks) == len(addresses)


def test_internal_hosts_are_trusted_and_the_ignore_list_is_not(tmp_path: Path) -> None:
    (tmp_path / "conf").write_text("10.0.0.1\n")
    (tmp_path / "opendkim.conf").write_text(
        f"InternalHosts 192.0.2.1, ::1\nExternalIgnoreList refile:{tmp_path}/conf\n"
    )
    assert [str(one) for one in find(tmp_path).internal_hosts().networks] == ["192.0.2.1/32", "::1/128"]


def test_the_file_trusts_whom_it_names_and_no_file_of_the_usual_name(tmp_path: Path) -> None:
    (tmp_path / "TrustedHosts").write_text("192.0.2.0/24\n")
    conf = tmp_path / "opendkim.conf"
    conf.write_text("Domain example.org\nSelector mail\nKeyFile key.pem\n")
    assert trusted(conf) == set()
    conf.write_text(conf.read_text() + "InternalHosts 198.51.100.0/24\n")
    assert trusted(conf) == {"198.51.100.7"}
    assert find(conf).key_files() == [tmp_path / "key.pem"]


@pytest.mark.parametrize(("name", "said"), [("gone.conf", "no such file"), ("gone", "no such folder")])
def test_what_is_not_there_is_refused(tmp_path: Path, name: str, said: str) -> None:
    with pytest.raises(ValueError, match=f"{name}: {said}"):
        find(tmp_path / name)

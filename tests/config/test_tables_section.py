"""The table [[tables]]: with listeners or alone, who may connect, and errors that name what to write."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from relay.config.file import folders_open_to_others, load
from tests.config.loading import MINIMAL, loaded, refusal

ALONE = """
hostname = "mx.fwd.example"
srs = {domain = "fwd.example", secrets_file = "srs.secret"}
"""


def one(keys: str) -> str:
    return f"{ALONE}tables = [{{{keys}}}]"


def test_tables_may_stand_alone_or_beside_listeners(folder: Path) -> None:
    alone = loaded(folder, one('address = "127.0.0.1:10003"'))
    assert not alone.takes_mail and alone.listen == ()
    [table] = alone.tables
    assert (table.protocol, table.direction, table.mode, table.group) == ("socketmap", None, "0660", "")
    beside = loaded(folder, MINIMAL + 'tables = [{address = "127.0.0.1:10003"}]')
    assert beside.takes_mail and beside.tables == alone.tables
    assert not loaded(folder, one('address = "127.0.0.1:10003"') + "\nlisten = []").takes_mail


def test_without_both_a_listener_is_asked_for(folder: Path) -> None:
    for text in (ALONE, ALONE + "listen = []", ALONE + "tables = []", ALONE + "listen = []\ntables = []"):
        [line] = refusal(folder, text).splitlines()
        assert line.endswith(": listen: one at least is needed: a table that begins with the line [[listen]]")


def test_the_environment_has_tables_as_json(folder: Path) -> None:
    environ = {
        "RELAY_HOSTNAME": "mx.fwd.example",
        "RELAY_SRS__DOMAIN": "fwd.example",
        "RELAY_SRS__SECRETS_FILE": str(folder / "srs.secret"),
        "RELAY_TABLES": json.dumps([{"address": "127.0.0.1:10001", "protocol": "tcp", "direction": "forward"}]),
    }
    [table] = load(None, environ).tables
    assert (table.address, table.protocol, table.direction) == ("127.0.0.1:10001", "tcp", "forward")


def test_a_path_is_relative_to_the_folder_of_the_file(folder: Path) -> None:
    [table] = loaded(folder, one('address = "unix:run/tables", mode = "600", group = "postfix"')).tables
    assert table.address == f"unix:{folder}/run/tables"
    assert table.path == folder / "run" / "tables"
    [port] = loaded(folder, one('address = "[::1]:10003"')).tables
    assert port.path is None


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ("", "tables.0.address: this key is required"),
        ('address = "localhost:10003"', "tables.0.address: 'localhost:10003' is not an address with a port"),
        ('address = "inet:127.0.0.1:10003"', "is not an address with a port"),
        ('address = "unix:"', 'a Unix socket is written "unix:/path/of/the/socket"'),
        (f'address = "unix:/{"x" * 107}"', "the path of a Unix socket has at most 107 octets"),
        ('address = "127.0.0.1:1", protocol = "tcp"', 'protocol = "tcp" needs direction: "forward" or "reverse"'),
        ('address = "127.0.0.1:1", protocol = "udp"', "tables.0.protocol: must be 'socketmap' or 'tcp'"),
        (
            'address = "unix:x", mode = "0999"',
            'tables.0.mode: an access mode is written in octal digits between quotes, like "0660"',
        ),
        ('address = "unix:x", mode = 0o660', "tables.0.mode: an access mode is written in octal digits"),
        ('address = "0.0.0.0:10003"', "0.0.0.0:10003: any host that reaches this address could make addresses"),
        ('address = "[::]:10003"', "[::]:10003: any host that reaches this address"),
        ('address = "203.0.113.5:10003"', "listen on 127.0.0.1 or unix:PATH, or name in clients who may connect"),
        ('address = "[2001:db8::5]:10003"', "any host that reaches this address"),
        ('address = "0.0.0.0:10003", clients = ["0.0.0.0/0"]', "0.0.0.0/0 would make this an open relay"),
        ('address = "127.0.0.1:1", listen = 1', "tables.0.listen: unknown key"),
    ],
)
def test_a_bad_table_is_one_line_that_names_its_key(folder: Path, keys: str, said: str) -> None:
    [line] = refusal(folder, one(keys)).splitlines()
    assert said in line and "tables.0" in line


def test_no_address_stands_there_twice(folder: Path) -> None:
    text = ALONE + 'tables = [{address = "127.0.0.1:1"}, {address = "127.0.0.1:1"}]'
    assert "tables: 127.0.0.1:1 stands there twice" in refusal(folder, text)
    text = MINIMAL + 'tables = [{address = "127.0.0.1:2525"}]'
    assert "tables: 127.0.0.1:2525 stands there twice" in refusal(folder, text)
    text = one('address = "127.0.0.1:8025"') + '\n[http]\naddress = "127.0.0.1:8025"'
    assert "tables: 127.0.0.1:8025 stands there twice" in refusal(folder, text)


@pytest.mark.parametrize(
    ("address", "clients", "shared", "admitted", "refused"),
    [
        ("127.0.0.1:1", "", False, ["127.0.0.1", "127.9.9.9"], []),
        ("[::1]:1", "", False, ["::1"], []),
        ("unix:x", "", False, [], []),
        ("10.0.0.5:1", "", True, ["10.0.0.6", "172.16.0.1", "127.0.0.1"], ["192.0.2.1", "2001:db8::1"]),
        ("[fd00::5]:1", "", True, ["fd00::6", "::1"], ["2001:db8::1"]),
        ("10.0.0.5:1", "10.0.0.8/30", False, ["10.0.0.9", "127.0.0.1"], ["10.0.0.6", "192.0.2.1"]),
        ("0.0.0.0:1", "172.18.0.0/16", False, ["172.18.3.4", "127.0.0.1"], ["172.19.0.1", "192.0.2.1"]),
        ("203.0.113.5:1", "203.0.113.6", False, ["203.0.113.6"], ["203.0.113.7", "10.0.0.1"]),
    ],
)
def test_who_may_connect(
    folder: Path, address: str, clients: str, shared: bool, admitted: list[str], refused: list[str]
) -> None:
    [table] = loaded(folder, one(f'address = "{address}"' + (f', clients = ["{clients}"]' if clients else ""))).tables
    assert table.is_shared is shared
    assert [ip for ip in (*admitted, *refused) if table.admits(ip)] == admitted


def test_without_a_queue_nothing_of_one_is_looked_at(folder: Path) -> None:
    (folder / "open").mkdir()
    (folder / "open").chmod(0o777)
    queue = '\nqueue = {url = "sqlite:///open/queue.db"}'
    assert folders_open_to_others(loaded(folder, MINIMAL + queue)) == [folder / "open"]
    assert folders_open_to_others(loaded(folder, one('address = "127.0.0.1:10003"') + queue)) == []

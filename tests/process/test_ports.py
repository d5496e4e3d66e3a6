"""The sockets that stay open over reloads and the deaths of workers."""

from __future__ import annotations

import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from relay.process.ports import Ports
from tests.peers import free_port
from tests.postfix_tables.served import config_of


@pytest.fixture
def ports() -> Iterator[Ports]:
    ports = Ports()
    yield ports
    ports.open(set(), 0)


def test_every_worker_gets_a_socket_for_every_address(ports: Ports) -> None:
    addresses = {f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"}
    ports.open(addresses, 3)
    assert set(ports.by_address) == addresses
    for address, sockets in ports.by_address.items():
        assert [sock.getsockname()[1] for sock in sockets] == [int(address.rpartition(":")[2])] * 3


def test_sockets_that_are_still_needed_stay_open_over_a_change(ports: Ports) -> None:
    kept, dropped = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
    ports.open({kept, dropped}, 2)
    before, gone = list(ports.by_address[kept]), list(ports.by_address[dropped])
    ports.open({kept}, 3)
    assert ports.by_address[kept][:2] == before
    assert len(ports.by_address[kept]) == 3
    assert all(sock.fileno() == -1 for sock in gone)
    ports.open({kept}, 1)
    assert ports.by_address == {kept: before[:1]}
    assert before[1].fileno() == -1


def test_an_address_that_is_taken_changes_nothing(ports: Ports) -> None:
    ours = f"127.0.0.1:{free_port()}"
    ports.open({ours}, 1)
    before = {address: list(sockets) for address, sockets in ports.by_address.items()}
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = f"127.0.0.1:{other.getsockname()[1]}"
        with pytest.raises(OSError, match=f"cannot listen on {taken}"):
            ports.open({taken, f"127.0.0.1:{free_port()}"}, 2)
    assert ports.by_address == before
    assert before[ours][0].fileno() != -1


def test_a_table_has_one_socket_that_stays_open_over_changes(ports: Ports, tmp_path: Path) -> None:
    config = config_of(tmp_path, {"address": f"127.0.0.1:{free_port()}"}, {"address": "unix:tables"})
    ports.open({f"127.0.0.1:{free_port()}"}, 3, config.tables)
    before = {table.address: list(ports.by_address[table.address]) for table in config.tables}
    assert [len(sockets) for sockets in before.values()] == [1, 1]
    ports.open(set(), 1, config_of(tmp_path, {"address": "unix:tables", "mode": "0600"}).tables)
    port, unix = (table.address for table in config.tables)
    assert ports.by_address == {unix: before[unix]}
    assert before[port][0].fileno() == -1
    assert stat.S_IMODE((tmp_path / "tables").stat().st_mode) == 0o600
    ports.close()
    assert ports.by_address == {} and not (tmp_path / "tables").exists()


def test_a_table_that_cannot_be_opened_changes_nothing(ports: Ports, tmp_path: Path) -> None:
    ours = f"127.0.0.1:{free_port()}"
    ports.open({ours}, 1, config_of(tmp_path, {"address": "unix:tables"}).tables)
    before = {address: list(sockets) for address, sockets in ports.by_address.items()}
    wrong = config_of(tmp_path, {"address": "unix:other"}, {"address": "unix:no/folder"})
    with pytest.raises(OSError, match="there is no folder"):
        ports.open({ours, f"127.0.0.1:{free_port()}"}, 2, wrong.tables)
    assert ports.by_address == before and not (tmp_path / "other").exists()
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(tmp_path / "tables"))


def test_the_file_of_a_table_that_somebody_removed_is_made_again(ports: Ports, tmp_path: Path) -> None:
    tables = config_of(tmp_path, {"address": "unix:tables"}).tables
    ports.open(set(), 1, tables)
    (tmp_path / "tables").unlink()
    ports.open(set(), 1, tables)
    [sock] = ports.by_address[tables[0].address]
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(tmp_path / "tables"))
        sock.accept()[0].close()

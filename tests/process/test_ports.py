"""The sockets that stay open over reloads and the deaths of workers."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from relay.process.ports import Ports
from tests.peers import free_port


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

"""What is told of an address that cannot be listened on."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from relay.process import port_errors
from relay.process.ports import Ports
from tests.peers import free_port, needs


def refusal(address: str) -> str:
    ports = Ports()
    with pytest.raises(OSError, match="cannot listen on") as caught:
        ports.open({address}, 1)
    assert caught.value.strerror is not None
    return caught.value.strerror


@pytest.mark.parametrize(
    ("taken", "wanted", "family"),
    [
        ("127.0.0.1", "127.0.0.1", socket.AF_INET),
        ("0.0.0.0", "127.0.0.1", socket.AF_INET),
        ("127.0.0.1", "0.0.0.0", socket.AF_INET),
        ("::1", "[::1]", socket.AF_INET6),
        ("::", "127.0.0.1", socket.AF_INET6),
    ],
)
def test_who_has_the_port_is_named(taken: str, wanted: str, family: socket.AddressFamily) -> None:
    port = free_port()
    with socket.create_server((taken, port), family=family, dualstack_ipv6=taken == "::"):
        said = refusal(f"{wanted}:{port}")
    name = Path("/proc/self/comm").read_text().strip()
    assert f"Address already in use by {name} (process id {os.getpid()}): stop that, or listen elsewhere" in said


def test_a_listener_on_another_address_is_not_blamed() -> None:
    port = free_port()
    with socket.create_server(("127.0.0.2", port)):
        assert port_errors._listener("127.0.0.1", port) == ""
        assert f"process id {os.getpid()}" in port_errors._listener("127.0.0.2", port)


def test_where_nobody_can_be_named_it_says_how_root_finds_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(port_errors, "_listener", lambda host, port: "")
    error = port_errors.with_mend("0.0.0.0:25", OSError(errno.EADDRINUSE, "cannot listen on 0.0.0.0:25: in use"))
    assert "ss -ltnp 'sport = :25'" in str(error)


@pytest.mark.parametrize(("port", "named"), [(25, True), (2525, False)])
def test_the_capability_for_a_low_port_is_named(port: int, named: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(port_errors, "_first_free_port", lambda: 1024)
    address = f"0.0.0.0:{port}"
    error = port_errors.with_mend(address, OSError(errno.EACCES, f"cannot listen on {address}: Permission denied"))
    assert ("AmbientCapabilities=CAP_NET_BIND_SERVICE" in str(error)) is named
    assert ("map the port" in str(error)) is named


@needs(root=True)
@pytest.mark.slow
def test_an_ordinary_user_hears_of_the_capability() -> None:
    code = (
        "import sys; from relay.process.ports import Ports\n"
        "try: Ports().open({'127.0.0.1:99'}, 1)\n"
        "except OSError as error: print(error.strerror)"
    )
    command = ["setpriv", "--bounding-set", "-net_bind_service", "--reuid", "65534", "--clear-groups"]
    done = subprocess.run([*command, sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    if port_errors._first_free_port() <= 99:
        pytest.skip("every port is free to everybody here")
    assert "cannot listen on 127.0.0.1:99: Permission denied: port 99 needs the capability" in done.stdout, done.stderr


@pytest.mark.parametrize(("address", "everywhere"), [("203.0.113.7", "0.0.0.0"), ("[2001:db8::7]", "[::]")])
def test_an_address_of_another_host_is_told(address: str, everywhere: str) -> None:
    said = refusal(f"{address}:{free_port()}")
    assert f"no interface of this host has this address (see ip address); {everywhere} stands for all" in said

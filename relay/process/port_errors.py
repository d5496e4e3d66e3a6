"""Says what to do where an address cannot be listened on: who has it, or which privilege is missing."""

from __future__ import annotations

import errno
import ipaddress
import sys
from collections.abc import Iterator
from pathlib import Path

from relay.network import host_port

_LISTENING = "0A"  # in the column `st` of /proc/net/tcp
_CAPABILITY = (
    "needs the capability CAP_NET_BIND_SERVICE: in a systemd unit AmbientCapabilities=CAP_NET_BIND_SERVICE, in a shell "
    "setpriv --inh-caps +net_bind_service --ambient-caps +net_bind_service; "
    "in a container listen on 2525, and map the port to it"
)


def with_mend(address: str, error: OSError) -> OSError:
    """The same error, with what to do about it in its text.

    Args:
        address: `host:port`.
        error: what binding it has raised; its text names the address.
    """
    host, port = host_port(address)
    match error.errno:
        case errno.EADDRINUSE:
            user = _listener(host, port)
            by = f" by {user}" if user else f" (as root, ss -ltnp 'sport = :{port}' says by whom)"
            mend = f"{by}: stop that, or listen elsewhere"
        case errno.EACCES:
            mend = f": port {port} {_CAPABILITY}" if port < _first_free_port() else ""
        case errno.EADDRNOTAVAIL:
            everywhere = "[::]" if ":" in host else "0.0.0.0"
            mend = f": no interface of this host has this address (see ip address); {everywhere} stands for all of them"
        case errno.EAFNOSUPPORT:
            mend = ": this host has no IPv6"
        case _:
            mend = ""
    return OSError(error.errno, f"{error.strerror}{mend}")


def _first_free_port() -> int:
    """The first port that needs no privilege, ip(7)."""
    try:
        return int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text())
    except (OSError, ValueError):
        return 1024


def _listener(host: str, port: int) -> str:
    """The process that listens there, as `name (process id N)`; empty where we may not see it: root sees all.

    Of several processes that share the socket it is the oldest, which opened it.
    """
    sockets = {f"socket:[{inode}]" for inode in _inodes(host, port)}
    processes = sorted(Path("/proc").glob("[0-9]*"), key=lambda process: int(process.name)) if sockets else []
    for process in processes:
        try:
            if not sockets.isdisjoint(map(_target, (process / "fd").iterdir())):
                return f"{(process / 'comm').read_text().strip()} (process id {process.name})"
        except OSError:  # not ours to look at, or it has ended
            continue
    return ""


def _target(descriptor: Path) -> str:
    try:
        return str(descriptor.readlink())
    except OSError:  # it was closed meanwhile
        return ""


def _inodes(host: str, port: int) -> Iterator[str]:
    """The inodes of the sockets that listen on an address, or on one that takes it in, see proc_pid_net(5)."""
    everywhere = ("0" * 8, "0" * 32)
    ours = _hexadecimal(host)
    for table in ("tcp", "tcp6"):
        try:
            lines = Path("/proc/net", table).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            columns = line.split()
            address, _, number = columns[1].partition(":")
            if (
                columns[3] == _LISTENING
                and int(number, 16) == port
                and (address in (ours, *everywhere) or ours in everywhere)
            ):
                yield columns[9]


def _hexadecimal(host: str) -> str:
    """The address as the kernel writes it there: words of 32 bits in the order of this machine."""
    octets = ipaddress.ip_address(host).packed
    words = (octets[start : start + 4] for start in range(0, len(octets), 4))
    return "".join(f"{int.from_bytes(word, sys.byteorder):08X}" for word in words)

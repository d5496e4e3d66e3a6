"""Opens the listening sockets of tables, which the workers share.

A Unix socket gets its group and mode before anybody can connect. A file that a dead process left behind is removed; one
where somebody listens is not.
"""

from __future__ import annotations

import contextlib
import errno
import grp
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

from relay.config.sections import TablesSection
from relay.network import host_port

BACKLOG = 1024


def open_table(table: TablesSection) -> socket.socket:
    """A socket that listens on the address of a table.

    Raises:
        OSError: the address cannot be used; the text names it, and the mend.
    """
    with _named(table):
        return _listening_port(table) if table.path is None else _listening_path(table, table.path)


def close_table(sock: socket.socket) -> None:
    """Close a socket, and remove the file of a Unix socket."""
    if sock.family == socket.AF_UNIX:
        with contextlib.suppress(OSError):
            Path(sock.getsockname()).unlink()
    sock.close()


def is_gone(table: TablesSection) -> bool:
    """Whether somebody has removed the file of a Unix socket that is still open here."""
    return table.path is not None and not table.path.is_socket()


def set_access(table: TablesSection) -> None:
    """Give the file of an open Unix socket the group and the mode that its table has after a reload.

    Raises:
        OSError: there is no such group, or it is not one of ours.
    """
    if table.path is not None:
        with _named(table):
            _set_access(table, table.path)


@contextlib.contextmanager
def _named(table: TablesSection) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise OSError(error.errno or 0, f"cannot listen on {table.address}: {reason}") from None


def _listening_port(table: TablesSection) -> socket.socket:
    host, port = host_port(table.address)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with contextlib.ExitStack() as on_error:
        sock = on_error.enter_context(socket.socket(family, socket.SOCK_STREAM))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((host, port))
        sock.listen(BACKLOG)
        sock.setblocking(False)
        on_error.pop_all()
    return sock


def _listening_path(table: TablesSection, path: Path) -> socket.socket:
    _remove_stale(path)
    with contextlib.ExitStack() as on_error:
        sock = on_error.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        umask = os.umask(0o777)
        try:
            sock.bind(str(path))
        finally:
            os.umask(umask)
        on_error.callback(path.unlink)
        _set_access(table, path)
        sock.listen(BACKLOG)  # until then connections are refused
        sock.setblocking(False)
        on_error.pop_all()
    return sock


def _remove_stale(path: Path) -> None:
    """Remove a socket on which nobody listens. Raises OSError: somebody does, or it is another kind of file."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        if not path.parent.is_dir():
            raise OSError(errno.ENOENT, f"there is no folder {path.parent}") from None
        return
    if not stat.S_ISSOCK(mode):
        raise OSError(errno.EEXIST, "there is a file that is no socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        answer = probe.connect_ex(str(path))
    if answer == errno.ECONNREFUSED:
        path.unlink(missing_ok=True)
    elif answer in (0, errno.EAGAIN):  # the latter with a full backlog
        raise OSError(errno.EADDRINUSE, "another process listens there")
    else:
        raise OSError(answer, os.strerror(answer))


def _set_access(table: TablesSection, path: Path) -> None:
    if table.group:
        _set_group(path, table.group)
    path.chmod(int(table.mode, 8))


def _set_group(path: Path, name: str) -> None:
    try:
        group = grp.getgrnam(name).gr_gid
    except KeyError:
        raise OSError(errno.EINVAL, f"there is no group {name}") from None
    try:
        os.chown(path, -1, group)
    except PermissionError:
        raise OSError(errno.EPERM, f"the user of the relay has to be in the group {name} (usermod -aG)") from None

"""The sockets of tables: who may connect, what a dead process left behind, and errors that name the mend."""

from __future__ import annotations

import grp
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from relay.config.sections import TablesSection
from relay.postfix_tables.sockets import close_table, is_gone, open_table, set_access
from tests.peers import free_port
from tests.postfix_tables.served import config_of


def table_of(folder: Path, **keys: Any) -> TablesSection:
    return config_of(folder, {"address": "unix:tables", **keys}).tables[0]


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[list[socket.socket]]:
    sockets: list[socket.socket] = []
    yield sockets
    for sock in sockets:
        close_table(sock)


def own_group() -> str:
    return grp.getgrgid(os.getgid()).gr_name


@pytest.mark.parametrize("mode", ["0660", "600", "0666"])
def test_a_unix_socket_has_its_mode_and_group(tmp_path: Path, opened: list[socket.socket], mode: str) -> None:
    opened.append(open_table(table_of(tmp_path, mode=mode, group=own_group())))
    found = (tmp_path / "tables").stat()
    assert (stat.S_IMODE(found.st_mode), found.st_gid) == (int(mode, 8), os.getgid())


def test_nobody_can_connect_before_mode_and_group_are_set(
    tmp_path: Path, opened: list[socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, int]] = []

    def chown(path: Path, user: int, group: int) -> None:
        with socket.socket(socket.AF_UNIX) as client:
            seen.append((stat.S_IMODE(Path(path).stat().st_mode), client.connect_ex(str(path))))

    monkeypatch.setattr(os, "chown", chown)
    umask = os.umask(0)
    try:
        opened.append(open_table(table_of(tmp_path, group=own_group())))
        assert os.umask(0) == 0, "it is as it was"
    finally:
        os.umask(umask)
    [(mode, error)] = seen
    assert mode == 0 and error != 0


def test_what_a_dead_process_left_behind_is_replaced(tmp_path: Path, opened: list[socket.socket]) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "tables"))
    opened.append(open_table(table_of(tmp_path)))
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(tmp_path / "tables"))


@pytest.mark.parametrize("backlog", [16, 0])
def test_the_socket_of_a_living_process_is_left_alone(tmp_path: Path, backlog: int) -> None:
    with socket.socket(socket.AF_UNIX) as living, socket.socket(socket.AF_UNIX) as waiting:
        living.bind(str(tmp_path / "tables"))
        living.listen(backlog)
        waiting.connect(str(tmp_path / "tables"))  # fills a backlog of 0
        with pytest.raises(OSError, match=r"cannot listen on unix:.*/tables: another process listens there"):
            open_table(table_of(tmp_path))
        assert (tmp_path / "tables").is_socket()


def test_a_file_that_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "tables").write_text("mine")
    with pytest.raises(OSError, match="there is a file that is no socket"):
        open_table(table_of(tmp_path))
    assert (tmp_path / "tables").read_text() == "mine"


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"cannot listen on unix:.*/x/tables: there is no folder .*/x"):
        open_table(table_of(tmp_path, address="unix:x/tables"))


def test_a_group_that_is_not_there_or_not_ours_is_named_and_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(OSError, match="there is no group nobody-has-this"):
        open_table(table_of(tmp_path, group="nobody-has-this"))

    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "chown", refuse)
    with pytest.raises(OSError, match=f"the user of the relay has to be in the group {own_group()}"):
        open_table(table_of(tmp_path, group=own_group()))
    assert not (tmp_path / "tables").exists()


def test_a_closed_socket_leaves_no_file(tmp_path: Path) -> None:
    table = table_of(tmp_path)
    sock = open_table(table)
    assert not is_gone(table)
    close_table(sock)
    assert is_gone(table) and not (tmp_path / "tables").exists()


def test_access_can_change(tmp_path: Path, opened: list[socket.socket]) -> None:
    opened.append(open_table(table_of(tmp_path)))
    set_access(table_of(tmp_path, mode="0600"))
    assert stat.S_IMODE((tmp_path / "tables").stat().st_mode) == 0o600
    with pytest.raises(OSError, match=r"cannot listen on unix:.*: there is no group nobody-has-this"):
        set_access(table_of(tmp_path, group="nobody-has-this"))


def test_a_port_is_not_shared_with_other_programs(tmp_path: Path, opened: list[socket.socket]) -> None:
    table = table_of(tmp_path, address=f"127.0.0.1:{free_port()}")
    opened.append(open_table(table))
    with pytest.raises(OSError, match=f"cannot listen on {table.address}: Address already in use"):
        open_table(table)
    set_access(table)
    assert not is_gone(table)


def test_a_port_of_ipv6_is_one_of_ipv6_alone(tmp_path: Path, opened: list[socket.socket]) -> None:
    opened.append(open_table(table_of(tmp_path, address=f"[::1]:{free_port()}")))
    assert opened[0].getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)

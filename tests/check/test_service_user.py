"""Which user runs the relay, and what the kernel lets that user do."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from relay.check.service_user import ServiceUser, refused, service_user
from tests.check.local_site import local_site
from tests.peers import needs

NOBODY = 65534


@pytest.fixture
def folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="srs-relay-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@needs(root=True)
def test_it_is_the_owner_of_the_folder_of_the_queue(folder: Path) -> None:
    config = local_site(folder, {}).config
    assert service_user(config) is None, "root owns everything, and runs it"
    os.chown(folder, 12345, 12345)
    assert service_user(config) == ServiceUser(12345, 12345, "12345")
    os.chown(folder, NOBODY, NOBODY)
    assert service_user(config) == ServiceUser(NOBODY, NOBODY, "nobody")
    (folder / "queue.db").write_bytes(b"")
    assert service_user(config) == ServiceUser(NOBODY, NOBODY, "nobody", certain=False)
    os.chown(folder / "queue.db", NOBODY, NOBODY)
    assert service_user(config) == ServiceUser(NOBODY, NOBODY, "nobody")


_HOLD = "import fcntl, sys; file = open(sys.argv[1], 'w'); fcntl.flock(file, fcntl.LOCK_EX); print(flush=True); input()"


@needs(root=True)
@pytest.mark.parametrize(("uid", "user"), [(0, None), (NOBODY, ServiceUser(NOBODY, NOBODY, "nobody"))])
def test_it_is_rather_who_runs_the_relay_now(folder: Path, uid: int, user: ServiceUser | None) -> None:
    config = local_site(folder, {}).config
    (folder / "queue.db.lock").write_text("")
    (folder / "queue.db.lock").chmod(0o666)
    os.chown(folder, 12345, 12345)
    command = ["/usr/bin/python3", "-c", _HOLD, str(folder / "queue.db.lock")]
    with subprocess.Popen(
        command, user=uid, group=uid, extra_groups=[], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None and process.stdout.readline()
        assert service_user(config) == user
        process.communicate(b"\n")
    assert service_user(config) == ServiceUser(12345, 12345, "12345")


@needs(root=True)
def test_a_queue_on_a_server_does_not_tell_it(folder: Path) -> None:
    os.chown(folder, NOBODY, NOBODY)
    assert service_user(local_site(folder, {}, queue={"url": "postgresql://relay@db.example/queue"}).config) is None


def test_who_is_not_root_can_only_be_the_relay_itself(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relay.check.service_user.os.geteuid", lambda: 1000)
    assert service_user(local_site(folder, {}).config) is None


@needs(root=True)
def test_the_kernel_says_what_a_user_may_do(folder: Path) -> None:
    names = ["open.txt", "closed one", "-n", "of the group", "not there"]
    for name in names[:-1]:
        (folder / name).write_text("")
        (folder / name).chmod(0o644 if name == "open.txt" else 0o600)
    os.chown(folder / "of the group", 0, NOBODY)
    (folder / "of the group").chmod(0o640)
    needs = {folder / name: "r" for name in names} | {folder: "w"}
    closed = refused(ServiceUser(NOBODY, NOBODY, "nobody"), needs)  # type: ignore[arg-type]
    expected = [(folder / "closed one", "r"), (folder / "-n", "r"), (folder / "not there", "r"), (folder, "w")]
    assert closed == expected
    assert refused(ServiceUser(NOBODY, NOBODY, "nobody"), {}) == []

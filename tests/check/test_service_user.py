"""Which user runs the relay, and what the kernel lets that user do."""

from __future__ import annotations

import os
import shutil
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
    (folder / "queue.db").write_bytes(b"")
    os.chown(folder / "queue.db", 12345, 12345)
    assert service_user(config) == ServiceUser(12345, 12345, "12345")
    os.chown(folder, NOBODY, NOBODY)
    assert service_user(config) == ServiceUser(NOBODY, NOBODY, "nobody")


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

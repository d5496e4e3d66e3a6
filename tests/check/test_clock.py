"""What this host can tell about its clock."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest

from relay.check import clock
from relay.check.clock import check, kernel_synchronized
from tests.check.local_site import HOSTNAME, local_site


@pytest.mark.parametrize(
    ("synchronized", "level", "said"),
    [(True, "ok", "a time service"), (None, "ok", "does not tell"), (False, "warning", "unsynchronized")],
)
async def test_what_the_kernel_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, synchronized: bool | None, level: str, said: str
) -> None:
    monkeypatch.setattr(clock, "kernel_synchronized", lambda: synchronized)
    [finding] = await check(local_site(tmp_path, {}))
    assert (finding.subject, finding.level) == (HOSTNAME, level) and said in finding.text
    assert bool(finding.mend) == (level != "ok")


async def test_a_clock_before_the_last_change_of_our_own_files_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clock, "kernel_synchronized", lambda: True)
    site = local_site(tmp_path, {})
    [finding] = await check(dataclasses.replace(site, now=site.now - 7 * 86400))
    assert finding.level == "error" and "7.0 days later" in finding.text
    [finding] = await check(dataclasses.replace(site, now=site.now - 60))
    assert finding.level == "ok", "the clock of a file server may differ"


async def test_a_queue_of_tomorrow_shows_that_the_clock_was_set_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clock, "kernel_synchronized", lambda: True)
    site = local_site(tmp_path, {})
    (tmp_path / "queue.db").write_bytes(b"")
    os.utime(tmp_path / "queue.db", (site.now + 86400, site.now + 86400))
    [finding] = await check(site)
    assert finding.level == "error" and "queue.db" in finding.text


def test_the_kernel_is_asked_and_answers_as_its_own_programs_say() -> None:
    """The status is also what adjtimex(8) and timedatectl(1) print; here it is enough that the call works."""
    assert kernel_synchronized() in (True, False, None)


@pytest.mark.parametrize(("result", "status", "told"), [(0, 0x2001, True), (5, 0x40, False), (-1, 0, None)])
def test_the_status_bit_decides(monkeypatch: pytest.MonkeyPatch, result: int, status: int, told: bool | None) -> None:
    class Libc:
        def __init__(self, *_: object, **__: object) -> None: ...

        @staticmethod
        def adjtimex(reference: object) -> int:
            state = reference._obj  # type: ignore[attr-defined]
            assert state.modes == 0, "it only reads"
            state.status = status
            return result

    monkeypatch.setattr("relay.check.clock.ctypes.CDLL", Libc)
    assert kernel_synchronized() is told

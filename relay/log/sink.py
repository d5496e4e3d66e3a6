"""Writes log lines without blocking the event loop, and the lines of one turn of the loop with one write.

A line is written before the call returns, as long as the reader keeps up. Only where a loop gathers them, lines below
the level error wait for its next turn: a process that is killed loses the lines of one turn at most.

A stalled reader would stop the event loop of every worker; then lines wait in a bounded backlog that a thread writes.
Lines past its bound are dropped and counted: the log gives way, mail does not.
"""

from __future__ import annotations

import asyncio
import os
import select
import stat
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TextIO

BACKLOG_OCTETS = 8 * 2**20  # some 40,000 lines: seconds of the fullest load, hours of an ordinary one


class Sink:
    """Writes lines to a stream without waiting for its reader. Any thread may log; lines keep their order.

    Args:
        stream: a stream without a descriptor (a StringIO) is written to directly.
        notice: makes the line that says how many lines were lost.
    """

    def __init__(self, stream: TextIO, notice: Callable[[int], bytes]) -> None:
        self._stream, self._notice = stream, notice
        # Reentrant: a signal handler, or a collection of garbage, may log in the midst of a method.
        self._lock = threading.RLock()
        self._gathered: list[bytes] = []
        self._gathering: int | None = None  # the thread of the loop whose lines are gathered
        self._call_soon: Callable[[Callable[[], None]], object]  # of that loop
        self._backlog: list[bytes] = []
        self._waiting = 0  # octets in the backlog and of lines that the thread is writing
        self._lost = 0
        self._thread: threading.Thread | None = None
        self._without_waiting: int = getattr(os, "RWF_NOWAIT", 0)  # flag of a write that does not wait; 0 for none
        self._writable = select.poll()
        try:
            self._descriptor = stream.fileno()
        except (OSError, ValueError):
            self._descriptor = -1
        else:
            self._writable.register(self._descriptor, select.POLLOUT)
            if stat.S_ISREG(os.fstat(self._descriptor).st_mode):
                self._without_waiting = 0  # a file has no reader to wait for

    @contextmanager
    def gathering(self, loop: asyncio.AbstractEventLoop) -> Iterator[None]:
        """Writes the lines of one turn of a loop, which runs in this thread, together at the start of its next turn."""
        self._gathering, self._call_soon = threading.get_ident(), loop.call_soon
        try:
            yield
        finally:
            self._gathering = None
            self.flush()

    def info(self, line: bytes) -> None:
        """Takes a line to write at once, or together with the others of this turn of the loop."""
        with self._lock:
            if threading.get_ident() != self._gathering:
                self.error(line)
                return
            if not self._gathered:
                self._call_soon(self.flush)
            self._gathered.append(line)

    def error(self, line: bytes) -> None:
        """Takes a line to write at once, after all that came before it: the process may be about to end."""
        with self._lock:
            self._gathered.append(line)
            self.flush()

    debug = warning = info
    critical = error

    def flush(self) -> None:
        """Writes what was gathered; what the reader does not take goes to the backlog, or is counted as lost."""
        with self._lock:
            self._gathered, lines = [], self._gathered
            for together in _pieces(lines):
                piece = b"".join(together)
                if self._descriptor < 0:
                    self._stream.write(piece.decode())
                elif self._thread is None and self._has_room(piece):
                    if unwritten := self._write_at_once(piece):
                        self._keep(unwritten)
                else:
                    for line in together:
                        self._keep(line)

    def close(self, patience: float) -> None:
        """Writes what was gathered, and waits at most `patience` seconds for the backlog to be written."""
        self.flush()
        thread = self._thread
        if thread is not None:
            thread.join(patience)

    def _has_room(self, piece: bytes) -> bool:
        """Whether it can be written at once.

        A pipe that polls as writable takes PIPE_BUF octets (pipe(7)), unless another worker writes first.
        """
        return len(piece) <= select.PIPE_BUF and bool(self._writable.poll(0))

    def _write_at_once(self, piece: bytes) -> bytes:
        """Writes where there was room, and returns what was not taken because another worker was faster.

        Before Linux 6.4 a pipe knows no such write; there this worker waits for the reader in that rare case.
        """
        if self._without_waiting:
            try:
                return piece[os.pwritev(self._descriptor, [piece], -1, self._without_waiting) :]
            except BlockingIOError:
                return piece
            except OSError:
                self._without_waiting = 0
        return self._write(piece)

    def _write(self, data: bytes) -> bytes:
        """Writes the octets and returns those that a non-blocking descriptor did not take."""
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[os.write(self._descriptor, rest) :]
            except BlockingIOError:
                break
            except OSError:  # a full disk, or a reader that is gone: there is nowhere to report it
                return b""
        return bytes(rest)

    def _keep(self, line: bytes) -> None:
        with self._lock:
            if self._waiting + len(line) > BACKLOG_OCTETS:
                self._lost += 1
                return
            self._waiting += len(line)
            self._backlog.append(line)
            if self._thread is None:
                self._thread = threading.Thread(target=self._drain, name="log", daemon=True)
                self._thread.start()

    def _drain(self) -> None:
        """Writes the backlog line by line: writes of at most PIPE_BUF octets do not mix with those of other workers."""
        while True:
            with self._lock:
                lines, self._backlog = self._backlog, []
                if self._lost:
                    lines.append(self._notice(self._lost))
                    self._waiting += len(lines[-1])
                    self._lost = 0
                if not lines:
                    self._thread = None
                    return
            for line in lines:
                unwritten = line
                while unwritten := self._write(unwritten):
                    self._writable.poll()
                with self._lock:
                    self._waiting -= len(line)


def _pieces(lines: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    """The lines in groups of at most PIPE_BUF octets: a write of so many does not mix with those of other processes
    (pipe(7)). A longer line is alone."""
    start = octets = 0
    for number, line in enumerate(lines):
        octets += len(line)
        if octets > select.PIPE_BUF and number > start:
            yield lines[start:number]
            start, octets = number, len(line)
    if lines:
        yield lines[start:]

"""Writes log lines without blocking the event loop.

A line is written at once as long as the reader keeps up, so that a killed process has lost nothing. A stalled reader
would stop the event loop of every worker; then lines wait in a bounded backlog that a thread writes. Lines past its
bound are dropped and counted: the log gives way, mail does not.
"""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Callable
from typing import TextIO

BACKLOG_OCTETS = 8 * 2**20  # some 40,000 lines: seconds of the fullest load, hours of an ordinary one


class Sink:
    """Writes lines to a stream without waiting for its reader.

    Args:
        stream: a stream without a descriptor (a StringIO) is written to directly.
        notice: makes the line that says how many lines were lost.
    """

    def __init__(self, stream: TextIO, notice: Callable[[int], bytes]) -> None:
        self._stream, self._notice = stream, notice
        self._lock = threading.Lock()
        self._backlog: list[bytes] = []
        self._waiting = 0  # octets in the backlog and of lines that the thread is writing
        self._lost = 0
        self._thread: threading.Thread | None = None
        self._writable = select.poll()
        try:
            self._descriptor = stream.fileno()
        except (OSError, ValueError):
            self._descriptor = -1
        else:
            self._writable.register(self._descriptor, select.POLLOUT)

    def msg(self, line: bytes) -> None:
        """Writes one line, keeps it for later, or counts it as lost."""
        if self._descriptor < 0:
            self._stream.write(line.decode())
        elif self._thread is None and self._has_room(line):
            unwritten = self._write(line)
            if unwritten:
                self._keep(unwritten)
        else:
            self._keep(line)

    debug = info = warning = error = critical = msg

    def close(self, patience: float) -> None:
        """Waits at most `patience` seconds for the backlog to be written."""
        thread = self._thread
        if thread is not None:
            thread.join(patience)

    def _has_room(self, line: bytes) -> bool:
        """Whether the line can be written at once.

        A pipe that polls as writable takes PIPE_BUF octets (pipe(7)), unless another worker writes first.
        """
        return len(line) <= select.PIPE_BUF and bool(self._writable.poll(0))

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

"""An MTA's side of the milter protocol, as little of it as asks a milter what it would do with one message.

Milters tell clients apart by what the MTA says of them, so this one may come from any address. libmilter's
`mfdef.h` has the codes.
"""

from __future__ import annotations

import socket
import struct
from pathlib import Path

_VERSION, _ACTIONS, _STEPS = 6, 0x1FF, 0  # we do whatever a milter asks for, and wait for an answer to every step
_FINAL = b"acdrt"  # accept, continue (at the end of the message: done), discard, reject, temporary failure
_TIMEOUT = 10.0


def listens(path: Path) -> bool:
    """Tells whether a milter takes connections; its socket is there a moment earlier."""
    with socket.socket(socket.AF_UNIX) as connection:
        return connection.connect_ex(str(path)) == 0


def changes(path: Path, host: str, address: str, message: bytes) -> list[bytes]:
    """What a milter does to a message: its answers at the end of it, as they stand on the wire; none if it accepted
    the message before, without a look at the rest.

    Args:
        path: the milter's socket.
        host, address: of the client.
        message: with CRLF, each header field in one line.
    """
    head, _, body = message.partition(b"\r\n\r\n")
    family = b"6" + struct.pack("!H", 25) + b"IPv6:" if ":" in address else b"4" + struct.pack("!H", 25)
    fields = (line.split(b": ", 1) for line in head.split(b"\r\n"))
    steps = [
        b"C" + host.encode() + b"\0" + family + address.encode() + b"\0",
        b"M<sender@example.org>\0",
        b"R<recipient@example.org>\0",
        *(b"L" + name + b"\0" + value + b"\0" for name, value in fields),
        b"N",
        b"B" + body,
    ]
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(_TIMEOUT)
        connection.connect(str(path))
        _ask(connection, b"O" + struct.pack("!III", _VERSION, _ACTIONS, _STEPS))
        for step in steps:
            if (answer := _ask(connection, step)) != b"c":
                assert answer == b"a", answer
                return []
        found = [_ask(connection, b"E")]
        while found[-1][:1] not in _FINAL:
            found.append(_answer(connection))
    return found[:-1]


def _ask(connection: socket.socket, packet: bytes) -> bytes:
    connection.sendall(struct.pack("!I", len(packet)) + packet)
    return _answer(connection)


def _answer(connection: socket.socket) -> bytes:
    (length,) = struct.unpack("!I", _exactly(connection, 4))
    return _exactly(connection, length)


def _exactly(connection: socket.socket, length: int) -> bytes:
    data = b""
    while len(data) < length:
        piece = connection.recv(length - len(data))
        assert piece, "the milter hung up"
        data += piece
    return data

"""The lines of AUTH (RFC 4954 section 4): initial response, challenges, responses in base64, and giving up with `*`.

What a mechanism's octets mean is for its `Login`; here they are only carried.
"""

from __future__ import annotations

import binascii

from relay.mail.reply import Refused
from relay.receive.authenticator import Challenge, LoggedIn, Login
from relay.receive.stream import LineTooLong, Stream

LINE = 12288  # octets of a line of the exchange, AUTH with its initial response included (RFC 4954 section 4)


def parse_auth(argument: str) -> tuple[str, bytes | None]:
    """The mechanism in upper case, and the initial response; None where there is none. An empty one is written `=`.

    Raises:
        Refused: 501 5.5.4 for bad syntax, 501 5.5.2 for bad base64.
    """
    mechanism, *initial = argument.split()
    if len(initial) > 1:
        raise Refused(501, "5.5.4", "Syntax: AUTH mechanism [initial-response]")
    if not initial:
        return mechanism.upper(), None
    return mechanism.upper(), b"" if initial[0] == "=" else _decoded(initial[0].encode())


async def exchange(stream: Stream, login: Login, initial: bytes | None, timeout: float) -> LoggedIn:
    """Leads a login to its end.

    Args:
        initial: the initial response; None without one.
        timeout: seconds that the client may take for each response.

    Raises:
        Refused: as `Login.step`; 501 for bad base64, or where the client gives up; 500 5.5.6 for a line that is too
            long.
        Disconnected, TimedOut: as `Stream.read_line`.
    """
    step = await stream.unless_lost(login.step(initial))
    while isinstance(step, Challenge):
        step = await stream.unless_lost(login.step(await _response(stream, step.octets, timeout)))
    if step.last is not None and await _response(stream, step.last, timeout):
        raise Refused(501, "5.5.2", "Error: the last response has to be empty")
    return step


async def _response(stream: Stream, challenge: bytes, timeout: float) -> bytes:
    """The client's response to a challenge. Raises: as `exchange`."""
    stream.write(b"334 " + binascii.b2a_base64(challenge, newline=False) + b"\r\n")
    await stream.flush()
    try:
        line = await stream.read_line(LINE, timeout)
    except LineTooLong:
        raise Refused(500, "5.5.6", "Error: the line is too long for a login") from None
    if not line.endswith(b"\r\n"):
        raise Refused(500, "5.5.2", "Error: a line must end with CRLF")
    if line == b"*\r\n":
        raise Refused(501, "5.7.0", "the login was given up")
    return _decoded(line[:-2])


def _decoded(text: bytes) -> bytes:
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except ValueError:
        raise Refused(501, "5.5.2", "Error: that is no base64") from None

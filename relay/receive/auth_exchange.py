"""AUTH (RFC 4954 section 4): when it may come, and its lines, from the initial response to the end or to giving up.

What a mechanism's octets mean is for its `Login`; here they are only carried.
"""

from __future__ import annotations

import binascii
import re

from relay.mail.envelope import Client
from relay.mail.reply import Refused
from relay.receive.authenticator import Authenticator, Challenge, LoggedIn, Login
from relay.receive.stream import LineTooLong, Stream

_BLANKS = re.compile("[ \t]+")
LINE = 12288  # octets of a line of the exchange, AUTH with its initial response included (RFC 4954 section 4)


def parse_auth(argument: str) -> tuple[str, str]:
    """The mechanism in upper case, and the initial response as it was sent; empty where there is none.

    Raises:
        Refused: 501 5.5.4 for bad syntax.
    """
    words = _BLANKS.split(argument)
    if not words[0] or len(words) > 2:
        raise Refused(501, "5.5.4", "Syntax: AUTH mechanism [initial-response]")
    return words[0].upper(), "".join(words[1:])


async def log_in(
    stream: Stream, authenticator: Authenticator | None, client: Client, argument: str, timeout: float
) -> LoggedIn:
    """Lets a client log in, outside a transaction.

    Args:
        authenticator: None where the listener takes no logins.
        argument: of AUTH.
        timeout: seconds that the client may take for each response.

    Raises:
        Refused: AUTH is refused, by this file or by the `Login`.
        Disconnected, TimedOut: as `Stream.read_line`.
    """
    if authenticator is None:
        raise Refused(502, "5.5.1", "Error: command not implemented")
    if not client.tls:
        raise Refused(538, "5.7.11", "Encryption required: issue a STARTTLS command first")
    if not client.protocol.startswith("ESMTP"):
        raise Refused(503, "5.5.1", "Error: send EHLO first")
    if client.user:
        raise Refused(503, "5.5.1", "Error: already authenticated")
    mechanism, initial = parse_auth(argument)
    offered = authenticator.mechanisms()
    if not offered:
        raise Refused(454, "4.7.0", "Temporary authentication failure, try again later")
    if mechanism not in offered:
        raise Refused(504, "5.5.4", "Error: unrecognized authentication mechanism")
    login = authenticator.login(mechanism, client)
    try:
        return await _exchange(stream, login, initial, timeout)
    finally:
        login.close()


async def _exchange(stream: Stream, login: Login, initial: str, timeout: float) -> LoggedIn:
    """Leads a login to its end.

    Args:
        initial: the initial response in base64, `=` for an empty one; empty where there is none.
        timeout: seconds that the client may take for each response.

    Raises:
        Refused: as `Login.step`; 501 for bad base64, or where the client gives up; 500 5.5.6 for a line that is too
            long.
        Disconnected, TimedOut: as `Stream.read_line`.
    """
    response = None if not initial else b"" if initial == "=" else _decoded(initial.encode())
    step = await stream.unless_lost(login.step(response))
    while isinstance(step, Challenge):
        step = await stream.unless_lost(login.step(await _response(stream, step.octets, timeout)))
    if step.last is not None and await _response(stream, step.last, timeout):
        raise Refused(501, "5.5.2", "Error: the last response has to be empty")
    return step


async def _response(stream: Stream, challenge: bytes, timeout: float) -> bytes:
    """The client's response to a challenge. Raises: as `_exchange`."""
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

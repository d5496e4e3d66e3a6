"""The lines of Dovecot's authentication protocol, major version 1, as a client writes and reads them.

A line is a word and its parameters with a tab between them, ended by LF. What is a tab, LF, CR, NUL or \\001 inside a
parameter is escaped with \\001. See https://doc.dovecot.org/latest/developers/design/auth_protocol.html and Dovecot's
src/lib-auth-client. What is read here may come from anything that listens on the socket, so nothing is believed, and
no error quotes a line: a line may hold a password.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass, field

from relay.mail.envelope import Client

LINE = 16384  # octets with the LF: AUTH_CLIENT_MAX_LINE_LENGTH of Dovecot, which closes the connection after more
LARGEST_ID = 2**31 - 1  # ids have 32 bits
_HANDSHAKE_LINES = 200  # Dovecot has 20 mechanisms
_MECHANISMS = 20  # so that the AUTH line of EHLO stays within 512 octets (RFC 5321 section 4.5.3.1.5)
_NAME_OCTETS = 255  # of a user; a mailbox has 254 (RFC 5321 section 4.5.3.1.3)

_MECHANISM = re.compile(r"[A-Z0-9_-]{1,20}")  # RFC 4422 section 3.1
_NEVER = frozenset({"ANONYMOUS", "EXTERNAL"})  # nobody logs in; a client certificate, which is not asked for
_ESCAPES = {b"\x00": b"0", b"\x01": b"1", b"\t": b"t", b"\r": b"r", b"\n": b"n"}
_UNESCAPES = {escape: octet for octet, escape in _ESCAPES.items()}
_TO_ESCAPE = re.compile(rb"[\x00\x01\t\r\n]")
_ESCAPED = re.compile(rb"\x01(.?)", re.DOTALL)

# What stands for the same in protocol versions before 1.2: a parameter without a value.
_CODES = {
    "temp_fail": "temp",
    "authz_fail": "authz",
    "user_disabled": "user_disabled",
    "pass_expired": "pass_expired",
}
_REASONS = {
    "authz_fail": "not allowed to act for that user",
    "user_disabled": "the account is disabled",
    "pass_expired": "the password has expired",
}


class BadLine(Exception):
    """A line that the protocol does not allow here; the text says what is wrong with it, and does not quote it."""


@dataclass(frozen=True, slots=True)
class Continued:
    """CONT: the mechanism's next challenge to the client."""

    id: int
    challenge: bytes


@dataclass(frozen=True, slots=True)
class Accepted:
    """OK: the login is good.

    Attributes:
        user: the name of the account, as Dovecot writes it.
        last: what the mechanism still has to tell the client; None for nothing.
    """

    id: int
    user: str
    last: bytes | None = None


@dataclass(frozen=True, slots=True)
class Failed:
    """FAIL, or an OK that must not let anybody in.

    Attributes:
        user: the name that was tried, as far as Dovecot says it.
        temporary: whether the login could not be checked.
        reason: what to tell the client; may be empty.
        last: the mechanism's error (RFC 7628 section 3.2.2), which the client answers first; None for nothing.
    """

    id: int
    user: str = ""
    temporary: bool = False
    reason: str = ""
    last: bytes | None = None


Answer = Continued | Accepted | Failed


@dataclass(slots=True)
class Handshake:
    """What Dovecot says first: VERSION, MECH, SPID, CUID and COOKIE in an order that its versions differ in, then DONE.

    Attributes:
        mechanisms: those to offer, in upper case. Left out are ANONYMOUS and EXTERNAL and what is flagged `anonymous`;
            what is flagged `private`; and what needs channel binding (-PLUS): it takes the secret of the client's TLS
            session, which Python does not give for TLS 1.3 (RFC 9266), and Dovecot takes it from version 1.3 on only.
        version: whether Dovecot has said that it speaks our version.
    """

    mechanisms: list[str] = field(default_factory=list)
    version: bool = False
    _lines: int = 0

    def take(self, line: bytes) -> bool:
        """Takes a line without its LF; returns whether it was the last.

        Raises:
            BadLine: Dovecot speaks another major version, or this is no Dovecot.
        """
        self._lines += 1
        if self._lines > _HANDSHAKE_LINES:
            raise BadLine("its greeting has no end")
        word, *parameters = _split(line)
        if word == "VERSION":
            self._take_version(parameters)
        elif word == "MECH":
            self._take_mechanism(parameters)
        elif word == "DONE":
            if not self.version:
                raise BadLine("it did not say its protocol version")
            return True
        elif word not in ("SPID", "CUID", "COOKIE") and not self.version:
            raise BadLine("it does not greet as Dovecot does")
        return False

    def _take_version(self, parameters: list[str]) -> None:
        major = parameters[0] if parameters else ""
        if major != "1":
            number = major if major.isdecimal() and len(major) < 5 else "unknown"
            raise BadLine(f"its protocol has the major version {number} in place of 1")
        self.version = True

    def _take_mechanism(self, parameters: list[str]) -> None:
        name = parameters[0].upper() if parameters else ""
        flags = {flag.lower() for flag in parameters[1:]}
        usable = name not in _NEVER and not name.endswith("-PLUS") and _MECHANISM.fullmatch(name) is not None
        offered = usable and not flags & {"anonymous", "private", "channel-binding"}
        if offered and name not in self.mechanisms and len(self.mechanisms) < _MECHANISMS:
            self.mechanisms.append(name)


def greeting(pid: int) -> bytes:
    """What the client says first. Version 1.2 is the last without channel binding."""
    return b"VERSION\t1\t2\nCPID\t%d\n" % pid


def auth_line(number: int, mechanism: str, client: Client, response: bytes | None) -> bytes:
    """AUTH: begins a login.

    Args:
        client: its address is left out where it is not known, so that a proxy is not punished for its clients.
        response: the initial response; None is not the same as an empty one.
    """
    parameters = ["AUTH", str(number), mechanism, "service=smtp", "final-resp-ok"]
    if client.tls:
        parameters.append("secured=tls")
    if client.local:
        parameters += [f"lip={client.local}", f"lport={client.local_port}"]
    if client.known:
        parameters += [f"rip={client.ip}", f"rport={client.port}"]
    if response is not None:  # last: Dovecot refuses what comes after it
        parameters.append(f"resp={base64.b64encode(response).decode('ascii')}")
    return b"\t".join(escape(parameter.encode()) for parameter in parameters) + b"\n"


def cont_line(number: int, response: bytes) -> bytes:
    """CONT: the client's answer to a challenge."""
    return b"CONT\t%d\t%b\n" % (number, base64.b64encode(response))


def cancel_line(number: int) -> bytes:
    """CANCEL: the client has given up."""
    return b"CANCEL\t%d\n" % number


def parse_answer(line: bytes) -> Answer | None:
    """Reads an answer to a login, a line without its LF; None for one to CANCEL, of version 1.4.

    Raises:
        BadLine: it is no answer.
    """
    word, *parameters = _split(line)
    if word == "CANCELLED":
        return None
    if word not in ("OK", "FAIL", "CONT"):
        raise BadLine("an answer that the protocol does not have")
    number = _number(parameters)
    if word == "CONT":
        if len(parameters) < 2:
            raise BadLine("CONT without a challenge")
        return Continued(number, _decoded(parameters[1]))
    fields = {name: value for name, _, value in (parameter.partition("=") for parameter in parameters[1:])}
    last = _decoded(fields["resp"]) if fields.get("resp") else None
    return _failed(number, fields, last) if word == "FAIL" else _accepted(number, fields, last)


def _accepted(number: int, fields: dict[str, str], last: bytes | None) -> Accepted | Failed:
    """OK says that the password is right, not that the user may come in.

    A passdb with `nologin` or `proxy` sends an OK that a client must refuse: such a passdb often takes any password.
    """
    user = _user(fields)
    if "nologin" in fields or "proxy" in fields:
        return Failed(number, user, reason=fields.get("reason") or "no logins for this account on this host")
    if "anonymous" in fields:
        return Failed(number, user, reason="no anonymous logins")
    if not fields.get("user"):
        raise BadLine("OK without the name of the user")
    if not user:
        return Failed(number, reason="the name of this account cannot be used here")
    return Accepted(number, user, last)


def _failed(number: int, fields: dict[str, str], last: bytes | None) -> Failed:
    code = fields.get("code") or next((code for code, old in _CODES.items() if old in fields), "")
    reason = fields.get("reason") or _REASONS.get(code, "")
    return Failed(number, _user(fields), temporary=code == "temp_fail", reason=reason, last=last)


def _user(fields: dict[str, str]) -> str:
    """The name of the user; empty where it cannot be written in a line of the log, or is too long."""
    user = fields.get("user", "")
    return user if user.isprintable() and len(user.encode()) <= _NAME_OCTETS else ""


def _split(line: bytes) -> list[str]:
    """The word and the parameters; octets that are no UTF-8 become lone surrogates, which are not printable."""
    return [unescape(part).decode("utf-8", "surrogateescape") for part in line.split(b"\t")]


def _number(parameters: list[str]) -> int:
    text = parameters[0] if parameters else ""
    if not (text.isascii() and text.isdecimal() and len(text) <= 10):
        raise BadLine("an answer without the number of a login")
    return int(text)


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError):
        raise BadLine("a challenge that is not base64") from None


def escape(parameter: bytes) -> bytes:
    """The parameter as it stands in a line."""
    return _TO_ESCAPE.sub(lambda octet: b"\x01" + _ESCAPES[octet[0]], parameter)


def unescape(parameter: bytes) -> bytes:
    """The parameter that stands in a line; an unknown escape is the octet itself, and one that is cut is dropped."""
    return _ESCAPED.sub(lambda pair: _UNESCAPES.get(pair[1], pair[1]), parameter)

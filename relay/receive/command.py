"""Parses SMTP command lines and their arguments (RFC 5321 section 4.1.1).

Parsing is strict; a malformed command is refused with a text that says what was expected. Addresses are returned in the
normal form of `relay.mail.address`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import NamedTuple

from relay.mail.address import BadAddress, Mailbox, normal_domain, parse
from relay.mail.envelope import BodyType, MailFrom, RcptTo
from relay.mail.reply import Refused

_CONTROL = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]")  # Unicode's too: other programs end lines there
_SOURCE_ROUTE = re.compile(r"@[^\s:,@]+(?:,@[^\s:,@]+)*:")
_SPACE = " \t"
_PATH = re.compile(r'<((?:"(?:[^"\\]|\\.)*+"|[^">]++)*+)>', re.DOTALL)
_MAIL_PARAMETERS = frozenset({"SIZE", "BODY", "SMTPUTF8", "RET", "ENVID", "REQUIRETLS"})
_AUTH_PARAMETER = frozenset({"AUTH"})
_RCPT_PARAMETERS = frozenset({"NOTIFY", "ORCPT"})
_PARAMETER = re.compile(r"([A-Za-z0-9][A-Za-z0-9-]*)(?:=([^\s=\x00-\x1f][^\s\x00-\x1f]*))?\Z")
_ATOM = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+\Z")  # RFC 5322 section 3.2.3
_XTEXT = re.compile(r"(?:[!-*,-<>-~]|\+[0-9A-Fa-f]{2})*\Z")  # RFC 3461 section 4, but for the case of digits


class Command(NamedTuple):
    """A command line: the verb in upper case, and the text after it."""

    verb: str
    argument: str


def parse_line(line: bytes) -> Command:
    """Parses a command line with its CRLF.

    Raises:
        Refused: the line has a bare line end, control characters, or octets that are no UTF-8.
    """
    if not line.endswith(b"\r\n"):
        raise Refused(500, "5.5.2", "Error: a command line must end with CRLF")
    try:
        text = line[:-2].decode("utf-8")
    except UnicodeDecodeError:
        raise Refused(500, "5.5.2", "Error: the command is neither ASCII nor UTF-8") from None
    if not text.isprintable() and _CONTROL.search(text):
        raise Refused(500, "5.5.2", "Error: control characters in the command")
    return _divided(text)


def beginning_of(line: bytes) -> Command:
    """The verb and the argument of a line that `parse_line` refuses, or of its beginning, as far as they can be told.

    Nothing may be done because of it; it is for the log.
    """
    return _divided(line.decode("utf-8", "replace").rstrip("\r\n"))


def _divided(text: str) -> Command:
    """A verb and its argument, which blanks and tabs may surround, as for Postfix."""
    text = text.strip(_SPACE)
    verb, _, argument = text.partition(" ")
    if "\t" in verb:
        verb, _, argument = text.partition("\t")
    # Some non-ASCII letters have an ASCII capital, which would make a command of an unknown verb.
    return Command(verb.upper() if verb.isascii() else verb, argument.lstrip(_SPACE))


def parse_mail(argument: str, *, encrypted: bool = False, auth: bool = False) -> MailFrom:
    """Parses the argument of MAIL. `encrypted` says whether the session has TLS.

    Args:
        auth: whether EHLO has offered AUTH, and with it a parameter of that name (RFC 4954 section 5). It is the
            sender's own word for who wrote the message; nothing here believes it.

    Raises:
        Refused: 501 for bad syntax, 555 for a parameter that EHLO did not offer, 553 for a bad address, 530 for
            REQUIRETLS in clear (RFC 8689 section 2).
    """
    path, parameters = _path(argument, "FROM", "MAIL FROM:<address>")
    if not parameters:
        return MailFrom(_sender(path, smtputf8=False))
    values = _parameters(parameters, _MAIL_PARAMETERS | _AUTH_PARAMETER if auth else _MAIL_PARAMETERS)
    if "AUTH" in values and not _XTEXT.match(values["AUTH"].replace("<>", "", 1)):
        raise Refused(501, "5.5.4", "AUTH takes <> or an address in xtext")
    size = values.get("SIZE", "0")
    if not (size.isascii() and size.isdigit() and len(size) <= 20):  # RFC 1870 section 4
        raise Refused(501, "5.5.4", "SIZE takes a number of octets")
    body = values.get("BODY", "7BIT").upper()
    if body not in ("7BIT", "8BITMIME"):
        raise Refused(501, "5.5.4", "BODY takes 7BIT or 8BITMIME")
    if values.get("SMTPUTF8"):
        raise Refused(501, "5.5.4", "SMTPUTF8 takes no value")
    require_tls = "REQUIRETLS" in values
    if values.get("REQUIRETLS"):
        raise Refused(501, "5.5.4", "REQUIRETLS takes no value")
    if require_tls and not encrypted:
        raise Refused(530, "5.7.10", "REQUIRETLS is for a session with TLS, issue a STARTTLS command first")
    ret = values.get("RET", "").upper()
    if "RET" in values and ret not in ("FULL", "HDRS"):
        raise Refused(501, "5.5.4", "RET takes FULL or HDRS")
    envid = values.get("ENVID", "")
    if len(envid) > 100 or not _XTEXT.match(envid):  # RFC 3461 section 4.4
        raise Refused(501, "5.5.4", "ENVID takes at most 100 characters of xtext")
    smtputf8 = "SMTPUTF8" in values
    body_type: BodyType = "8BITMIME" if body == "8BITMIME" else "7BIT"
    return MailFrom(_sender(path, smtputf8=smtputf8), int(size), body_type, smtputf8, ret, envid, require_tls)


def _sender(path: str, *, smtputf8: bool) -> str:
    return str(_address(path, smtputf8, "sender", "5.1.7")) if path else ""


def parse_rcpt(argument: str, smtputf8: bool) -> RcptTo:
    """Parses the argument of RCPT. `smtputf8` says whether MAIL asked for that extension.

    Raises:
        Refused: 501 for bad syntax, 555 for a parameter that EHLO did not offer, 553 for a bad address.
    """
    path, parameters = _path(argument, "TO", "RCPT TO:<address>")
    notify, orcpt = _dsn_parameters(parameters, smtputf8) if parameters else ("", "")
    if not path:
        raise Refused(501, "5.1.3", "a recipient is needed: RCPT TO:<address>")
    if path.lower() == "postmaster":
        return RcptTo(path, notify, orcpt)
    return RcptTo(str(_address(path, smtputf8, "recipient", "5.1.3")), notify, orcpt, path)


def _dsn_parameters(text: str, smtputf8: bool) -> tuple[str, str]:
    """The values of NOTIFY and ORCPT (RFC 3461 sections 4.1 and 4.2), each empty where it is not given."""
    values = _parameters(text, _RCPT_PARAMETERS)
    notify = values.get("NOTIFY", "").upper()
    conditions = notify.split(",") if "NOTIFY" in values else []
    if conditions != ["NEVER"] and not set(conditions) <= {"SUCCESS", "FAILURE", "DELAY"}:
        raise Refused(501, "5.5.4", "NOTIFY takes NEVER or a list of SUCCESS, FAILURE, DELAY")
    orcpt = values.get("ORCPT", "")
    address_type, semicolon, original = orcpt.partition(";")
    if "ORCPT" in values and not (
        _ATOM.match(address_type) and semicolon and len(orcpt) <= 500 and (smtputf8 or _XTEXT.match(original))
    ):
        raise Refused(501, "5.5.4", "ORCPT takes an address type, a semicolon and xtext")
    return notify, orcpt


def _path(argument: str, keyword: str, syntax: str) -> tuple[str, str]:
    """The path between the angle brackets, without its source route, and the text of the parameters."""
    head, colon, rest = argument.partition(":")
    rest = rest.lstrip(" ")
    match = _PATH.match(rest)
    if head.strip(_SPACE).upper() != keyword or not colon or match is None:
        raise Refused(501, "5.5.4", f"Syntax: {syntax}")
    path, parameters = match[1], rest[match.end() :]
    if parameters and not parameters.startswith(" "):
        raise Refused(501, "5.5.4", f"Syntax: {syntax}")
    if path.startswith("@"):
        route = _SOURCE_ROUTE.match(path)  # accepted and ignored: RFC 5321 section 4.1.1.3 and appendix C
        if route is not None and route.end() < len(path):
            path = path[route.end() :]
    return path, parameters


def _parameters(text: str, known: frozenset[str]) -> dict[str, str]:
    """The values of the parameters by their keywords."""
    values: dict[str, str] = {}
    for parameter in filter(None, text.split(" ")):
        match = _PARAMETER.match(parameter)
        if match is None:
            raise Refused(501, "5.5.4", "a parameter is written KEYWORD or KEYWORD=value")
        keyword = match.group(1).upper()
        if keyword not in known:
            raise Refused(555, "5.5.4", f"Unsupported parameter: {keyword[:40]}")
        if keyword in values:
            raise Refused(501, "5.5.4", f"{keyword} is given twice")
        values[keyword] = match.group(2) or ""
    return values


def _address(path: str, smtputf8: bool, role: str, enhanced: str) -> Mailbox:
    if not path.isascii() and not smtputf8:
        raise Refused(553, "5.6.7", f"the {role} address needs SMTPUTF8")  # RFC 6531 section 3.5
    try:
        mailbox = parse(path)
    except BadAddress as error:
        raise Refused(501 if "@" not in path else 553, enhanced, f"bad {role} address: {error}") from None
    domain = mailbox.domain
    if not domain.isascii() and not normal_domain(domain).isascii():  # RFC 6531 section 3.3: U-labels of RFC 5890
        raise Refused(553, enhanced, f"bad {role} address: the domain is no internationalized domain name")
    return mailbox


@dataclass(slots=True)
class Transaction:
    """The mail transaction of a session, from MAIL to the end of DATA (RFC 5321 section 3.3); RSET and EHLO end it too.

    Attributes:
        id: the queue id of the message.
        recipients: those that were accepted so far.
        refused: the number of recipients that were refused so far.
    """

    id: int
    mail: MailFrom
    recipients: list[RcptTo] = field(default_factory=list)
    refused: int = 0

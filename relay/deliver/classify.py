"""What a reply of the next hop, or the lack of one, means for a recipient: delivered, deferred or failed.

Pure functions over reply codes and the phase they came in (RFC 5321 section 4.2, RFC 3463). `smtp_connection` and
`smtp_transaction` call them; the queue and the bounces read the `Outcome`.
"""

from __future__ import annotations

import re
from typing import Literal

from relay.mail.outcome import Outcome, Status, deferral
from relay.mail.reply import printable

Phase = Literal["connect", "greeting", "hello", "starttls", "auth", "mail", "rcpt", "data", "message"]
Silence = Literal["timeout", "lost", "garbage"]

CLOSING = 421  # any command may get it, and it ends the session (RFC 5321 section 3.8)

_ENHANCED = re.compile(r"([245])\.(\d{1,3})\.(\d{1,3})(?:\s+|$)")  # RFC 2034 section 4
_FINAL_PHASES = ("mail", "rcpt", "data", "message")
_SESSION_CODES = (503, 525, 530, 534, 535, 538)  # RFC 5321 section 4.2.2, RFC 4954 section 6, RFC 3207 section 4
_SESSION_STATUS = ("5.1", "7.8", "7.9", "7.10", "7.11")  # RFC 3463 section 3.6, RFC 4954 section 6, RFC 5248 section 3
_ABOUT_MAIL = ("1.", "2.", "6.")  # the subjects of RFC 3463 for addresses, mailboxes and content
_TOO_LARGE = "3.4"
# Codes about the sender, a recipient or the content, for replies without an enhanced code (RFC 5321 section 4.2.2).
_ABOUT_MAIL_BY_PHASE: dict[Phase, tuple[int, ...]] = {
    "mail": (501, 552, 553),
    "rcpt": (501, 550, 551, 552, 553, 556),
    "data": (552,),
}
_PHASE_NAMES: dict[Phase, str] = {
    "connect": "connecting",
    "greeting": "the greeting",
    "hello": "EHLO",
    "starttls": "STARTTLS",
    "auth": "AUTH",
    "mail": "MAIL",
    "rcpt": "RCPT",
    "data": "DATA",
    "message": "the end of the message",
}

# Subject and detail of RFC 3463 for a reply without an enhanced code: by phase and code, then by code, then by phase.
_BY_PHASE_AND_CODE: dict[tuple[Phase, int], str] = {
    ("mail", 550): "1.0",
    ("mail", 552): "3.4",  # SIZE= was too large (RFC 1870 section 6.1)
    ("mail", 553): "1.7",
    ("rcpt", 452): "5.3",
    ("rcpt", 550): "1.1",
    ("rcpt", 552): "5.3",
    ("rcpt", 553): "1.3",
    ("message", 552): "3.4",  # section 6.3
}
_BY_CODE = {
    421: "3.2",
    450: "2.0",
    451: "3.0",
    452: "3.1",
    454: "7.0",
    455: "5.4",
    500: "5.2",
    501: "5.4",
    502: "5.1",
    503: "5.1",
    504: "5.4",
    521: "3.2",
    530: "7.0",
    535: "7.8",
    551: "1.6",
    552: "2.2",
    555: "5.4",
    556: "1.10",
}
_CLASSES: dict[Status, str] = {"delivered": "2", "deferred": "4", "failed": "5"}
_BY_PHASE: dict[Phase, str] = {"greeting": "3.2", "hello": "3.2", "starttls": "7.5", "auth": "7.8"}


def is_negative(code: int) -> bool:
    """Whether the reply is a refusal (RFC 5321 section 4.2.1). A reply that is neither that nor expected is garbage."""
    return 400 <= code <= 599


def refuses_session(phase: Phase, code: int, text: str, *, fallback: bool = False) -> bool:
    """Whether a 5xx is about our session, not about the mail: the server wants a login, TLS, or another command first.

    Another host, or this one tomorrow, may take the same message.

    Args:
        fallback: whether we go on in clear because TLS failed. Then a 5xx that is about neither the sender, nor a
            recipient, nor the content counts as one about the missing TLS.
    """
    if code < 500 or phase not in _FINAL_PHASES:
        return False
    if phase == "message":  # the content is refused, unless the server notices only now that we are in clear
        return fallback and code in _SESSION_CODES
    detail = _detail_in_reply(code, text)
    if code in _SESSION_CODES or (detail or _BY_CODE.get(code)) in _SESSION_STATUS:
        return True
    if not fallback or code == 552 or detail == _TOO_LARGE:
        return False
    if detail:
        return not detail.startswith(_ABOUT_MAIL)
    return code not in _ABOUT_MAIL_BY_PHASE[phase]


def classify(phase: Phase, code: int, text: str, *, fallback: bool = False) -> Outcome:
    """The outcome of a reply: 2xx is delivered, 4xx deferred, 5xx failed.

    Three kinds of 5xx are deferred: one before MAIL, which is about the host, not the message; 552 to RCPT, which means
    too many recipients (RFC 5321 section 4.5.3.1.10); and one that refuses only the session (`refuses_session`).
    """
    status: Status
    if code < 400:
        status = "delivered"
    elif (
        code < 500
        or phase not in _FINAL_PHASES
        or (phase == "rcpt" and code == 552)
        or refuses_session(phase, code, text, fallback=fallback)
    ):
        status = "deferred"
    else:
        status = "failed"
    shown = _without_enhanced_codes(text)
    words = "" if phase == "auth" else shown  # what is said of our login is for us
    return Outcome(status, code, _enhanced(status, phase, code, text), shown, remote=True, words=words, phase=phase)


def silence(phase: Phase, kind: Silence, detail: str = "") -> Outcome:
    """The deferral for a host that gave no usable reply: none in time, none before the connection broke, or no SMTP."""
    phase_name = _PHASE_NAMES[phase]
    if phase == "connect":
        return deferral("4.4.1", detail or ("connection timed out" if kind == "timeout" else "connection failed"))
    if kind == "garbage":
        return deferral("4.5.0", f"unintelligible answer to {phase_name}")
    text = f"no answer to {phase_name} in time" if kind == "timeout" else f"connection lost at {phase_name}"
    if phase == "message":
        text += "; the message may have arrived all the same"
    return deferral("4.4.2", text)


def _enhanced(status: Status, phase: Phase, code: int, text: str) -> str:
    detail = _detail_in_reply(code, text)
    if not detail:
        detail = _BY_PHASE_AND_CODE.get((phase, code)) or _BY_CODE.get(code) or _BY_PHASE.get(phase, "0.0")
    return f"{_CLASSES[status]}.{detail}"


def _detail_in_reply(code: int, text: str) -> str:
    """Subject and detail of the first enhanced code in a reply; empty where there is none, or one of another class.

    It belongs on every line (RFC 2034 section 4); some servers write it on the last line only.
    """
    for line in text.splitlines():
        enhanced = _ENHANCED.match(line.lstrip())
        if enhanced is not None:
            status_class, subject, detail = enhanced.groups()
            return f"{int(subject)}.{int(detail)}" if int(status_class) == code // 100 else ""
    return ""


def _without_enhanced_codes(text: str) -> str:
    """The reply's lines as one, each without its enhanced code."""
    return printable(" ".join([_ENHANCED.sub("", line.strip(), count=1) for line in text.splitlines()]).strip())

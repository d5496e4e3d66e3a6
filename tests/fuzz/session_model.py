"""What the state machine on SMTP sessions knows: kinds of listeners, what clients say, and how each reply has to be.

It is written from the RFCs, and knows nothing of the session.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass, field
from typing import NamedTuple

from hypothesis import strategies as st

from relay.mail.envelope import MailFrom
from relay.mail.message import Message

LARGEST, LARGEST_HEADER, ERRORS, IDLE, COMMAND_LINE, AUTH_LINE = 6000, 2000, 8, 100, 2048, 12288  # octets, and numbers
USER, PASSWORD = "joe", "geheim-7"
SECRETS = (PASSWORD, "falsch-8", *(base64.b64encode(w.encode()).decode()[:8] for w in (PASSWORD, "falsch-8")))


ENDINGS = (
    *("quits", "web:GET / HTTP/1.1", "web:POST x", "handshake:EHLO c.test\r\nMAIL FROM:<a@b.test>\r\n"),
    *("handshake:\x16\x03\x01\0\5hello", "bdat:", "bdat: x", "bdat: -1", "bdat: 5LAST", "bdat: 99999999999"),
    *("bdat: 1 FIRST", "bdat: \u00fc", "bdat: \0"),
    *(f"{how}:{half}" for how in ("closes", "aborts") for half in ("", "NOO", "message", "chunk", "AUTH")),
)


@dataclass(frozen=True)
class Kind:
    """What a listener is like for one client."""

    tls: str
    auth: str
    trusted: bool


KINDS = [
    Kind(tls, auth, trusted)
    for tls in ("none", "starttls", "require", "implicit")
    for auth in ("none", "offered", "required")
    for trusted in (False, True)
    if tls != "none" or auth == "none"
]


# what a client says

MAIL_PARAMETERS: dict[str, str] = {  # what it is refused with; nothing where it is good
    "SIZE=100": "",
    "SIZE=0": "",
    f"SIZE={LARGEST}": "",
    f"SIZE={LARGEST + 1}": "552",
    "SIZE=ten": "501",
    "SIZE=": "501",
    "BODY=8BITMIME": "",
    "BODY=7bit": "",
    "BODY=BINARYMIME": "501",
    "SMTPUTF8": "",
    "SMTPUTF8=yes": "501",
    "RET=HDRS": "",
    "RET=full": "",
    "RET=ALL": "501",
    "ENVID=a+2Bb": "",
    "ENVID=+": "501",
    "REQUIRETLS": "",  # in clear 530
    "REQUIRETLS=1": "501",
    "AUTH=<>": "",  # where AUTH is not offered 555
    "AUTH=a+40b.test": "",
    "FUTURERELEASE=1": "555",
}
SENDERS: dict[str, tuple[str, str]] = {  # the sender, and what it is refused with
    "<>": ("", ""),
    "<a@b.test>": ("a@b.test", ""),
    " <a@b.test>": ("a@b.test", ""),
    "<@route.test:a@b.test>": ("a@b.test", ""),
    "<j\u00f6rg@b.test>": ("j\u00f6rg@b.test", ""),  # without SMTPUTF8 553
    "<no@b.test>": ("no@b.test", "550"),
    "<a@b.test": ("", "501"),
    "a@b.test": ("", "501"),
    "<a b@c.test>": ("", "553"),
}
RECIPIENTS: dict[str, tuple[str, str]] = {
    "<c@d.test>": ("c@d.test", ""),
    "<e@d.test> NOTIFY=NEVER": ("e@d.test", ""),
    "<postmaster>": ("postmaster", ""),
    "<no@d.test>": ("", "550"),
    "<c@d.test> NOTIFY=SOMETIMES": ("", "501"),
    "<c@d.test> SIZE=1": ("", "555"),
    "<>": ("", "501"),
    "<c@": ("", "501"),
}
HEADER = b"From: a@b.test\r\nSubject: x\r\n\r\n"
pieces = st.sampled_from(
    [
        *(
            HEADER,
            HEADER,
            b"hi\r\n",
            b"\r\n",
            b".\r\n",
            b"..\r\n",
            b".",
            b"\r\n.\r\nQUIT\r\n",
            b"x\0y\r\n",
            b"\xff\xfc\r\n",
        ),
        *(b"\r\n\0.\r\n", b"\n", b"\r", b"\n.\n", b"\r.\r", b"UNWANTED\r\n", b"X-Long: " + b"x" * 2500 + b"\r\n"),
        *(b"y" * 1500 + b"\r\n", b"z" * 3500 + b"\r\n", b"no end", b"MAIL FROM:<x@y.test>\r\n", b"BDAT 5 LAST\r\n"),
    ]
)
GOOD_PARAMETERS = [parameter for parameter, refused in MAIL_PARAMETERS.items() if not refused] * 2
senders = st.sampled_from(["<a@b.test>"] * 10 + [*SENDERS])
recipients = st.sampled_from(["<c@d.test>"] * 10 + [*RECIPIENTS])
contents = st.lists(pieces, max_size=5).map(b"".join)
mails = st.lists(pieces, max_size=2).map(lambda parts: HEADER + b"".join(parts) + b"\r\n")
cuts = st.lists(st.sampled_from([1, 1, 2, 3, 7, 20, 500]), max_size=30)


def b64(text: str | bytes) -> bytes:
    return base64.b64encode(text.encode() if isinstance(text, str) else text)


GOOD, WRONG = b64(f"\0{USER}\0{PASSWORD}"), b64(f"\0{USER}\0falsch-8")
# Lines of a login, with the replies to them where the client may log in. `=` before a reply: no login has begun.
LOGINS: dict[str, list[tuple[bytes, str]]] = {
    "plain": [(b"AUTH PLAIN " + GOOD, "235")],
    "plain in small letters, with a challenge": [(b"auth plain", "334"), (GOOD, "235")],
    "login": [(b"AUTH LOGIN", "334"), (b64(USER), "334"), (b64(PASSWORD), "235")],
    "login with the name": [(b"AUTH LOGIN " + b64("JOE"), "334"), (b64(PASSWORD), "235")],
    "wrong password": [(b"AUTH PLAIN " + WRONG, "535")],
    "wrong password by login": [(b"AUTH LOGIN", "334"), (b64(USER), "334"), (b64("falsch-8"), "535")],
    "nobody": [(b"AUTH LOGIN " + b64("nobody"), "334"), (b64(PASSWORD), "535")],
    "for somebody else": [(b"AUTH PLAIN " + b64(f"root\0{USER}\0{PASSWORD}"), "535")],
    "no UTF-8": [(b"AUTH PLAIN " + b64(b"\0\xff\0x"), "535")],
    "long": [(b"AUTH PLAIN " + b64("\0joe\0" + "p" * 3000), "535")],
    "too long": [(b"AUTH PLAIN", "334"), (b"x" * AUTH_LINE, "500")],
    "given up": [(b"AUTH PLAIN", "334"), (b"*", "501")],
    "given up before the password": [(b"AUTH LOGIN", "334"), (b64(USER), "334"), (b"*", "501")],
    "empty": [(b"AUTH PLAIN =", "501")],
    "two parts": [(b"AUTH PLAIN " + b64("joe\0geheim-7"), "501")],
    "no base64": [(b"AUTH PLAIN !!!", "=501")],
    "no base64 in the end": [(b"AUTH LOGIN", "334"), (b64(USER), "334"), (b64(PASSWORD) + b"!", "501")],
    "unknown mechanism": [(b"AUTH CRAM-MD5", "=504")],
    "external": [(b"AUTH EXTERNAL =", "=504")],
    "no mechanism": [(b"AUTH", "=501")],
    "three words": [(b"AUTH PLAIN " + GOOD + b" x", "=501")],
}


class Taken(NamedTuple):
    """A message that was taken, with what is told of it to the stages behind."""

    mail: MailFrom
    recipients: list[str]
    content: bytes
    user: str
    trusted: bool
    tls: bool
    protocol: str


@dataclass
class Model:
    """What one session is in, as the RFCs have it.

    Attributes:
        helo: EHLO or HELO; empty before either.
        mail: what MAIL has begun.
        chunks: content that came by BDAT; None before it.
        lost: what every further BDAT is refused with.
        over: whether the server has closed, or will after the replies that are due.
    """

    kind: Kind
    tls: bool = False
    user: str = ""
    helo: str = ""
    mail: MailFrom | None = None
    recipients: list[str] = field(default_factory=list)
    refused: int = 0
    chunks: bytes | None = None
    lost: str = ""
    errors: int = 0
    idle: int = 0
    over: bool = False

    @property
    def trusted(self) -> bool:
        return self.kind.trusted or bool(self.user)

    @property
    def offers_tls(self) -> bool:
        return self.kind.tls in ("starttls", "require") and not self.tls

    @property
    def takes_logins(self) -> bool:
        return self.kind.auth != "none" and self.tls

    def forget(self) -> None:
        self.mail, self.recipients, self.refused, self.chunks, self.lost = None, [], 0, None, ""


def faults(content: bytes, trusted: bool, *, ended: bool, announced: int = 0) -> str:
    """The codes with which content may be refused, with blanks between; empty where it is good so far.

    Args:
        announced: octets of it that were announced as a chunk when the others had come.
    """
    found = []
    known = content if ended or not content.endswith(b"\r") else content[:-1]
    if re.search(rb"\r\n\0\.[\r\n]", b"\r\n" + content):
        found.append("550")
    if re.search(rb"\r(?!\n)|(?<!\r)\n", known) and not trusted:
        found.append("550")
    before = content[: len(content) - announced]
    before = before.removesuffix(b"\r")
    if max(len(normal(known)), len(normal(before)) + announced) > LARGEST:
        found.append("552")
    complete = normal(known).startswith(b"\r\n") or b"\r\n\r\n" in normal(known)
    if (ended or complete) and Message(normal(known)).body_offset > LARGEST_HEADER:
        found.append("552")
    if ended and b"UNWANTED" in content:
        found.append("554")
    return " ".join(found)


def normal(content: bytes) -> bytes:
    return re.sub(rb"\r\n|\r|\n", b"\r\n", content)

"""What a line of an access table says: the right-hand side, in the words of Postfix's access(5).

Actions that would give a right to relay, or change the message or its way, do not exist here. A line with one cannot be
used; it must not pass for a weaker one.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

from relay.mail.reply import Reply

Verb = Literal["OK", "REJECT", "DEFER", "HOLD", "DISCARD", "DUNNO"]

_PLAIN: dict[str, Verb] = {"OK": "OK", "DUNNO": "DUNNO", "HOLD": "HOLD", "DISCARD": "DISCARD"}
_CODE = re.compile(r"[45]\d\d\Z")
_REPLY_CODE = re.compile(r"[45][0-5]\d\Z")  # RFC 5321 section 4.2.1
_ENHANCED = re.compile(r"(\d)\.\d{1,3}\.\d{1,3}(?:\s+|\Z)")  # RFC 3463 section 2
_KEEPS_CONNECTION = {421: 450, 521: 550}  # Postfix ends the session with these; here that takes no table
_DENIED = {4: "Access denied, try again later", 5: "Access denied"}
_HINTS = {
    "RELAY": "a table gives no right to relay: write OK here, and the client into clients.trusted",
    "PERMIT": "write OK",
    "DEFER_IF_PERMIT": "write DEFER",
    "DEFER_IF_REJECT": "it is not done here",
    **dict.fromkeys(("BCC", "FILTER", "INFO", "PREPEND", "REDIRECT", "WARN"), "it is not done here"),
}


@dataclass(frozen=True, slots=True)
class Action:
    """What is to be done.

    Attributes:
        text: of the administrator, for the log; may be empty.
        reply: to the client, of REJECT and DEFER; None for all others.
    """

    verb: Verb
    text: str = ""
    reply: Reply | None = None

    def filled(self, fill: Callable[[str], str]) -> Action:
        """The action with its texts filled in, see `relay.table_files.pattern.Fill`."""
        if "$" not in self.text:
            return self
        reply = self.reply and replace(self.reply, text=fill(self.reply.text))
        return replace(self, text=fill(self.text), reply=reply)


BAD_LINE = Action("DEFER", reply=Reply(451, "4.3.5", "a table of access rules here has a bad line, try again later"))
"""What a line that cannot be used says of the mail that it may be about (RFC 3463 section 3.4)."""

UNAVAILABLE = Action("DEFER", reply=Reply(451, "4.3.0", "a table of access rules cannot be asked now, try again later"))
"""What a table says that cannot be asked now."""


@lru_cache(maxsize=1024)
def parse_action(value: str) -> Action:
    """The action of a right-hand side.

    Raises:
        ValueError: there is none, or it is not one of ours.
    """
    first, text = (*value.split(None, 1), "", "")[:2]
    verb, text = first.upper(), text.rstrip()
    if verb in _PLAIN:
        return Action(_PLAIN[verb], text)
    if verb == "REJECT":
        return Action("REJECT", text, _reply(550, text))
    if verb == "DEFER":
        return Action("DEFER", text, _reply(450, text))
    if _CODE.match(first):
        if not text:
            raise ValueError(f"{first} without a text, which access(5) takes for OK: write REJECT or DEFER")
        if not _REPLY_CODE.match(first):
            raise ValueError(f"{first} is no reply code of SMTP")
        code = int(first)
        return Action("DEFER" if code < 500 else "REJECT", text, _reply(_KEEPS_CONNECTION.get(code, code), text))
    if value.strip().isdecimal():
        return Action("OK")
    if not first:
        raise ValueError("no action: OK, REJECT, DEFER, HOLD, DISCARD or DUNNO")
    hint = _HINTS.get(verb, "the actions are OK, REJECT, DEFER, HOLD, DISCARD and DUNNO")
    raise ValueError(f"{first} is none of our actions: {hint}")


def _reply(code: int, text: str) -> Reply:
    """The reply with a text, which may begin with an enhanced status code. Raises ValueError: it has another class."""
    kind = code // 100
    match = _ENHANCED.match(text)
    if match is None:
        return Reply(code, f"{kind}.7.1", text or _DENIED[kind])
    if match[1] != str(kind):
        raise ValueError(f"{match[0].strip()} does not fit to a reply {code}: it has to begin with {kind}")
    return Reply(code, match[0].strip(), text[match.end() :] or _DENIED[kind])

"""What a mail host means by refusing a recipient: the recipient, its domain, the client, or that it does not relay.

Servers say the same with codes of many kinds, so that their words count as well.
"""

from __future__ import annotations

import re

from relay.check.smtp_probe import Reply
from relay.deliver.classify import refuses_session

# The client is refused, not the recipient (RFC 7372): SPF, the PTR record, or several of such checks.
_ABOUT_THE_CLIENT = ("7.23", "7.24", "7.25", "7.26", "7.27")
# The domain of a stranger is refused, which a host that relays for us may do as well: no such domain, null MX.
_ABOUT_THE_DOMAIN = ("1.2", "1.10")
_RELAY_ACCESS_DENIED = 454, "7.1"  # defer_unauth_destination of Postfix, which Debian's has: for now, for ever
# `550 5.1.2 Relay not allowed` (Stalwart), `503 5.7.1` with the same words (chasquid), `553 sorry, that domain isn't in
# my list of allowed rcpthosts` (qmail), `550 5.7.54 Unable to relay` (Exchange). Not `User unknown in relay recipient
# table` (Postfix), a host name, or an open relay.
_NO_RELAY = re.compile(r"(?<!open )(?<![\w.-])relay(?:ing)?(?![.-]?\w| recipient table)|rcpthosts", re.IGNORECASE)
_LOGIN = re.compile(
    r"authentication (?:is )?required|requires? authentication|must (?:first )?authenticate", re.IGNORECASE
)
# Behind a NAT the reply has an address that we do not know.
_CLIENT = re.compile(r"\bhelo\b|\bclient host\b|\bblocked using\b|\bdnsbl\b|\brbl\b|\bspamhaus\b", re.IGNORECASE)
# What another host has said of the recipient, which the MX asked: `host mx.example[203.0.113.5] said: 550 …` (Postfix).
_QUOTED_HOST = re.compile(r"host \S+\[[0-9a-f.:]+\](?::\d+)? said", re.IGNORECASE)


def wants_login(reply: Reply) -> bool:
    """Whether mail is taken from those who log in alone, which no host does that brings a bounce."""
    return reply.final and _LOGIN.search(reply.words) is not None


def denies_relaying(reply: Reply) -> bool:
    """Whether a host says of a recipient that it does not relay mail to there."""
    if reply.command == "MAIL" or reply.detail in _ABOUT_THE_CLIENT:
        return False
    says_so = reply.final and _NO_RELAY.search(reply.words) is not None
    return (reply.code, reply.detail) == _RELAY_ACCESS_DENIED or says_so or wants_login(reply)


def refuses_strangers(reply: Reply) -> bool:
    """Whether the reply to an address of a stranger shows that the host does not relay mail of ours."""
    about_the_recipient = reply.final and reply.command == "RCPT" and reply.detail not in _ABOUT_THE_DOMAIN
    return about_the_recipient or denies_relaying(reply)


def is_about_the_client(reply: Reply, own: str) -> bool:
    """Whether a refusal is about the client: others may be served where we are not.

    It is, if it is for SPF or a DNS list, wants a command that has to come first, or names the client or HELO.

    Args:
        own: the address that we connect from.
    """
    if reply.detail in _ABOUT_THE_CLIENT or refuses_session("rcpt", reply.code, reply.words):
        return True
    text = _QUOTED_HOST.sub("", reply.words)
    named = re.search(rf"(?<![0-9a-f.:]){re.escape(own)}(?![0-9a-f:]|\.\d)", text, re.IGNORECASE)
    return named is not None or _CLIENT.search(text) is not None

"""The table about replies by which a provider asks us to slow down, or refuses this host.

The data file of the package (`relay/config/provider_replies.toml`) has the same keys, so that an entry of the
configuration can change each of its rules.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, field_validator

from relay.config.sections.base import Section
from relay.config.values import Duration, destination

ShapingAction = Literal["slow", "pause", "block", "ignore"]
Phase = Literal["greeting", "hello", "mail", "rcpt", "data", "message"]
Name = Annotated[str, Field(pattern="^[A-Za-z0-9._-]+$", max_length=64)]
TEXT = 200  # characters of a text to look for


def _mx_pattern(value: str) -> str:
    """The name of a host, or `*.` and what all of its hosts end in; normal. Raises ValueError: anything else."""
    return destination(f"mx:{value.removeprefix('mx:')}").removeprefix("mx:")


MxPattern = Annotated[str, AfterValidator(_mx_pattern)]
Status = Annotated[str, Field(pattern=r"^[45]\.\d{1,3}\.\d{1,3}$")]


class ShapingSection(Section):
    """What a negative reply of a next hop says about the mail of this host, beside what it says about its message, and
    what is done then. The package has rules for large providers; an entry whose `name` is one of theirs changes the
    keys that it has, and a new one goes before them. The first rule that matches a reply holds."""

    name: Name = Field(examples=["yahoo-deferred"])
    """The name of the rule, which the log has in `rule`."""

    provider: Name | None = Field(None, examples=["yahoo"])
    """The provider that the rule is for: one of the package, or one that has its hosts in `mx`. All domains whose mail
    goes to hosts of a provider are slowed and paused together. Default: `name` where `mx` is set; otherwise the rule is
    for every host, and slows or pauses only the next hop that has sent the reply."""

    mx: tuple[MxPattern, ...] = Field((), examples=[["*.mx.provider.example"]])
    """The hosts of the provider, by their MX names: "mx1.mail.example", or "*.mail.example" for all hosts below. Hosts
    that the package has for the provider stay. Default: those of `provider`."""

    codes: tuple[Annotated[int, Field(ge=400, le=599)], ...] = Field((), examples=[[421, 451]])
    """The reply codes, one of which the reply has. Default: any."""

    status: tuple[Status, ...] = Field((), examples=[["4.7.0"]])
    """The enhanced status codes (RFC 3463), one of which the reply has. Default: any."""

    text: tuple[Annotated[str, Field(min_length=3, max_length=TEXT)], ...] = Field(
        (), examples=[["Messages from * temporarily deferred"]]
    )
    """What the text of the reply has in it, one of these, in upper or lower case; `*` stands for anything. Default: any
    text."""

    phases: tuple[Phase, ...] = Field((), examples=[["greeting", "mail"]])
    """What the reply is to: the connection ("greeting"), EHLO ("hello"), "mail", "rcpt", "data", or the final dot
    ("message"). Default: any of them."""

    action: ShapingAction | None = Field(None, examples=["pause"])
    """"slow" halves the transactions at once and sets `rate`; both rise again with each message that is taken. "pause"
    tries nothing for `pause`, then a single message. "block" is a pause that the log has as an error: the provider
    refuses this host. "ignore" does nothing. Default: as the rule of the package that `name` names; a
    new rule must have it."""

    rate: Annotated[int, Field(ge=1)] | None = Field(None, examples=[60])
    """Messages a minute from this host, to begin with. Default: no limit besides the transactions at once."""

    pause: Annotated[Duration, Field(gt=0)] | None = Field(None, examples=["1h"])
    """How long nothing is tried. If the message after it gets such a reply again, the next pause is twice as long, up
    to four hours and a tenth of `queue.retry_for`. Default: "15m", with "block" "1h"."""

    @field_validator("text")
    @classmethod
    def _says_something(cls, texts: tuple[str, ...]) -> tuple[str, ...]:
        for text in texts:
            if len(text.replace("*", "").strip()) < 3:
                raise ValueError(f'"{text}" says too little: three letters at least, besides *')
        return texts

"""What a check says: one finding for each subject that it looked at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

CheckName = Literal[
    "spf",
    "dkim",
    "dmarc",
    "mx",
    "ptr",
    "address",
    "certificate",
    "mta-sts",
    "tls-rpt",
    "dane",
    "dnssec",
    "resolver",
    "port25",
    "dnsbl",
    "clock",
    "disk",
    "files",
    "filter",
    "open-relay",
    "way-home",
]
Level = Literal["ok", "warning", "error"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found about one subject.

    Attributes:
        subject: what it is about: a domain, a host name, an address, a file.
        level: "error" where mail is lost, refused or forged because of it; "warning" for what should be looked at.
        text: what is so, in one sentence.
        mend: what to do, such as the record to publish; empty for "ok", where it may be a hint.
    """

    check: CheckName
    subject: str
    level: Level
    text: str
    mend: str = ""

"""The table about the filter: rspamd, and clamd."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from relay.config.sections.base import Section
from relay.config.values import ClamdAddress, Duration, RspamdAddress, Timeout


class FilterSection(Section):
    """What reads the messages that come in, after DATA: rspamd, which judges spam, and clamd, which finds viruses. All
    mail is read, that of trusted clients and users too, unless an access table says `OK`."""

    rspamd: RspamdAddress | None = Field(None, examples=["http://127.0.0.1:11333"])
    """Where rspamd's normal worker listens: `http://host:port`, or the path of its Unix socket. The message goes there
    unencrypted, so it belongs on this host or in a network of your own. Its actions are followed: "reject" gets
    550 5.7.1, "greylist" and "soft reject" get 451 4.7.1, mail to be quarantined is held, and "add header" and "rewrite
    subject" put `X-Spam: Yes` on top; what has a score gets `X-Spam-Score` there. Default: no rspamd."""

    clamav: ClamdAddress | None = Field(None, examples=["/run/clamav/clamd.ctl"])
    """Where clamd listens, for those who do not ask it through rspamd: the path of its Unix socket, or `host:port`. A
    message with a virus gets 550 5.7.1. Default: no clamd."""

    on_failure: Literal["accept", "defer"] = "accept"
    """What becomes of a message that the filter cannot judge: it is away, does not answer within `filter.timeout`, or
    gives an answer that makes no sense. "accept" takes it unmarked, and says so in the log; "defer" refuses it for now,
    with 451 4.3.0. A message that clamd finds too large was not read for viruses and is taken under either."""

    timeout: Timeout = 10.0
    """How long a session waits for rspamd and clamd together, which are asked at the same time."""

    hold_for: Duration = 7 * 86400.0
    """How long a message that the filter or an access table has held waits for `srs-relay queue release`. After that it
    is deleted, and its sender is not told. What `srs-relay queue hold` holds waits without an end."""

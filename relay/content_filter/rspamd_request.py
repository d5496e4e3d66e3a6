"""What rspamd is told of a message beside its content: the envelope and the client, as headers of the HTTP request.

They are those that rspamd's own milter sends on behalf of Postfix (https://rspamd.com/doc/developers/protocol.html).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from relay.mail.arrival import Arrival

# Of all recipients together. rspamd refuses a request whose headers have more than 80 KiB, and a thousand recipients,
# which is what a transaction may have, are rarely longer than this.
RECIPIENT_OCTETS = 49152

_CONTROLS = re.compile("[\0-\x1f\x7f]")


def request_headers(arrival: Arrival, hostname: str) -> list[tuple[str, str]]:
    """The headers in which rspamd finds who sends a message to whom.

    Args:
        hostname: our own name.
    """
    headers = ((name, _safe(value)) for name, value in _headers(arrival, hostname))
    return [(name, value) for name, value in headers if value]


def _safe(value: str) -> str:
    """What a header can hold: a name that a client gives itself may be anything."""
    return _CONTROLS.sub("?", value.encode("utf-8", "replace").decode()).strip()


def _headers(arrival: Arrival, hostname: str) -> Iterator[tuple[str, str]]:
    client = arrival.client
    if client.known:
        yield "IP", client.ip
        yield "Hostname", client.ptr
    yield "Helo", client.helo
    yield "From", f"<{arrival.sender}>"
    octets = 0
    for rcpt in arrival.recipients:
        octets += len(rcpt.recipient.encode("utf-8", "replace")) + len("Rcpt: <>\r\n")
        if octets > RECIPIENT_OCTETS:
            break
        yield "Rcpt", f"<{rcpt.recipient}>"
    yield "User", client.user
    yield "Queue-ID", arrival.queue_id
    yield "MTA-Name", hostname
    version, _, cipher = client.tls.partition(" ")
    yield "TLS-Version", version
    yield "TLS-Cipher", cipher

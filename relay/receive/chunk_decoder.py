"""The content of a message that comes in chunks (BDAT): octets as they are, without an end and without stuffed dots.

What DATA refuses in content is refused here too, so the same is looked for: lines that are a single dot for hosts that
drop NUL, and bare CR or LF, for which a CRLF that two chunks share must not be taken.
"""

from __future__ import annotations

from relay.receive.data_decoder import HiddenEndSearch


class ChunkDecoder:
    """Takes the octets of all chunks of one message, in blocks of any size. It holds back at most one octet.

    Attributes:
        finished: whether `end` was called.
        rest: the octets after the end, of which there are none: the size of a chunk tells where it ends.
    """

    rest = b""

    def __init__(self) -> None:
        self.finished = False
        self._carry = b""  # a CR, whose LF may be the next octet
        self._last = b""  # octet of the content so far
        self._hidden_end = HiddenEndSearch()

    @property
    def hides_end(self) -> bool:
        """Whether a host that drops NUL would see an end of DATA in what is sent on."""
        return self._hidden_end.found

    def feed(self, block: bytes) -> bytes:
        """Takes a block as it arrives, and returns content in which no CRLF is split."""
        self._hidden_end.feed(block)
        data = self._carry + block
        self._carry = b"\r" if data.endswith(b"\r") else b""
        self._last = data[-1:] or self._last
        return data[: len(data) - len(self._carry)]

    def end(self) -> bytes:
        """Ends the message, and returns the rest of its content.

        A last line without CRLF gets one, as from Postfix and Exim; SMTP cannot transport it otherwise. To signatures
        that makes no difference (RFC 6376 section 3.4.3).
        """
        self.finished = True
        ended = self._carry or self._last in (b"", b"\n")  # a bare CR or LF is refused, or becomes CRLF
        missing = b"" if ended else b"\r\n"
        self._hidden_end.feed(missing)
        return self._carry + missing

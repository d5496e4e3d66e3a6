"""The commands with which a client introduces itself, and those that make the connection secure: EHLO, HELO, STARTTLS.

What EHLO offers is what this session has just now (RFC 5321 section 4.1.1.1).
"""

from __future__ import annotations

from collections.abc import Sequence

from relay.mail.reply import Refused, Reply
from relay.receive.connection import Connection, SessionOver, esmtp
from relay.receive.transactions import Transactions

HANDSHAKE_TIMEOUT = 60.0  # seconds


class Greetings:
    """The greetings of one session. Each ends the transaction (RFC 5321 section 4.1.4, RFC 3207 section 4.2)."""

    def __init__(self, connection: Connection, transactions: Transactions) -> None:
        self._connection = connection
        self._transactions = transactions

    async def ehlo(self, argument: str) -> None:
        """EHLO: the only reply with several lines. Raises: Refused."""
        client = self._connection.client
        self._greet(argument, esmtp(tls=client.tls != "", login=client.user != ""))
        *lines, last = self._connection.config.hostname, *self._offers()
        text = "".join(f"250-{line}\r\n" for line in lines) + f"250 {last}\r\n"
        self._connection.stream.write(text.encode())

    def _offers(self) -> Sequence[str]:
        connection = self._connection
        offers = ["PIPELINING", f"SIZE {connection.config.receive.max_message_size}"]
        if connection.offers_tls:
            offers.append("STARTTLS")
        if connection.client.tls:
            offers.append("REQUIRETLS")  # RFC 8689 section 2
        offers += ["ENHANCEDSTATUSCODES", "8BITMIME", "DSN", "SMTPUTF8", "CHUNKING"]
        if connection.authenticator is not None and connection.takes_logins:
            mechanisms = connection.authenticator.mechanisms()
            offers += [f"AUTH {' '.join(mechanisms)}"] if mechanisms else []
        return offers

    async def helo(self, argument: str) -> Reply:
        """HELO. Raises: Refused."""
        self._greet(argument, "SMTP")
        return Reply(250, "", self._connection.config.hostname)

    def _greet(self, argument: str, protocol: str) -> None:
        connection = self._connection
        name = argument.partition(" ")[0]  # any name: RFC 5321 section 4.1.4 forbids to refuse mail because of it
        if not name:
            raise Refused(501, "5.5.4", "Syntax: EHLO hostname")
        self._transactions.forget()
        connection.client = connection.client._replace(helo=name, protocol=protocol)

    async def starttls(self, argument: str) -> None:
        """STARTTLS (RFC 3207), with the handshake behind its reply.

        Raises:
            Refused: it is not possible now.
            Disconnected: the connection is lost.
            SessionOver: the handshake failed.
        """
        connection = self._connection
        if connection.client.tls:
            raise Refused(503, "5.5.1", "Error: TLS already active")
        if connection.tls is None:
            raise Refused(502, "5.5.1", "Error: command not implemented")
        if argument:
            raise Refused(501, "5.5.4", "Syntax: STARTTLS")
        self._transactions.refuse_between_chunks("STARTTLS")
        self._transactions.forget()
        connection.reply(Reply(220, "2.0.0", "Ready to start TLS"))
        await connection.stream.flush()
        try:
            await connection.stream.start_tls(connection.tls(), HANDSHAKE_TIMEOUT)
        except OSError as error:  # ssl.SSLError is one
            connection.log.info("tls_failed", problem=str(error) or "connection lost during the TLS handshake")
            raise SessionOver from None
        # RFC 3207 section 4.2: what the client said before TLS does not count
        tls, bits = connection.stream.tls, connection.stream.cipher_bits
        connection.client = connection.client._replace(helo="", protocol="SMTP", tls=tls, cipher_bits=bits)
        connection.log.info("starttls", tls=tls)

"""AUTH (RFC 4954): what a login makes of the client, and its line in the log, which has nothing of a password."""

from __future__ import annotations

from relay.mail.reply import Refused, Reply
from relay.receive.auth_exchange import log_in
from relay.receive.authenticator import LoginFailed
from relay.receive.connection import Connection, esmtp
from relay.receive.sasl_mechanism import sasl_mechanism
from relay.receive.transactions import Transactions


class Logins:
    """The logins of one session, of which one at most is good."""

    def __init__(self, connection: Connection, transactions: Transactions) -> None:
        self._connection = connection
        self._transactions = transactions

    async def auth(self, argument: str) -> Reply:
        """AUTH. A client that has logged in is a trusted one from then on.

        Raises:
            Refused: as `log_in`, or within a transaction.
            Disconnected, TimedOut: as `log_in`.
        """
        connection = self._connection
        try:
            if self._transactions.current is not None:
                raise Refused(503, "5.5.1", "Error: AUTH is not permitted during a mail transaction")
            timeout = connection.config.limits.command_timeout
            login = await log_in(connection.stream, connection.authenticator, connection.client, argument, timeout)
        except Refused as refused:
            self.log_refused(argument, refused)
            raise
        protocol = esmtp(tls=True, login=True)  # `log_in` has made sure of EHLO and of TLS
        connection.client = connection.client._replace(trusted=True, user=login.user, protocol=protocol)
        connection.account.trust()
        reply = Reply(235, "2.7.0", "Authentication successful")
        connection.log.info("auth", mechanism=sasl_mechanism(argument), user=login.user, reply=str(reply))
        return reply

    def log_refused(self, argument: str, refused: Refused) -> None:
        """Logs a try to log in that is refused; `argument` is that of AUTH."""
        user = refused.user if isinstance(refused, LoginFailed) and refused.known else None
        self._connection.log.info("auth", mechanism=sasl_mechanism(argument), user=user, reply=str(refused.reply))

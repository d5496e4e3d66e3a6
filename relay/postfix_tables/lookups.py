"""The answers of the tables: the SRS address of a sender, and who is behind an SRS or reply address.

A sender is treated as on its way out of the relay: `senders.local_domains` and the SRS domain stay as they are, other
forwarders' SRS addresses get an SRS1, what is no address is not found. Unlike PostSRSd, the relay never writes a local
part of more than 64 octets (RFC 5321 section 4.5.3.1.1): such a sender gets a stored token where there is a queue, and
otherwise stays as it is, which the log says.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

import structlog

from relay.config.model import Config
from relay.mail.address import domain_of, is_local_part, quote, split
from relay.metrics import Metrics
from relay.postfix_tables.request import Answer, Request, Result
from relay.queue.database import QueueUnavailable
from relay.rate import Rates
from relay.rewrite.sender import leaving_sender
from relay.rewrite.senders import TokenStore
from relay.route.srs_reverse import ReturnAddresses, has_return_syntax
from relay.srs.address import BadSyntax, Expired, Forged, Scheme, SrsError, forward_token

log = structlog.get_logger()

_LATER = "the queue does not answer"
_POSTSRSD_DATABASE = "1"  # PostSRSd 2 writes this domain for a sender that is in its database


class Tokens(TokenStore, Protocol):
    """Stores senders under tokens, and finds senders and authors (`queue.store`)."""

    async def sender_of(self, token: str, now: float) -> str | None:
        """The sender or author of a token. Raises QueueUnavailable."""
        ...


class Lookups:
    """Answers the lookups of one worker.

    Args:
        tokens: the stored senders; None without a queue.
        clock: seconds since 1970.
    """

    def __init__(
        self,
        config: Config,
        scheme: Scheme,
        rates: Rates,
        metrics: Metrics,
        tokens: Tokens | None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._local_domains = config.senders.local_domains
        self._scheme = scheme
        self._metrics = metrics
        self._tokens = tokens
        self._clock = clock
        self._returns = ReturnAddresses(config.srs, scheme, rates, self._stored)

    async def answer(self, request: Request) -> Answer:
        """The answer to a lookup, counted and logged. Whatever the key is, nothing is raised."""
        answer = await self._answer(request)
        self._metrics.table_lookups.add((request.map, answer.result))
        told = log.bind(
            map=request.map,
            key=request.key.decode("utf-8", "replace"),
            result=answer.result,
            address=answer.address or None,
            problem=answer.problem or None,
        )
        if answer.result in ("ok", "notfound"):
            told.debug("table_lookup")
        else:
            told.info("table_lookup")
        return answer

    async def _answer(self, request: Request) -> Answer:
        try:
            address = _as_address(request.key.decode())
        except UnicodeDecodeError:
            return Answer("notfound")
        try:
            return await (self._forward(address) if request.map == "forward" else self._reverse(address))
        except QueueUnavailable:
            return Answer("unavailable", problem=_LATER)
        except Exception:
            log.exception("table_lookup_failed", map=request.map, key=address)
            return Answer("unavailable", problem="internal error")

    async def _forward(self, sender: str) -> Answer:
        now = self._clock()
        try:
            decision = leaving_sender(
                sender,
                authorised=True,
                srs_wanted=True,
                smtputf8=True,  # the next hop is not known here
                local_domains=self._local_domains,
                scheme=self._scheme,
                now=now,
            )
        except BadSyntax as error:
            return Answer("notfound", problem=str(error))
        if decision.reason == "srs":
            return Answer("ok", decision.address)
        if decision.token_for is None:
            return Answer("notfound")
        if self._tokens is None:
            return Answer("too-long", problem="the sender does not fit into an SRS address, and stays as it is")
        token = await self._tokens.token_for(decision.token_for, now, (self._scheme.max_age + 1) * 86400.0)
        return Answer("ok", forward_token(token, self._scheme, now))

    async def _reverse(self, address: str) -> Answer:
        """Who is behind an address of any domain, as with PostSRSd: the hash says whether it is ours. So addresses of
        an SRS domain of before work on. Those of other forwarders are not found, and are nobody's fault."""
        if not has_return_syntax(address):
            return Answer("notfound")
        try:
            behind = await self._returns.target(address, self._clock())
        except SrsError as error:
            return Answer(_result(error), problem=str(error)) if self._returns.includes(address) else Answer("notfound")
        if domain_of(behind) == _POSTSRSD_DATABASE:
            return Answer("expired", problem="PostSRSd stored this sender in its database, which is not read")
        return Answer("ok", behind)

    async def _stored(self, token: str) -> str | None:
        return None if self._tokens is None else await self._tokens.sender_of(token, self._clock())


def _as_address(key: str) -> str:
    """The address that a key is. Postfix before 3.2 asks without the quotes of a local part: they are added."""
    local, domain = split(key)
    needs_quotes = local and "@" not in local and not is_local_part(local)
    return f"{quote(local)}@{domain}" if needs_quotes and domain else key


def _result(error: SrsError) -> Result:
    return "forged" if isinstance(error, Forged) else "expired" if isinstance(error, Expired) else "malformed"

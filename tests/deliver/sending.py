"""What the delivery tests share: an agent with short patience, and jobs for it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from typing import Any

from relay.config.model import Config
from relay.deliver.host_failover import DeliveryAgent, Job
from relay.deliver.next_hop import NextHops
from relay.dns import StaticResolver
from relay.mail.envelope import Recipient
from relay.mail.outcome import Outcome
from relay.network import Endpoint, endpoint
from relay.process.files import read_passwords

CONTENT = b"From: bob@origin.test\r\nSubject: hello\r\n\r\n.one dot\r\n\r\n..two\r\nend.\r\n"
PATIENT = {"helo_timeout": "20s", "command_timeout": "20s", "data_timeout": "20s", "final_timeout": "20s"}
Zone = Mapping[tuple[str, str], Sequence[Any] | Exception]


def config(**delivery: Any) -> Config:
    return Config.model_validate(
        {
            "hostname": "relay.test",
            "listen": [{"address": "127.0.0.1:0"}],
            "srs": {"domain": "fwd.test", "secrets_file": "/dev/null"},
            "delivery": {"connect_timeout": "10s", **PATIENT, **delivery},
        }
    )


class Sender(DeliveryAgent):
    """The agent, called with a domain or a configured next hop."""

    async def deliver_to(self, domain: str, endpoint: Endpoint | None, job: Job) -> tuple[Outcome, ...]:
        next_hop = (
            self._next_hops.of(f"x@{domain}") if endpoint is None else self._next_hops.at(endpoint, f"x@{domain}")
        )
        return await self.deliver(next_hop, job)


@contextlib.asynccontextmanager
async def agent(zone: Zone | None = None, **delivery: Any) -> AsyncIterator[Sender]:
    """An agent that may connect to loopback, with the keys of `[delivery]` on top."""
    sending = config(**{"public_addresses_only": False, **delivery})
    agent = Sender(sending, StaticResolver(zone or {}), NextHops(sending, read_passwords(sending)))
    try:
        yield agent
    finally:
        await agent.close()


def job(*recipients: str | Recipient, **more: Any) -> Job:
    """A message from bob@origin.test, to carol@d.test unless it says something else."""
    content = more.pop("content", CONTENT)
    produce: Callable[[], Iterable[bytes]] = (lambda: [content]) if isinstance(content, bytes) else content
    size = len(content) if isinstance(content, bytes) else 0
    fields = {
        "sender": "bob@origin.test",
        "size": size,
        "is_8bit": False,
        "needs_smtputf8": False,
        "ret": "",
        "envid": "",
        **more,
    }
    to = tuple(r if isinstance(r, Recipient) else Recipient(r) for r in recipients or ("carol@d.test",))

    async def wire() -> Iterable[bytes]:
        return produce()

    return Job(recipients=to, content=wire, **fields)


def hop(port: int, scheme: str = "smtp", host: str = "127.0.0.1") -> Endpoint:
    return endpoint(f"{scheme}://{host}:{port}")

"""The tables about what the relay runs with: DNS, the queue, monitoring and the log."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from relay.config.sections.base import Section
from relay.config.values import Duration, Size, SocketAddress, Timeout, resolve_path
from relay.network import host_port


class DnsSection(Section):
    """Where names are looked up."""

    nameservers: tuple[str, ...] = Field((), examples=[["127.0.0.1:53"]])
    """The addresses of the resolvers, with or without a port. A resolver on the same host is worth having. Default:
    those of /etc/resolv.conf."""

    timeout: Timeout = 5.0
    """How long one whole question may take. After that there is "no answer for now"."""

    cache_entries: Annotated[int, Field(ge=0)] = 20_000
    """How many answers each process keeps."""

    trust_ad: bool = False
    """Whether to believe the resolvers where they say that DNSSEC proves an answer (the AD bit), although they are not
    on this host: only where nobody can change what is on the way to them. Resolvers on loopback are always believed,
    but for Docker's (127.0.0.11), which passes questions on. What DNSSEC proves is needed for `delivery.dane`."""

    @field_validator("nameservers")
    @classmethod
    def _addresses(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for server in value:
            try:
                ipaddress.ip_address(server)
            except ValueError:
                host_port(server)
        return value


class QueueSection(Section):
    """The queue, and how long delivery is tried."""

    url: Annotated[str, Field(validate_default=True)] = "sqlite:///queue.db"
    """Where the queue is: a file on a local disk, or `postgresql://user@host/database` for several hosts
    (`pip install 'srs-relay[postgresql]'`)."""

    retry_for: Duration = 5 * 86400.0
    """After this time undelivered mail is returned to its sender."""

    bounce_retry_for: Duration = 86400.0
    """After this time an undelivered bounce is given up, and kept as a dead letter."""

    retry_min: Timeout = 300.0
    """The first pause between two attempts. Each further pause is twice as long."""

    retry_max: Timeout = 68 * 60.0
    """The longest pause between two attempts."""

    keep_dead: Duration = 7 * 86400.0
    """How long dead letters are kept, so that they can be looked at and retried."""

    max_dead: Size = 10**9
    """How much room dead letters may take. When they take more, and where the disk is short, the oldest are deleted
    first."""

    min_free: Size = 256 * 10**6
    """How much room must be free on the disk of the queue. With less nothing new is accepted: 452 4.3.1. What is free
    inside the queue's file counts as free. Large messages that wait on disk for their end (`limits.message_memory`)
    leave this much free as well."""

    lease: Timeout = 120.0
    """How long a process may hold a delivery without a sign of life, until another process takes the delivery over,
    unless something else shows earlier that the process is dead."""

    @field_validator("url")
    @classmethod
    def _url(cls, value: str, info: ValidationInfo) -> str:
        if value.startswith("sqlite:///"):
            path = value.removeprefix("sqlite:///")
            if not path or path == ":memory:":
                raise ValueError("the queue must be a file: it is what makes it durable")
            return "sqlite:///" + str(resolve_path(Path(path), info))
        if value.startswith(("postgresql://", "postgres://")):
            return "postgresql+asyncpg://" + value.partition("://")[2]
        raise ValueError("sqlite:///FILE or postgresql://USER@HOST/DATABASE")

    @property
    def folder(self) -> Path | None:
        """The folder of an SQLite queue; None for a database server, which looks after its own disk."""
        return Path(self.url.removeprefix("sqlite:///")).parent if self.url.startswith("sqlite:///") else None

    @model_validator(mode="after")
    def _consistent(self) -> QueueSection:
        if self.retry_min > self.retry_max:
            raise ValueError("retry_min is longer than retry_max")
        return self


class HttpSection(Section):
    """HTTP for monitoring: /metrics (Prometheus), /healthz and /readyz. Without this table there is no HTTP."""

    address: SocketAddress = "127.0.0.1:8025"
    """The address and port to listen on. Do not show it to the world."""


class LogSection(Section):
    """The log, which goes to stdout."""

    format: Literal["auto", "console", "json"] = "auto"
    """The form of the lines: "console" for people, "json" for machines, "auto" for console on a terminal and otherwise
    JSON."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """The least level that is logged."""

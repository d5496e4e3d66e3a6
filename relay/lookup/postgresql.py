"""Queries of tables to a PostgreSQL server, by asyncpg."""

from __future__ import annotations

from collections.abc import Mapping

import asyncpg
from sqlalchemy import TextClause
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine

from relay.lookup.source import BadKey, SourceUnavailable
from relay.lookup.sql import CONNECTIONS, ROWS, TIME_LIMIT, Rows, line


class PostgresEngine:
    """A server, through a pool."""

    def __init__(self, url: str, password: str | None) -> None:
        async def connect() -> asyncpg.Connection:
            return await asyncpg.connect(
                "postgresql://" + url.partition("://")[2],
                password=password,
                timeout=TIME_LIMIT,
                statement_cache_size=0,  # a pooler in between may use another connection for the next statement
                server_settings={"application_name": "srs-relay tables"},
            )

        self._engine = create_async_engine(
            "postgresql+asyncpg://",
            async_creator=connect,
            connect_args={"prepared_statement_cache_size": 0},
            pool_size=CONNECTIONS,
            max_overflow=0,
            pool_timeout=TIME_LIMIT,
            execution_options={"postgresql_readonly": True},
        )

    async def rows(self, query: TextClause, values: Mapping[str, str]) -> Rows:
        try:
            async with self._engine.connect() as connection, connection.stream(query, dict(values)) as result:
                return [tuple(row) for row in await result.fetchmany(ROWS)]
        except DBAPIError as error:
            cause = error.orig and error.orig.__cause__
            if isinstance(cause, asyncpg.DataError):  # the key is unfit for the type of the column, say a number
                raise BadKey(line(error.orig)) from error
            raise
        except (asyncpg.PostgresError, asyncpg.InterfaceError) as error:  # of a connection that did not come about
            raise SourceUnavailable(line(error)) from error

    async def close(self) -> None:
        await self._engine.dispose()

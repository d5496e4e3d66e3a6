"""A queue on each of the two databases."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from relay.queue import schema
from relay.queue.connect import connect
from relay.queue.database import Database
from relay.queue.migrations import OLDEST
from relay.queue.store import Store
from tests.peers import needs
from tests.postgresql import PostgresServer
from tests.queue.publish import unpack_postgresql, unpack_sqlite


@pytest.fixture(scope="session")
def server() -> Iterator[PostgresServer]:
    with PostgresServer() as server:
        yield server


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=needs("postgres"))])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The `queue.url` of a queue that nobody has opened yet."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'queue.db'}"
    server: PostgresServer = request.getfixturevalue("server")
    return server.create_database()


@pytest.fixture
async def store(url: str) -> AsyncIterator[Store]:
    store = Store(await connect(url), "worker-1/")
    yield store
    await store.close()


@pytest.fixture
async def queue(store: Store, url: str) -> AsyncIterator[Database]:
    """The database under the store, as the queue commands open it beside a running relay."""
    queue = await connect(url, create=False)
    yield queue
    await queue.close()


@pytest.fixture(params=range(OLDEST, schema.VERSION + 1))
def version(request: pytest.FixtureRequest) -> int:
    """Each schema version that a release has had."""
    version: int = request.param
    return version


@pytest.fixture
def published(url: str, version: int) -> str:
    """The `queue.url` of a queue that a release has written."""
    if url.startswith("sqlite:///"):
        unpack_sqlite(version, Path(url.removeprefix("sqlite:///")))
    else:
        unpack_postgresql(version, url)
    return url

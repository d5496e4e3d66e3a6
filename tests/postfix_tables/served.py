"""Clients of a table, and a configuration that has one."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from relay.config.model import Config
from relay.config.sections import TablesSection
from relay.network import host_port

PATIENCE = 10.0  # seconds for what takes none


def config_of(folder: Path, *tables: dict[str, Any], **sections: Any) -> Config:
    """A configuration with these tables, and no listener."""
    srs = {"domain": "example.com", "secrets_file": "srs.secret"}
    data = {"hostname": "mx.test", "tables": list(tables), "srs": srs, **sections}
    return Config.model_validate(data, context={"base": folder})


class Client:
    """One connection to a table."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def connect(cls, table: TablesSection) -> Client:
        if table.path is not None:
            return cls(*await asyncio.open_unix_connection(table.path))
        return cls(*await asyncio.open_connection(*host_port(table.address)))

    def send(self, octets: bytes) -> None:
        self.writer.write(octets)

    async def reply(self) -> str:
        """The next reply of a socketmap."""
        async with asyncio.timeout(PATIENCE):
            length = int((await self.reader.readuntil(b":"))[:-1])
            content = await self.reader.readexactly(length + 1)
        assert content.endswith(b",")
        return content[:-1].decode()

    async def line(self) -> str:
        """The next reply of a tcp_table, decoded."""
        async with asyncio.timeout(PATIENCE):
            return unquote((await self.reader.readline()).decode("ascii").removesuffix("\n"))

    async def ask(self, name: str, key: str) -> str:
        """One lookup in a socketmap."""
        content = f"{name} {key}".encode()
        self.send(b"%d:%s," % (len(content), content))
        return await self.reply()

    async def get(self, key: str) -> str:
        """One lookup in a tcp_table."""
        self.send(f"get {quote(key)}\n".encode("ascii"))
        return await self.line()

    async def closed(self) -> bool:
        """Whether the server closes the connection, having sent nothing more."""
        async with asyncio.timeout(PATIENCE):
            try:
                return await self.reader.read(1) == b""
            except ConnectionError:
                return True

    async def close(self) -> None:
        self.writer.close()
        try:
            await self.writer.wait_closed()
        except OSError:
            pass  # the server was faster

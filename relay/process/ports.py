"""The listening sockets of the supervisor: for every address one for each worker, and one for all that share a table.

They stay open in the supervisor, so that a client that waits for a worker that died is served by its replacement.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from dataclasses import dataclass, field

from relay.config.sections import TablesSection
from relay.postfix_tables.sockets import close_table, is_gone, open_table, set_access
from relay.process.port_errors import with_mend
from relay.receive.listener import bind


@dataclass(slots=True)
class Ports:
    """The listening sockets by address, one for each worker; of a table one for all of them."""

    by_address: dict[str, list[socket.socket]] = field(default_factory=dict)

    def open(self, addresses: set[str], workers: int, tables: Sequence[TablesSection] = ()) -> None:
        """Bind the addresses that are new, and close the sockets that are no longer needed.

        Raises:
            OSError: an address cannot be bound, and what to do about it; the open sockets stay as they were.
        """
        wanted = dict.fromkeys(addresses, workers) | {table.address: 1 for table in tables}
        bound: dict[str, list[socket.socket]] = {address: [] for address in wanted}
        gone = {table.address for table in tables if table.address in self.by_address and is_gone(table)}
        try:
            for address in addresses:
                for _ in range(len(self.by_address.get(address, ())), workers):
                    bound[address].append(_bind(address))
            for table in tables:
                if table.address in self.by_address.keys() - gone:
                    set_access(table)
                else:
                    bound[table.address].append(open_table(table))
        except OSError:
            for sock in (sock for sockets in bound.values() for sock in sockets):
                close_table(sock)
            raise
        for address in set(self.by_address) - set(wanted):
            for sock in self.by_address.pop(address):
                close_table(sock)
        for address in gone:
            for sock in self.by_address.pop(address):
                sock.close()
        for address, sockets in bound.items():
            self.by_address.setdefault(address, []).extend(sockets)
            for sock in self.by_address[address][wanted[address] :]:
                sock.close()
            del self.by_address[address][wanted[address] :]

    def close(self) -> None:
        """Close all sockets."""
        self.open(set(), 0)


def _bind(address: str) -> socket.socket:
    try:
        return bind(address)
    except OSError as error:
        raise with_mend(address, error) from None

"""The listening sockets of the supervisor: for every address one for each worker.

They stay open in the supervisor, so that a client that waits for a worker that died is served by its replacement.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass, field

from relay.process.port_errors import with_mend
from relay.receive.listener import bind


@dataclass(slots=True)
class Ports:
    """The listening sockets by address, one for each worker."""

    by_address: dict[str, list[socket.socket]] = field(default_factory=dict)

    def open(self, addresses: set[str], workers: int) -> None:
        """Bind the addresses that are new, and close the sockets that are no longer needed.

        Raises:
            OSError: an address cannot be bound, and what to do about it; the open sockets stay as they were.
        """
        bound: dict[str, list[socket.socket]] = {}
        try:
            for address in addresses:
                bound[address] = []
                for _ in range(len(self.by_address.get(address, ())), workers):
                    bound[address].append(_bind(address))
        except OSError:
            for sock in (sock for sockets in bound.values() for sock in sockets):
                sock.close()
            raise
        for address in set(self.by_address) - addresses:
            for sock in self.by_address.pop(address):
                sock.close()
        for address, sockets in bound.items():
            self.by_address.setdefault(address, []).extend(sockets)
            for sock in self.by_address[address][workers:]:
                sock.close()
            del self.by_address[address][workers:]


def _bind(address: str) -> socket.socket:
    try:
        return bind(address)
    except OSError as error:
        raise with_mend(address, error) from None

"""The files that a configuration names, read once, before any worker starts.

Workers inherit what was read, so that one that takes the place of a dead one does not depend on what has become of a
file meanwhile. Tables and certificate are followed from there, by the supervisor too, whose next worker then begins
with the last good ones; for a new secret or signing key there is SIGHUP.
"""

from __future__ import annotations

from dataclasses import dataclass

from relay.config import Config
from relay.deliver.tls import ServerTls
from relay.rewrite.srs import Scheme, scheme_from_config
from relay.route.reload import look
from relay.route.tables import Tables, read_tables
from relay.sign.keys import SigningKey, load


@dataclass(frozen=True, slots=True)
class Files:
    """What was read.

    Attributes:
        scheme: the SRS secrets, with all that goes with them.
        keys: one for each `[[dkim]]`.
        tls: the certificate for clients; None without a section [tls].
    """

    scheme: Scheme
    keys: tuple[SigningKey, ...]
    tables: Tables
    tls: ServerTls | None

    def look(self) -> None:
        """Take over the tables and the certificate that have changed, as far as they are good."""
        look(self.tables.files)
        if self.tls is not None:
            self.tls.context()


def read_files(config: Config) -> Files:
    """Read them.

    Raises:
        ConfigError, OSError, ValueError: one cannot be used; the text names it.
    """
    return Files(
        scheme=scheme_from_config(config),
        keys=tuple(load(entry) for entry in config.dkim),
        tables=read_tables(config.routes, (*config.senders.local_domains, config.hostname)),
        tls=ServerTls(config.tls) if config.tls is not None else None,
    )

"""The files that a configuration names, read once, before any worker starts.

Workers inherit what was read, so that one that takes the place of a dead one does not depend on what has become of a
file meanwhile. Tables and certificate are followed from there, by the supervisor too, whose next worker then begins
with the last good ones; for a new secret or signing key there is SIGHUP.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from relay.access.tables import AccessSource, AccessTables, read_access_file
from relay.accounts.account_files import AccountFiles, read_account_files
from relay.config.model import Config, ConfigError
from relay.lookup.opened import Opened
from relay.receive.server_tls import ServerTls
from relay.route.tables import Tables, read_tables
from relay.sign import keys
from relay.sign import signing_table as table
from relay.sign.opendkim_keys import read_rules
from relay.sign.signer import Signer
from relay.sign.signing_table import SigningTable
from relay.srs.address import Scheme
from relay.srs.configured_scheme import scheme_from_config
from relay.table_files.reloaded_file import ReloadedFile, look


@dataclass(frozen=True, slots=True)
class Files:
    """What was read.

    Attributes:
        scheme: the SRS secrets, with all that goes with them.
        signer: has the keys, and chooses among them.
        tls: the certificates for clients; None without a section [tls].
        passwords: of the smarthosts that want one, by their tables (`DeliverySection.smarthost_tables`).
        accounts: the users and their senders.
        access: the access tables.
        opened: the regexp tables and databases among all these.
    """

    scheme: Scheme
    signer: Signer
    tables: Tables
    tls: ServerTls | None
    passwords: Mapping[str, str] = field(default_factory=dict, repr=False)
    accounts: AccountFiles = field(default_factory=AccountFiles)
    access: AccessTables = field(default_factory=AccessTables)
    opened: Opened = field(default_factory=Opened)

    @property
    def followed(self) -> tuple[ReloadedFile[Any], ...]:
        """The files that are read again when they change, but for the certificates."""
        return (*self.tables.files, *self.accounts.files, *self.access.files, *self.opened.files)

    @property
    def bad_lines(self) -> Mapping[str, int]:
        """How many lines of each of them cannot be used, by its path."""
        return {**self.tables.bad_lines, **self.accounts.bad_lines, **self.access.bad_lines, **self.opened.bad_lines}

    def look(self) -> None:
        """Take over the tables and the certificates that have changed, as far as they are good."""
        look(self.followed)
        if self.tls is not None:
            self.tls.look()


def read_files(config: Config) -> Files:
    """Read them.

    Raises:
        ConfigError: one cannot be used; the text names the key and the file.
    """
    with _named("srs.secrets_file"):
        scheme = scheme_from_config(config)
    signer = read_signer(config)
    opened = Opened()
    with _named("routes"):
        tables = read_tables(config.routes, (*config.senders.local_domains, config.hostname), opened)
    tls = ServerTls(config.tls) if config.tls is not None else None
    with _named("auth"):
        accounts = read_account_files(config.auth)
    return Files(scheme, signer, tables, tls, read_passwords(config), accounts, read_access(config, opened), opened)


def read_signer(config: Config) -> Signer:
    """The keys alone. Raises ConfigError, as `read_files`."""
    entries = []
    for number, entry in enumerate(config.dkim):
        with _named(f"dkim.{number}.private_key"):
            entries.append((keys.load(entry), entry.sign or (entry.domain,)))
    with _named("arc.private_key"):
        sealing = keys.load_sealing(config.arc)
    rules = table.rules_of(entries)
    if config.signing.opendkim is not None:
        with _named("signing.opendkim"):
            rules += read_rules(config.signing.opendkim)
    found = [*(key for key, _ in entries), *(key for rule in rules for key in rule.keys)]
    return Signer(SigningTable(rules, table.forwarder_keys(found, config.srs.domain)), sealing)


def read_access(config: Config, opened: Opened) -> AccessTables:
    """The access tables; a file that several keys name is read once. Raises ConfigError, as `read_files`."""
    read = cache(read_access_file)
    tables = dict[str, Sequence[AccessSource]]()
    for key, sources in config.access_tables.items():
        with _named(key):
            tables[key] = opened.open_all(sources, read)
    return AccessTables(tables)


def read_passwords(config: Config) -> dict[str, str]:
    """The passwords of the smarthosts that want one, by their tables. Raises ConfigError, as `read_files`."""
    passwords = {}
    for key, smarthost in config.delivery.smarthost_tables.items():
        if smarthost.password_file is not None:
            with _named(f"delivery.{key}.password_file"):
                passwords[key] = read_password(smarthost.password_file)
    return passwords


def read_password(path: Path) -> str:
    """The password in a file, without the line end. Raises OSError, ValueError."""
    try:
        return path.read_text(encoding="utf-8").strip("\r\n")
    except UnicodeDecodeError:
        raise ValueError(f"{path}: not UTF-8") from None


@contextmanager
def _named(key: str) -> Iterator[None]:
    """Says which key it is whose file cannot be used."""
    try:
        yield
    except OSError as error:
        raise ConfigError(f"{key}: {error.filename}: {error.strerror}") from None
    except (ConfigError, ValueError) as error:
        raise ConfigError(f"{key}: {error}") from None

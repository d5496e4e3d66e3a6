"""Reads OpenDKIM's tables and keys as rules of our signing table.

OpenDKIM replaces `%` by the author's domain when a message comes. Here it is replaced at start, by every domain that
the tables and the folders of keys name. So no author makes the relay look for files.
"""

from __future__ import annotations

import base64
import glob
import re
from collections.abc import Iterator
from pathlib import Path

from relay.config.model import ConfigError
from relay.config.opendkim import Installation, find
from relay.config.opendkim_syntax import ITSELF, KeyTableEntry, SigningTableEntry, domain_name
from relay.mail.address import DOMAIN, normal_domain
from relay.sign import keys
from relay.sign.keys import PrivateKey, SigningKey
from relay.sign.signing_table import AUTHORS_DOMAIN, Rule, matches


def read_rules(place: Path) -> list[Rule]:
    """Reads the rules of an installation, in the order in which OpenDKIM tries them.

    Args:
        place: a folder, or an opendkim.conf, see `opendkim.find`.

    Raises:
        OSError, ValueError: a table or key cannot be used; the text names file and line.
    """
    installation = find(place)
    key_table, signing_table = installation.key_table(), installation.signing_table()
    if key_table is None and signing_table is None:
        return list(_single_key(installation))
    if key_table is None or signing_table is None:
        raise ValueError(f"{place}: a KeyTable and a SigningTable belong together")
    return list(_RuleReader(installation, key_table).rules(signing_table))


class _RuleReader:
    """Makes rules of the entries of a SigningTable; reads each key once."""

    def __init__(self, installation: Installation, key_table: dict[str, KeyTableEntry]) -> None:
        self._base = installation.base
        self._ends = not installation.is_on("multiplesignatures")
        self._key_table = key_table
        self._private_keys: dict[str, PrivateKey] = {}

    def rules(self, signing_table: list[SigningTableEntry]) -> Iterator[Rule]:
        for entry in signing_table:
            for pattern, key in self._key_entries(entry):
                for address_pattern, signing_key in self._signing_keys(pattern, key):
                    yield Rule(address_pattern, (signing_key,), self._ends)

    def _key_entries(self, entry: SigningTableEntry) -> Iterator[tuple[str, KeyTableEntry]]:
        """The entries of the KeyTable for an entry of the SigningTable; for `ITSELF`, those named like its domains."""
        rule = Rule(entry.pattern, ())
        if entry.key != ITSELF:
            names = {entry.key: entry.pattern}
        elif "*" not in rule.domain:
            names = {rule.domain: entry.pattern}
        else:
            names = {name: f"{rule.user}@{name}" for name in self._key_table if matches(rule.domain, name)}
        for name, pattern in names.items():
            if name not in self._key_table:
                raise ValueError(f"{entry.where}: the KeyTable has no key {name!r}")
            yield pattern, self._key_table[name]

    def _signing_keys(self, pattern: str, key: KeyTableEntry) -> Iterator[tuple[str, SigningKey]]:
        """The pattern with its key; if each domain has a file of its own, a pattern for each domain with a file."""
        rule = Rule(pattern, ())
        if key.domain != ITSELF:
            yield pattern, self._load(key, key.domain)
        elif "*" not in rule.domain:
            yield pattern, self._load(key, rule.domain)
        elif ITSELF not in key.private:
            yield pattern, self._load(key, AUTHORS_DOMAIN)
        else:
            for domain in _domains_with_files(str(self._base / key.private)):
                if matches(rule.domain, domain):
                    yield f"{rule.user}@{domain}", self._load(key, domain)

    def _load(self, key: KeyTableEntry, domain: str) -> SigningKey:
        is_file = key.private.startswith(("/", "./", "../"))
        private = key.private.replace(ITSELF, domain) if is_file else key.private
        if private not in self._private_keys:
            where = f"{key.where}: {private}" if is_file else key.where
            try:
                octets = (self._base / private).read_bytes() if is_file else base64.b64decode(private, validate=True)
                self._private_keys[private] = keys.parse(octets)
            except OSError as error:
                raise ValueError(f"{where}: {error.strerror}{_mend(self._base / private)}") from None
            except ValueError as error:
                raise ValueError(f"{where}: {error}") from None
        return SigningKey(domain, key.selector, self._private_keys[private])


def _single_key(installation: Installation) -> Iterator[Rule]:
    """The one key of a host without tables (Domain, Selector, KeyFile)."""
    selector, file = (installation.settings.get(name) for name in ("selector", "keyfile"))
    domains = [domain_name(domain, f"{installation.place}: Domain") for domain in installation.domains()]
    if selector is None or file is None or not domains:
        raise ValueError(f"{installation.place}: no KeyTable and SigningTable, nor Domain, Selector and KeyFile")
    selector_label = domain_name(selector.value, selector.where)
    path = installation.base / file.value
    try:
        private = keys.read(path)
    except ConfigError as error:
        raise ValueError(f"{file.where}: {error}{_mend(path)}") from None
    for domain in domains:
        yield Rule(f"*@{domain}", (SigningKey(domain, selector_label, private),))
    if installation.is_on("subdomains"):
        for domain in sorted(domains, key=len, reverse=True):
            yield Rule(f"*@*.{domain}", (SigningKey(domain, selector_label, private),))


def _mend(path: Path) -> str:
    """What to do about a key that only OpenDKIM may read, as on Debian; empty for another one."""
    try:
        path.open("rb").close()
    except PermissionError:
        return f": let the user of the relay read it (setfacl -m u:USER:rX {path.parent} {path}), or copy it"
    except OSError:
        pass
    return ""


def _domains_with_files(path: str) -> Iterator[str]:
    """The domains that have a file, in order; in the path `ITSELF` stands for the domain."""
    first, *rest = path.split(ITSELF)
    pattern = re.compile(re.escape(first) + "([^/]+)" + r"\1".join(map(re.escape, rest)))
    for file in sorted(map(str, Path("/").glob("*".join(map(glob.escape, (first, *rest))).lstrip("/")))):
        match = pattern.fullmatch(file)
        if match is not None and DOMAIN.match(match[1]) and normal_domain(match[1]) == match[1]:
            yield match[1]

"""Reads the keys of a configuration where files of keys are missing, so that a command can say so, or make them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from relay.config.model import Config
from relay.process.files import read_signer
from relay.sign.signer import Signer


@dataclass(frozen=True, slots=True)
class MissingKey:
    """A key that the configuration names, and whose file is not there.

    Attributes:
        signs: the From domains that it is to sign.
        seals: whether it is the key of `[arc]`.
    """

    domain: str
    selector: str
    path: Path
    signs: tuple[str, ...] = ()
    seals: bool = False

    @property
    def record_name(self) -> str:
        """The name of the key's record, without a final dot (RFC 6376 section 3.6.2.1)."""
        return f"{self.selector}._domainkey.{self.domain}"


def missing_keys(config: Config) -> tuple[MissingKey, ...]:
    """The keys of `[[dkim]]` and `[arc]` whose files are not there, each once."""
    missing = dict[str, MissingKey]()
    for key in _named(config):
        if not key.path.exists():
            first = missing.setdefault(key.record_name, key)
            missing[key.record_name] = replace(first, seals=first.seals or key.seals)
    return tuple(missing.values())


def read_present(config: Config) -> Signer:
    """The keys whose files are there. Raises ConfigError: one of them cannot be used."""
    present = {"dkim": tuple(entry for entry in config.dkim if entry.private_key.exists())}
    arc = config.arc
    if arc.private_key is not None and not arc.private_key.exists():
        arc = arc.model_copy(update={"domain": None, "selector": None, "private_key": None})
    return read_signer(config.model_copy(update={**present, "arc": arc}))


def _named(config: Config) -> Iterator[MissingKey]:
    for entry in config.dkim:
        yield MissingKey(entry.domain, entry.selector, entry.private_key, entry.sign or (entry.domain,))
    arc = config.arc
    if arc.domain is not None and arc.selector is not None and arc.private_key is not None:
        yield MissingKey(arc.domain, arc.selector, arc.private_key, seals=True)

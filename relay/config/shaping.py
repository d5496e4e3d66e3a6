"""The rules by which replies of providers are understood: those of the package, with what the configuration changes.

They are read once, from `provider_replies.toml` beside this file. To find the rule of a reply takes time in proportion
to its length: texts are looked for in the order of their parts, and never tried in another way.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, Literal

from relay.config.sections.shaping import ShapingSection
from relay.mail.outcome import Outcome

FILE = Path(__file__).with_name("provider_replies.toml")
READ = 1000  # characters of a reply that are looked at
HOSTS = 1000  # names of hosts whose provider is remembered
PAUSE = {"pause": 900.0, "block": 3600.0}  # seconds

Action = Literal["slow", "pause", "block", "ignore"]


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule; see `ShapingSection` for what the keys mean.

    Attributes:
        provider: empty for a rule about every host.
        details: subject and detail of the enhanced codes. Their class is that of the reply code.
        texts: each as its parts between `*`, in lower case.
        pause: seconds; 0 where the action is none.
    """

    name: str
    provider: str
    codes: frozenset[int]
    details: frozenset[str]
    texts: tuple[tuple[str, ...], ...]
    phases: frozenset[str]
    action: Action
    rate: int | None
    pause: float

    def matches(self, outcome: Outcome) -> bool:
        """Whether a reply has what the rule asks for. Its host is not looked at."""
        if self.codes and outcome.code not in self.codes:
            return False
        if self.details and outcome.enhanced[2:] not in self.details:
            return False
        if self.phases and outcome.phase not in self.phases:
            return False
        if not self.texts:
            return True
        text = outcome.words[:READ].lower()
        return any(_has_in_order(text, parts) for parts in self.texts)


def _has_in_order(text: str, parts: Iterable[str]) -> bool:
    at = 0
    for part in parts:
        found = text.find(part, at)
        if found < 0:
            return False
        at = found + len(part)
    return True


class ShapingRules:
    """All rules that hold.

    Args:
        entries: `[[delivery.shaping]]`.
        with_package: whether the rules of the package hold as well.

    Raises:
        ValueError: an entry cannot be used; the text begins with its number.
    """

    def __init__(self, entries: Sequence[ShapingSection], *, with_package: bool = True) -> None:
        known = _package()
        self._hosts: dict[str, str] = {}
        self._below: dict[str, str] = {}
        self._rules_of = known.rules_of
        sections = dict(known.rules)
        providers = dict(known.providers)
        new: dict[str, ShapingSection] = {}
        seen: set[str] = set()
        for number, entry in enumerate(entries):
            if entry.name in seen:
                raise ValueError(f"{number}.name: {entry.name} stands there twice")
            seen.add(entry.name)
            section = sections.get(entry.name)
            if section is not None:
                section = section.model_copy(update={key: getattr(entry, key) for key in entry.model_fields_set})
                sections[entry.name] = section
            else:
                section = new[entry.name] = entry
                if entry.action is None:
                    raise ValueError(f"{number}.action: it is missing, and the package has no rule {entry.name}")
            if not (section.codes or section.status or section.text):
                raise ValueError(f"{number}: one of codes, status and text is needed, or every reply would match")
            if entry.mx:
                name = section.provider or section.name
                providers[name] = (*providers.get(name, ()), *entry.mx)
            elif entry.provider is not None and entry.provider not in providers:
                raise ValueError(
                    f"{number}.provider: the package has no {entry.provider}, and no rule before this one names its "
                    "hosts: set mx"
                )
        held = (
            [*new.values(), *sections.values()]
            if with_package
            else [*new.values(), *(sections[entry.name] for entry in entries if entry.name in sections)]
        )
        self.rules = tuple([_rule(section) for section in held])
        for name in providers:
            if any(rule.provider == self._rules_of.get(name, name) for rule in self.rules):
                for pattern in providers[name]:
                    self._add_host(pattern, name)
        self.provider_of = lru_cache(HOSTS)(self._provider_of)

    def _add_host(self, pattern: str, provider: str) -> None:
        if pattern.startswith("*."):
            self._below.setdefault(pattern[2:], provider)
        else:
            self._hosts.setdefault(pattern, provider)

    def _provider_of(self, host: str) -> str:
        """The provider that has a host; empty where none is known."""
        name = host.lower().rstrip(".")
        if name in self._hosts:
            return self._hosts[name]
        while name:
            _, _, name = name.partition(".")
            if name in self._below:
                return self._below[name]
        return ""

    def find(self, outcome: Outcome) -> Rule | None:
        """The rule of a negative reply; None where it says nothing about the mail of this host."""
        provider = self.provider_of(outcome.host)
        provider = self._rules_of.get(provider, provider)
        for rule in self.rules:
            if rule.provider in ("", provider) and rule.matches(outcome):
                return None if rule.action == "ignore" else rule
        return None


@dataclass(frozen=True, slots=True)
class _Package:
    providers: Mapping[str, tuple[str, ...]]
    rules: Mapping[str, ShapingSection]
    rules_of: Mapping[str, str]


@cache
def _package() -> _Package:
    providers: dict[str, tuple[str, ...]] = {}
    rules: dict[str, ShapingSection] = {}
    rules_of: dict[str, str] = {}
    for provider in read_file():
        name = provider["name"]
        if name:
            providers[name] = tuple(provider["mx"])
        if "rules_of" in provider:
            rules_of[name] = provider["rules_of"]
        for keys in provider.get("rules", ()):
            own = {key: value for key, value in keys.items() if key not in ("source", "example")}
            rules[keys["name"]] = ShapingSection(**own, **({"provider": name} if name else {}))
    return _Package(providers, rules, rules_of)


def read_file() -> list[dict[str, Any]]:
    """The providers of the data file as they stand there, with their rules; the last has those for every host."""
    data = tomllib.loads(FILE.read_text(encoding="utf-8"))
    return [*data["provider"], {"name": "", "rules": data["every_host"]["rules"]}]


def known_providers() -> tuple[str, ...]:
    """The names of the providers in the data file, in its order."""
    return tuple(_package().providers)


def _rule(section: ShapingSection) -> Rule:
    action = section.action or "ignore"
    return Rule(
        name=section.name,
        provider=section.provider or (section.name if section.mx else ""),
        codes=frozenset(section.codes),
        details=frozenset(status[2:] for status in section.status),
        texts=tuple([tuple([part for part in text.lower().split("*") if part]) for text in section.text]),
        phases=frozenset(section.phases),
        action=action,
        rate=section.rate,
        pause=section.pause or PAUSE.get(action, 0.0),
    )

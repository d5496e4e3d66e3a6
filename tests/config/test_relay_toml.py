"""config/relay.toml is complete and true, and the examples can be used."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from relay.config.model import Config
from relay.network import Endpoint
from tests.config.loading import loaded

ROOT = Path(__file__).parents[2]
REFERENCE = (ROOT / "config/relay.toml").read_text(encoding="utf-8")
EXAMPLES = sorted((ROOT / "config/examples").glob("*.toml"))
# What excludes another setting that the reference shows as well.
ALTERNATIVES = ('dovecot = "/run/dovecot/auth-client"', 'smarthost = "backup"')
OFF = re.compile(r"#(?=\[|[a-z_0-9]+ = )")  # a setting that is off; prose has a space after its "#"


BY_NAME = ("routes.domains", "delivery.smarthosts")  # a table for each name
INLINE = ("limits.rates.",)  # tables whose keys have tables for values


def _model(annotation: Any) -> type[BaseModel] | None:
    """The section behind a field's type, if there is one: `Tls | None`, `tuple[Listen, ...]`, `dict[str, …]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return None if annotation is Endpoint else annotation
    return next((model for argument in get_args(annotation) if (model := _model(argument))), None)


def _keys(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        section = _model(field.annotation)
        if section is None:
            yield prefix + name
        else:
            yield from _keys(section, f"{prefix}{name}.")


def _written(table: Any, prefix: str = "") -> Iterator[str]:
    for name, value in table.items():
        inner = value[0] if isinstance(value, list) and value and isinstance(value[0], dict) else value
        if prefix + name in BY_NAME:
            inner = next(iter(value.values()))
        if isinstance(inner, dict) and prefix not in INLINE:
            yield from _written(inner, f"{prefix}{name}.")
        else:
            yield prefix + name


def all_on() -> str:
    """The reference with every setting switched on, of alternatives the first."""
    return "\n".join(line for line in OFF.sub("", REFERENCE).splitlines() if line not in ALTERNATIVES)


def test_the_reference_loads_as_it_is(folder: Path) -> None:
    assert loaded(folder, REFERENCE).srs.domain == "fwd.example"


def test_the_reference_loads_with_every_setting_on(folder: Path) -> None:
    config = loaded(folder, all_on())
    assert [listener.address for listener in config.listen] == ["0.0.0.0:25", "[::]:25"]
    assert config.delivery.smarthost is not None and config.delivery.smarthost.user == "fwd"


def test_the_reference_has_every_key_and_no_other() -> None:
    assert sorted(_written(tomllib.loads(OFF.sub("", REFERENCE)))) == sorted(_keys(Config))


LINES = REFERENCE.splitlines()
HEADERS = [n for n, line in enumerate(LINES) if re.match(r"#?\[", line)]
OFF_LINES = [n for n, line in enumerate(LINES) if OFF.match(line) and n not in HEADERS]
# What is refused without its other half.
TOGETHER = (
    {"user", "password_file"},
    {"recipients", "next_hop"},
    {"domain", "selector", "private_key"},
    {"framed_since", "hash"},
    {"certificate", "private_key"},
    {"users", "senders"},
)


def _name(line: str) -> str:
    return line.removeprefix("#").partition(" ")[0]


def _switched_on(number: int) -> str:
    """The reference with the setting of one line switched on, and with it what it cannot stand without."""
    header = max((n for n in HEADERS if n < number), default=0)
    end = min((n for n in HEADERS if n > number), default=len(LINES))
    wanted = {_name(LINES[number])}
    if LINES[header].startswith("#["):
        wanted |= {name for section in _sections(Config) for name, f in section.model_fields.items() if f.is_required()}
    wanted = wanted.union(*(pair for pair in TOGETHER if pair & wanted))
    if _name(LINES[number]) == "smarthost":
        wanted.discard("next_hop")
    lines = list(LINES)
    if "max_score" in wanted:  # it needs filter.rspamd
        lines = [line.removeprefix("#") if line.startswith("#rspamd = ") else line for line in lines]
    for n in range(header, end):
        if n in (header, number) or _name(lines[n]) in wanted:
            lines[n] = OFF.sub("", lines[n])
    if _name(LINES[number]) == "smarthost":
        lines += ["[delivery.smarthosts.backup]", 'url = "smtp://smtp.provider.example:587"']
    return "\n".join(lines)


@pytest.mark.parametrize("number", OFF_LINES, ids=lambda n: f"{n + 1}-{_name(LINES[n])}")
def test_each_setting_loads_when_it_is_switched_on_alone(folder: Path, number: int) -> None:
    assert LINES[number].removeprefix("#") in _switched_on(number).splitlines()
    loaded(folder, _switched_on(number))


def _sections(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    yield model
    for field in model.model_fields.values():
        if section := _model(field.annotation):
            yield from _sections(section)


# What the reference shows as an example because there is no default, or one that depends on the host or on other keys.
EXAMPLES_NOT_DEFAULTS = {
    "arc.domain",
    "arc.private_key",
    "arc.selector",
    "arc.trusted_sealers",
    "authserv_id",
    "clients.access",
    "senders.access",
    "routes.access",
    "clients.authserv_ids",
    "clients.dnsbl.answers",
    "clients.dnswl.answers",
    "dkim.active_from",
    "dkim.active_until",
    "dkim.sign",
    "dmarc.skip",
    "routes.domains.unforwardable",
    "workers",
    "listen.tls",
    "dns.nameservers",
    "filter.clamav",
    "filter.rspamd",
    "auth.senders",
    "auth.users",
    "clients.trusted",
    "tls.certificate",
    "tls.certificates.hosts",
    "tls.private_key",
    "senders.local_domains",
    "signing.opendkim",
    "spf.skip",
    *(f"limits.rates.{key}" for key in ("client", "sender_domain", "alias", "destination")),
    "srs.framed_since",
    "srs.hash",
    "tables.clients",
    "tables.direction",
    "tables.group",
    "routes.aliases",
    "routes.alias_domains",
    "routes.postmaster",
    "routes.domains.next_hop",
    "routes.domains.srs",
    "delivery.source_ipv4",
    "delivery.source_ipv6",
    "delivery.smarthost.user",
    "delivery.smarthost.password_file",
    "delivery.smarthost.tls",
    "delivery.smarthost.null_sender",
    *(f"delivery.smarthosts.{key}" for key in ("user", "password_file", "tls", "null_sender")),
    "delivery.destinations.mode",
    "routes.domains.mode",
    "delivery.destinations.next_hop",
    "delivery.destinations.tls",
    "delivery.destinations.mta_sts",
    "delivery.destinations.dane",
    "delivery.destinations.concurrency",
    "delivery.destinations.rate",
    "delivery.destinations.max_score",
    "delivery.destinations.source_ipv4",
    "delivery.destinations.source_ipv6",
    "delivery.destinations.families",
    "delivery.destinations.helo",
    *(f"delivery.shaping.{key}" for key in ("provider", "mx", "codes", "status", "text")),
    *(f"delivery.shaping.{key}" for key in ("phases", "action", "rate", "pause")),
}


def test_what_the_reference_shows_as_default_is_the_default(folder: Path) -> None:
    on = loaded(folder, all_on())
    shown: dict[str, tuple[object, object]] = {}

    def compare(section: BaseModel, prefix: str) -> None:
        for name, field in type(section).model_fields.items():
            value = getattr(section, name)
            first = value[0] if isinstance(value, tuple) and value else value
            if prefix + name in BY_NAME:
                first = next(iter(value.values()))
            if isinstance(first, BaseModel) and not isinstance(first, Endpoint):
                compare(first, f"{prefix}{name}.")
            elif not field.is_required():
                shown[prefix + name] = (value, field.get_default(call_default_factory=True))

    compare(on, "")
    shown["queue.url"] = (on.queue.url, f"sqlite:///{folder / 'queue.db'}")
    assert {key for key, (value, default) in shown.items() if value != default} <= EXAMPLES_NOT_DEFAULTS


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_each_example_loads(folder: Path, example: Path) -> None:
    loaded(folder, example.read_text(encoding="utf-8"))


def test_there_is_an_example_for_each_of_the_three_uses() -> None:
    assert [path.stem for path in EXAMPLES] == ["forwarding-host", "mailbox-front", "postfix-relayhost"]

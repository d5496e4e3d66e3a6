"""The parameters of Postfix: main.cf, or what `postconf -n` prints, with `$name` expanded (postconf(5))."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from relay.importer.draft import ImportFailed, Origin
from relay.importer.source_file import decoded, read_text
from relay.table_files.logical_lines import logical_lines

_LONGEST = 2**20  # characters of a value: parameters in parameters can multiply it without end
_NAME = re.compile(r"[A-Za-z0-9_]+")
_ANY_NAME = re.compile(r"[A-Za-z0-9_.-]+")  # transports have names of their own
_COMPARISON = re.compile(r"\s*\{([^{}]*)\}\s*(==|!=)\s*\{([^{}]*)\}\s*\Z")
# Postfix's defaults, as far as values of parameters lead there.
_DEFAULTS = {
    "alias_maps": "hash:/etc/aliases",
    "config_directory": "/etc/postfix",
    "data_directory": "/var/lib/postfix",
    "default_database_type": "hash",
    "default_transport": "smtp",
    "inet_interfaces": "all",
    "inet_protocols": "all",
    "local_transport": "local:$myhostname",
    "mydestination": "$myhostname, localhost.$mydomain, localhost",
    "myorigin": "$myhostname",
    "queue_directory": "/var/spool/postfix",
    "relay_transport": "relay",
    "smtp_tls_security_level": "",
    "smtpd_sasl_path": "smtpd",
    "smtpd_sasl_type": "cyrus",
    "smtpd_tls_eckey_file": "$smtpd_tls_eccert_file",
    "smtpd_tls_key_file": "$smtpd_tls_cert_file",
    "virtual_alias_maps": "$virtual_maps",
    "virtual_transport": "virtual",
}


class Service(NamedTuple):
    """A service in master.cf.

    Attributes:
        name: of a transport; of a service on a port, `port` or `host:port`.
        kind: `inet`, `unix` or `pass`.
        process_limit: as it is written; `-` is the default.
        program: the name of the program, like `smtpd`.
        options: what `-o` sets.
    """

    name: str
    kind: str
    process_limit: str
    program: str
    options: dict[str, str]
    where: str


class Parameter(NamedTuple):
    """A parameter as it is written, and where."""

    value: str
    where: str


class MainCf:
    """The parameters of one installation.

    Args:
        source: for messages.
        folder: the folder of main.cf; None if it is not known. Paths below /etc/postfix are looked for there as well,
            because people copy the folder.
    """

    def __init__(self, parameters: dict[str, Parameter], source: str, folder: Path | None) -> None:
        self.parameters = parameters
        self.source = source
        self.read = set[str]()  # the names of the parameters that were looked up
        self._folder = folder
        self._configured = Path(self.get("config_directory"))

    def __contains__(self, name: str) -> bool:
        return name in self.parameters

    def origin(self, name: str) -> Origin:
        """Where a parameter is set; says so if its default counts."""
        parameter = self.parameters.get(name)
        if parameter is None:
            return Origin(f"Postfix's default of {name}", "")
        return Origin(name, parameter.where)

    def get(self, name: str) -> str:
        """The value of a parameter, expanded; its default, where that is known; otherwise nothing."""
        return self._value(name, frozenset())

    def is_on(self, name: str) -> bool:
        """Whether a parameter is `yes`."""
        return self.get(name).lower() == "yes"

    def path(self, text: str) -> Path:
        """A path of the configuration."""
        path = self._configured / text
        if self._folder is not None and path.is_relative_to(self._configured):
            copied = self._folder / path.relative_to(self._configured)
            if copied.exists():
                return copied.absolute()
        return path

    def services(self, kind: str) -> list[Service]:
        """The services of master.cf of a kind; none without the folder."""
        return [service for service in self._master() if service.kind == kind]

    def programs(self) -> dict[str, str]:
        """The program of each transport in master.cf; none without the folder."""
        return {service.name: service.program for service in self.services("unix")}

    def service(self, name: str) -> Service | None:
        """A transport in master.cf; None if it is not there, or master.cf is not known."""
        return next((service for service in self.services("unix") if service.name == name), None)

    def of_service(self, service: Service) -> MainCf:
        """The parameters as they hold in a service of master.cf: what `-o` sets there goes first."""
        own = {name: Parameter(value, service.where) for name, value in service.options.items()}
        return MainCf({**self.parameters, **own}, self.source, self._folder)

    def expand(self, text: str) -> str:
        """A text with the parameters in it replaced by their values."""
        return self._expand(text, frozenset()).strip()

    def _master(self) -> Iterator[Service]:
        """The services of master.cf."""
        if self._folder is None or not (self._folder / "master.cf").is_file():
            return
        path = self._folder / "master.cf"
        for line in logical_lines(read_text(path)):
            words = line.text.split()
            if len(words) > 7:
                yield Service(
                    words[0], words[1], words[6], words[7], dict(_options(words[8:])), f"{path}:{line.number}"
                )

    def _value(self, name: str, within: frozenset[str]) -> str:
        """The value of a parameter, expanded.

        Args:
            within: the parameters whose values are being expanded; one that leads back to itself has no value there.
        """
        self.read.add(name)
        if name in within:
            return ""
        within = within | {name}
        if name == "mydomain" and name not in self.parameters:
            return self._value("myhostname", within).partition(".")[2]
        parameter = self.parameters.get(name)
        return self._expand(parameter.value if parameter is not None else _DEFAULTS.get(name, ""), within).strip()

    def _expand(self, text: str, within: frozenset[str]) -> str:
        """The text with every `$name`, `${name}`, `$(name)`, `${name?text}` and `${name:text}` replaced."""
        if "$" not in text:
            return text
        parts, position = list[str](), 0
        while (found := text.find("$", position)) >= 0:
            parts.append(text[position:found])
            following = text[found + 1 : found + 2]
            name = _NAME.match(text, found + 1)
            if following == "$":
                parts.append("$")
                position = found + 2
            elif following in ("{", "(") and (end := _closing(text, found + 1)) is not None:
                parts.append(self._expression(text[found + 2 : end], within))
                position = end + 1
            elif name is not None:
                parts.append(self._value(name[0], within))
                position = name.end()
            else:
                parts.append("$")
                position = found + 1
        expanded = "".join((*parts, text[position:]))
        if len(expanded) > _LONGEST:
            raise ImportFailed(f"{self.source}: the value of a parameter is longer than {_LONGEST} characters")
        return expanded

    def _expression(self, text: str, within: frozenset[str]) -> str:
        """The value of what stands in braces."""
        name = _NAME.match(text)
        if name is None:
            return self._comparison(text, within)
        value, rest = self._value(name[0], within), text[name.end() :].strip()
        if not rest:
            return value
        if rest[0] == "?":
            wanted, other = _alternatives(rest[1:])
            return self._expand(wanted if value else other, within)
        return self._expand(_bare(rest[1:]), within) if rest[0] == ":" and not value else ""

    def _comparison(self, text: str, within: frozenset[str]) -> str:
        """`{one} == {other} ? {text} : {text}`; other operators compare numbers, and count as false."""
        condition, question, rest = text.partition("?")
        match = _COMPARISON.match(self._expand(condition, within))
        holds = match is not None and (match[1].strip() == match[3].strip()) is (match[2] == "==")
        wanted, other = _alternatives(rest) if question else ("", "")
        return self._expand(wanted if holds else other, within)


def read(path: Path) -> MainCf:
    """The parameters in a file, in the main.cf of a folder, or on standard input (`-`).

    Raises:
        ImportFailed: it is neither main.cf nor the output of postconf, or cannot be read.
    """
    if str(path) == "-":
        return parse(decoded(sys.stdin.buffer.read(), "standard input"), "postconf -n", None)
    if path.is_dir():
        path = path / "main.cf"
    return parse(read_text(path), str(path), path.parent if path.name == "main.cf" else None)


def parse(text: str, source: str, folder: Path | None) -> MainCf:
    """The parameters in a text. Raises ImportFailed: it is neither main.cf nor the output of postconf."""
    parameters: dict[str, Parameter] = {}
    for line in logical_lines(text):
        name, equals, value = line.text.partition("=")
        if re.match(r"\S*postconf: ", line.text):
            continue  # a warning that was written into the same file
        where = source if source == "postconf -n" else f"{source}:{line.number}"
        if not equals or not _ANY_NAME.fullmatch(name.strip()):
            raise ImportFailed(f"{where}: this is neither main.cf nor the output of postconf: {line.text[:60]!r}")
        parameters[name.strip()] = Parameter(" ".join(value.split()), where)
    if not parameters:
        raise ImportFailed(f"{source}: there is no parameter of Postfix in it")
    return MainCf(parameters, source, folder)


def split_list(value: str) -> list[str]:
    """The items of a list: blanks and commas divide it, but not within braces."""
    items, depth, current = list[str](), 0, ""
    for character in value:
        if depth == 0 and (character.isspace() or character == ","):
            items.append(current)
            current = ""
            continue
        depth += (character == "{") - (character == "}")
        current += character
    return [item for item in (*items, current) if item]


def _options(words: list[str]) -> Iterator[tuple[str, str]]:
    """The options of a service: `-o name=value`, `-oname=value`, or `-o { name = value }` (master(5))."""
    text = " ".join(words)
    for match in re.finditer(r"(?:^| )-o ?(?:\{([^{}]*)\}|(\S+))", text):
        name, equals, value = (match[1] or match[2] or "").partition("=")
        if equals:
            yield name.strip(), value.strip()


def _closing(text: str, position: int) -> int | None:
    """Where the brace or bracket at a position is closed."""
    opening = text[position]
    closing = "}" if opening == "{" else ")"
    depth = 0
    for index in range(position, len(text)):
        depth += (text[index] == opening) - (text[index] == closing)
        if depth == 0:
            return index
    return None


def _alternatives(text: str) -> tuple[str, str]:
    """The two texts of `{text} : {text}`, or one text alone."""
    text = text.strip()
    if not text.startswith("{") or (end := _closing(text, 0)) is None:
        return text, ""
    rest = text[end + 1 :].strip()
    return text[1:end].strip(), _bare(rest[1:]) if rest.startswith(":") else ""


def _bare(text: str) -> str:
    """The text without braces around it."""
    text = text.strip()
    return text[1:-1].strip() if text.startswith("{") and text.endswith("}") else text

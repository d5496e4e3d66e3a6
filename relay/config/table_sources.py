"""Where a table may come from besides a file: a regexp table, a database, or several sources in an array.

The query of a database is read here, so that one that cannot be used is an error of the configuration.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import BeforeValidator, ValidationInfo

from relay.config.values import resolve_path

Part = Literal["s", "u", "d"]
_LITERAL = re.compile(r"'((?:[^']|'')*)'")
_SHAPES = "'%s' (the whole address), '%u' (its user) or '%d' (its domain)"
_KEYS = ("url", "password_file", "query")


@dataclass(frozen=True, slots=True)
class RegexpSource:
    """A regexp table, see regexp_table(5)."""

    path: Path


@dataclass(frozen=True, slots=True)
class SqlSource:
    """A database.

    Attributes:
        url: `postgresql://…` or `sqlite:///…`; the path of the latter is absolute.
        query: with a place `{0}`, `{1}` … for each parameter; braces of its own are doubled.
        parameters: what each place is filled with, as in pgsql_table(5).
    """

    url: str
    query: str
    parameters: tuple[Part, ...]
    password_file: Path | None = None

    @property
    def name(self) -> str:
        """The database in words for the log, without a password."""
        url = urlsplit(self.url)
        return f"{url.scheme}://{url.hostname or ''}{url.path}"


TableSource = Path | RegexpSource | SqlSource


def parse_query(text: str) -> tuple[str, tuple[Part, ...]]:
    """A query in the form of `SqlSource`, and its parameters.

    Raises:
        ValueError: a `%` stands anywhere but alone in quotes, or there is none.
    """
    parameters: list[Part] = []
    parts: list[str] = []
    end = 0
    for literal in _LITERAL.finditer(text):
        parts.append(_plain(text[end : literal.start()]))
        end = literal.end()
        if literal[1] in ("%s", "%u", "%d"):
            parts.append(f"{{{len(parameters)}}}")
            parameters.append(literal[1][1])  # type: ignore[arg-type]  # one of the three
        else:
            parts.append(_plain(literal[0]))
    parts.append(_plain(text[end:]))
    if not parameters:
        raise ValueError(f"query: it asks the same for every address: write {_SHAPES} where the address belongs")
    return "".join(parts), tuple(parameters)


def _plain(text: str) -> str:
    if "%" in text:
        found = text[text.index("%") :][:2]
        raise ValueError(f"query: {found} can stand only alone and in single quotes: write {_SHAPES}")
    return text.replace("{", "{{").replace("}", "}}")


def table_source(value: object, info: ValidationInfo) -> TableSource:
    """A source as the configuration names it: a path, `regexp:PATH`, or a table with `url` and `query`.

    Raises:
        ValueError: it is none of them; the text says what to write.
    """
    if isinstance(value, (Path, RegexpSource, SqlSource)):
        return resolve_path(value, info) if isinstance(value, Path) else value
    if isinstance(value, str) and value:
        kind, colon, path = value.partition(":")
        if colon and kind == "regexp" and path:
            return RegexpSource(resolve_path(Path(path), info))
        if "://" in value:
            raise ValueError(f'a database is a table: {{ url = "{kind}://…", query = "SELECT …" }}')
        if colon and re.fullmatch("[a-z]+", kind):
            raise ValueError(f'{kind}: tables are not read here: "regexp:PATH", the path of a file, or a database')
        return resolve_path(Path(value), info)
    if isinstance(value, Mapping):
        return _sql(value, info)
    raise ValueError('the path of a file, "regexp:PATH", or { url = "postgresql://…", query = "SELECT …" }')


def _sql(value: Mapping[object, object], info: ValidationInfo) -> SqlSource:
    for key, text in value.items():
        if key not in _KEYS:
            raise ValueError(f"{key}: there is no such key; a database has url, query and password_file")
        if not isinstance(text, (str, Path)) or not text:
            raise ValueError(f"{key}: must be a text")
    for key in ("url", "query"):
        if key not in value:
            raise ValueError(f"{key}: a database needs url and query")
    url = str(value["url"])
    query, parameters = parse_query(str(value["query"]))
    password = value.get("password_file")
    return SqlSource(
        _database_url(url, info),
        query,
        parameters,
        None if password is None else resolve_path(Path(str(password)), info),
    )


def _database_url(url: str, info: ValidationInfo) -> str:
    if url.startswith("sqlite:///") and url != "sqlite:///":
        return f"sqlite:///{resolve_path(Path(url.removeprefix('sqlite:///')), info).absolute()}"
    scheme = url.partition("://")[0]
    if scheme not in ("postgresql", "postgres"):
        raise ValueError('url: write "postgresql://user@host/database" or "sqlite:///path"; no other database is asked')
    try:
        password = urlsplit(url).password
    except ValueError as error:
        raise ValueError(f"url: {error}") from None
    if password is not None:
        raise ValueError("url: the configuration is no place for a password: write it into a file for password_file")
    return url


def table_sources(value: object, info: ValidationInfo) -> tuple[TableSource, ...]:
    """One source, or an array of them. Raises ValueError: as `table_source`."""
    if value is None or value == "":
        return ()
    many = value if isinstance(value, (list, tuple)) else [value]
    return tuple([table_source(one, info) for one in many])


TableSources = Annotated[tuple[TableSource, ...], BeforeValidator(table_sources)]


def source_files(sources: Sequence[TableSource]) -> list[Path]:
    """The files that are sources, or regexp tables; without databases, which may come later."""
    return [
        source.path if isinstance(source, RegexpSource) else source
        for source in sources
        if not isinstance(source, SqlSource)
    ]


def password_files(sources: Sequence[TableSource]) -> list[Path]:
    """The files with the passwords of databases."""
    named = (source.password_file for source in sources if isinstance(source, SqlSource))
    return [path for path in named if path is not None]

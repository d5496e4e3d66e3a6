"""The keys of the configuration as its models have them: which table a key stands in, and how a value is written."""

from __future__ import annotations

import difflib
import json
import types
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from relay.config.model import Config
from relay.config.sections import Section

ENV_PREFIX = "RELAY_"  # of the variables that set keys
_LIKE, _LESS_LIKE = 0.75, 0.6  # similarity of names; a key of about the same name in another table comes between them
_SAME = 0.85  # with a letter too few or wrong

Path = tuple[str, ...]
"""The tables of a key, from the top, and its name."""


def variable(keys: Sequence[str]) -> str:
    """The environment variable that sets a key or a table."""
    return ENV_PREFIX + "__".join(keys).upper()


def meant(keys: Sequence[str]) -> list[Path]:
    """The keys that may be meant by an unknown one: one like it in its table, its name in others, or one like it there.

    Args:
        keys: the tables and the name.
    """
    *tables, name = keys
    table = _table(tables)
    here = () if table is None else tuple(table.model_fields)
    names = difflib.get_close_matches(name, {path[-1] for path in _all_keys()}, 1, _SAME)
    elsewhere = [path for path in _all_keys() if [path[-1]] == names]
    for likeness in (_LIKE, _LESS_LIKE):
        if near := difflib.get_close_matches(name, here, 2, likeness):
            least = _likeness(name, near[0]) - 0.1
            return [(*tables, key) for key in near if _likeness(name, key) > least]
        if elsewhere:
            return elsewhere
    # `srs_domain` for `srs.domain`: one underscore in the variable instead of two.
    joined = {"_".join(path): path for path in _all_keys()}
    return [joined[text] for text in difflib.get_close_matches("_".join(keys), joined, 1, _LIKE)]


def _likeness(name: str, key: str) -> float:
    return difflib.SequenceMatcher(None, name, key).ratio()


def is_array_of_tables(keys: Sequence[str]) -> bool:
    """Tells whether a key is an array of tables, as `listen` is."""
    field = _field(keys)
    return field is not None and _kind(field) is tuple and _section(field.annotation) is not None


def in_environment(keys: Sequence[str]) -> str:
    """How a variable sets a key that is an array or a table, like `RELAY_LISTEN='[{"address": "0.0.0.0:25"}]'`.

    Empty where the key is unknown, or a plain value.
    """
    field = _field(keys)
    if field is None:
        return ""
    section, kind = _section(field.annotation), _kind(field)
    if section is not None:
        example = {name: _example(key) for name, key in section.model_fields.items() if key.is_required()}
        shown: Any = [example] if kind is tuple else {"NAME": example} if kind is dict else example
    elif kind is tuple:
        shown = _example(field)
    else:
        return ""
    return f"{variable(keys)}='{json.dumps(shown)}'"


def _example(field: FieldInfo) -> Any:
    if field.examples:
        return json.loads(json.dumps(field.examples[0], default=str))
    return ["…"] if _kind(field) is tuple else "…"


def _table(keys: Sequence[str]) -> type[Section] | None:
    """The model of a table; None where there is none of that name."""
    table: type[Section] | None = Config
    is_name = False  # of one of several tables, as after `routes.domains`
    for key in keys:
        if is_name or key.isdigit():
            is_name = False
        elif table is None or key not in table.model_fields:
            return None
        else:
            field = table.model_fields[key]
            table, is_name = _section(field.annotation), _kind(field) is dict
    return table


def _field(keys: Sequence[str]) -> FieldInfo | None:
    if not keys:
        return None
    table = _table(keys[:-1])
    return None if table is None else table.model_fields.get(keys[-1])


@cache
def _all_keys() -> tuple[Path, ...]:
    """The path of every key and table, those on top first."""
    return tuple(sorted(_paths(Config, ()), key=len))


def _paths(table: type[Section], above: Path) -> Iterator[Path]:
    for name, field in table.model_fields.items():
        yield (*above, name)
        section = _section(field.annotation)
        if section is not None:
            below = (*above, name, "NAME") if _kind(field) is dict else (*above, name)
            yield from _paths(section, below)


def _kind(field: FieldInfo) -> object:
    """`tuple` for an array, `dict` for tables by name; anything else for a value or one table."""
    return get_origin(_plain(field.annotation))


def _plain(annotation: Any) -> Any:
    """The type without `Annotated` and `None`."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _plain(get_args(annotation)[0])
    if origin in (Union, types.UnionType):
        kinds = [kind for kind in get_args(annotation) if kind is not types.NoneType]
        return _plain(kinds[0]) if len(kinds) == 1 else annotation
    return annotation


def _section(annotation: Any) -> type[Section] | None:
    """The model of the tables that a field holds: one, an array of them, or one for each name."""
    plain = _plain(annotation)
    arguments = get_args(plain)
    if get_origin(plain) is tuple and arguments:
        return _section(arguments[0])
    if get_origin(plain) is dict:
        return _section(arguments[1])
    return plain if isinstance(plain, type) and issubclass(plain, Section) else None

"""The text of an imported configuration: TOML with the origin of each key above it."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from typing import get_args

from pydantic import BaseModel

from relay.config.model import Config
from relay.importer.draft import Draft, Entry, Item, Key, Table, Unmapped, Value
from relay.mail.visible import visible

_WIDTH = 120
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_KINDS = {"fill in": "To fill in: ", "if wanted": "If wanted: ", "set": ""}
_ORDER = list(Config.model_fields)  # of the tables: that of the configuration reference


def config_text(draft: Draft) -> str:
    """The configuration file."""
    parts = [list(_heading(draft)), *_tables(draft)]
    if draft.unmapped:
        parts.append(list(_unmapped(draft)))
    return "\n\n".join("\n".join(part) for part in parts) + "\n"


def summary(draft: Draft) -> Iterator[str]:
    """Lines for stderr: what is to fill in, and what has no counterpart."""
    asked = draft.to_fill_in()
    if asked:
        yield f"to fill in: {', '.join(asked)}"
    quiet = [setting.name for setting in draft.unmapped if not setting.matters]
    for meaning, names in _by_meaning(setting for setting in draft.unmapped if setting.matters):
        yield visible(f"no counterpart: {', '.join(names)}: {meaning}")
    if quiet:
        yield visible(f"no counterpart, and no difference for mail: {', '.join(dict.fromkeys(quiet))}")


def _heading(draft: Draft) -> Iterator[str]:
    yield from comment(
        f"The configuration of srs-relay, imported from {draft.program}: {draft.source}. Nothing there was changed."
    )
    yield from comment(
        'Above each key is where its value comes from. A line that begins with "#" and no space is a key that the'
        ' source does not know: fill it in, and remove the "#". Paths are relative to the folder of this file. Keys'
        " that are not here have their defaults."
        + (" What has no counterpart is at the end." if draft.unmapped else "")
    )


def _tables(draft: Draft) -> Iterator[list[str]]:
    if () in draft.tables:
        yield from _keys((), draft.tables[()])
    nested = [name for name in draft.arrays if "." in name]  # below a table, and written after it
    above = {name.partition(".")[0] for name in draft.arrays}
    for name in sorted({table[0] for table in draft.tables if table} | above, key=_ORDER.index):
        for entry in draft.arrays.get(name, ()):
            yield list(_entry(name, entry))
        for table in sorted((table for table in draft.tables if table[:1] == (name,)), key=len):
            yield list(_table(table, draft.tables[table], draft.comments.get(table, "")))
        for array in nested:
            if array.startswith(f"{name}."):
                yield from (list(_entry(array, entry)) for entry in draft.arrays[array])


def _table(table: Table, keys: dict[str, Key], text: str) -> Iterator[str]:
    if text:
        yield from comment(text)
    asked = all(key.kind != "set" for key in keys.values())
    yield ("#" if asked and keys else "") + f"[{'.'.join(map(_key_name, table))}]"
    yield from (line for part in _keys(table, keys) for line in part)


def _keys(table: Table, keys: dict[str, Key]) -> Iterator[list[str]]:
    """The lines of each key, in the order of the configuration reference."""
    order = list(_section(table).model_fields)
    for name in sorted(keys, key=lambda name: order.index(name)):
        yield list(_key(name, keys[name]))


def _section(table: Table) -> type[BaseModel]:
    """The model of a table: the names of `[routes.domains]` below it are those of one model."""
    model: type[BaseModel] = Config
    for name in table:
        if name in model.model_fields:
            model = next(_models(model.model_fields[name].annotation), model)
    return model


def _models(annotation: object) -> Iterator[type[BaseModel]]:
    """The models in a type, like `TlsSection | None` or `tuple[ListenSection, ...]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models(part)


def _entry(array: str, entry: Entry) -> Iterator[str]:
    off = "#" if entry.kind != "set" else ""
    if entry.comment or off:
        yield from comment(_KINDS[entry.kind] + entry.comment)
    yield f"{off}[[{array}]]"
    for name, key in entry.keys.items():
        yield from (off + line if off and not line.startswith("#") else line for line in _key(name, key))


def _key(name: str, key: Key) -> Iterator[str]:
    origins = list(dict.fromkeys(item.origin for item in key.items)) or [key.origin]
    from_where = f"From {origins[0]}." if len(origins) == 1 and origins[0] else ""
    text = " ".join(filter(None, (from_where, key.comment)))
    if text or key.kind != "set":
        yield from comment(_KINDS[key.kind] + text)
    off = "" if key.kind == "set" else "#"
    if len(origins) > 1:
        yield from (off + line for line in _items(name, key.items))
    else:
        yield from (off + line for line in _assignment(name, key.value))


def _items(name: str, items: Sequence[Item]) -> Iterator[str]:
    """An array whose items come from several places: a line and a comment for each."""
    yield f"{name} = ["
    for item in items:
        yield f"    {toml(item.value)}," + (f"  # from {visible(item.origin)}" if item.origin else "")
    yield "]"


def _assignment(name: str, value: Value) -> Iterator[str]:
    line = f"{_key_name(name)} = {toml(value)}"
    if len(line) <= _WIDTH or not isinstance(value, tuple):
        yield line
        return
    yield f"{_key_name(name)} = ["
    yield from textwrap.wrap(
        " ".join(f"{toml(item)}," for item in value),
        _WIDTH,
        initial_indent="    ",
        subsequent_indent="    ",
        break_long_words=False,
        break_on_hyphens=False,
    )
    yield "]"


def _unmapped(draft: Draft) -> Iterator[str]:
    yield f"# --- What has no counterpart {'-' * 92}"
    for matters, title in ((True, "Mail is treated otherwise here:"), (False, "No difference for mail:")):
        settings = [setting for setting in draft.unmapped if setting.matters is matters]
        if settings:
            yield "#"
            yield f"# {title}"
        for meaning, names in _by_meaning(settings):
            yield from comment(f"- {', '.join(names)}: {meaning}", hanging="  ")


def _by_meaning(settings: Iterable[Unmapped]) -> Iterable[tuple[str, list[str]]]:
    """What settings mean, each with the names and places of those that mean it."""
    named: dict[str, list[str]] = {}
    for setting in settings:
        named.setdefault(setting.meaning, []).append(_named(setting.name, setting.where))
    return named.items()


def _named(name: str, where: str) -> str:
    return f"{name} ({where})" if where else name


def comment(text: str, hanging: str = "") -> Iterable[str]:
    """A comment of several lines. Text from the source cannot end it."""
    return textwrap.wrap(
        visible(text),
        _WIDTH,
        initial_indent="# ",
        subsequent_indent="# " + hanging,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _key_name(name: str) -> str:
    return name if _BARE_KEY.fullmatch(name) else toml(name)


def toml(value: Value) -> str:
    """The value as TOML."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, tuple):
        return f"[{', '.join(map(toml, value))}]"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")  # JSON's strings are TOML's but for DEL

"""Reads the models of the configuration as tables of settings, which the other files here write down."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, Any, get_args, get_origin

from pydantic.fields import FieldInfo

from relay.config.keys import ENV_PREFIX
from relay.config.model import Config
from relay.config.sections import Section
from tools.reference.values import toml, type_in_words

_DEFAULT = re.compile(r"Default:\s+(.+)\.$", re.DOTALL)  # at the end of a description


@dataclass(frozen=True)
class Setting:
    """A key of the configuration.

    Attributes:
        path: its tables and its name, like `srs.domain`.
        kind: what a value is, in words.
        default: the default as it is written in TOML; empty where there is none.
        default_in_words: what holds without the key, where the default is no value; may be empty.
        examples: values in TOML that are shown in place of the default.
        variable: the environment variable that sets it; inside of an array or map the variable of that.
        in_json: the variable holds the whole array or map of tables, as JSON.
    """

    name: str
    path: str
    kind: str
    default: str
    default_in_words: str
    examples: tuple[str, ...]
    text: str
    required: bool
    variable: str
    in_json: bool

    @property
    def description(self) -> str:
        """The text without the default."""
        return _DEFAULT.sub("", self.text).rstrip()

    @property
    def shown(self) -> str:
        """The value in the commented file: the example, or else the default."""
        return self.examples[0] if self.examples else self.default


@dataclass(frozen=True)
class Table:
    """A table of the configuration.

    Attributes:
        header: as it is written in TOML, like `[[listen]]`; empty for the keys on top.
        on: whether the commented file has it switched on, because the relay cannot start without it, or always has it.
        title: begins a new part of the reference; empty where the table belongs to the part before.
    """

    path: str
    header: str
    on: bool
    title: str
    text: str
    settings: list[Setting] = field(default_factory=list)


def tables() -> list[Table]:
    """All tables in the order of the commented file: the keys on top first, a table before those inside of it."""
    return list(_tables(Config, "", "", True, ENV_PREFIX, False, ""))


def _tables(
    model: type[Section], path: str, header: str, on: bool, prefix: str, in_json: bool, title: str
) -> Iterator[Table]:
    texts = _docstrings(model)
    table = Table(path, header, on, title, inspect.cleandoc(model.__doc__ or ""))
    inner: list[tuple[str, FieldInfo, type[Section]]] = []
    for name, info in model.model_fields.items():
        section = _section(info.annotation)
        if section is not None:
            inner.append((name, info, section))
        else:
            table.settings.append(_setting(name, info, texts.get(name, ""), path, prefix, in_json))
    yield table
    for name, info, section in inner:
        below = f"{path}.{name}" if path else name
        many = get_origin(info.annotation) in (tuple, dict)
        if get_origin(info.annotation) is tuple:
            written = f"[[{below}]]"
        elif many:
            written = f'[{below}."{(info.examples or [""])[0]}"]'
        else:
            written = f"[{below}]"
        variable = prefix + name.upper()
        yield from _tables(
            section,
            below,
            written,
            info.is_required() or isinstance(info.default, Section) or below == "listen",  # else tables are needed
            variable if many else f"{variable}__",
            in_json or many,
            info.title or "",
        )


def _setting(name: str, info: FieldInfo, text: str, path: str, prefix: str, in_json: bool) -> Setting:
    full = f"{path}.{name}" if path else name
    if not text:
        raise ValueError(f"{full} has no description: write a docstring below it")
    annotation = Annotated[info.annotation, *info.metadata] if info.metadata else info.annotation
    words = _DEFAULT.search(text)
    default = "" if info.is_required() or info.default_factory else toml(info.default, annotation)
    if not default and not info.is_required() and words is None:
        raise ValueError(f'{full}: the description has to end with "Default: …", because the default is no value')
    return Setting(
        name=name,
        path=full,
        kind=type_in_words(annotation),
        default=default,
        default_in_words=" ".join(words.group(1).split()) if words else "",
        examples=tuple(toml(example, annotation) for example in info.examples or ()),
        text=text,
        required=info.is_required() and words is None,
        variable=prefix if in_json else prefix + name.upper(),
        in_json=in_json,
    )


def _section(annotation: Any) -> type[Section] | None:
    """The table behind a field's type, in an array, a map or a choice with None as well."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation
    return next((model for argument in get_args(annotation) if (model := _section(argument))), None)


def _docstrings(model: type[Section]) -> dict[str, str]:
    """The docstrings below the fields of a model. The program does not read them, so that it starts faster."""
    [definition] = ast.parse(textwrap.dedent(inspect.getsource(model))).body
    assert isinstance(definition, ast.ClassDef)
    texts = {}
    for statement, following in zip(definition.body, definition.body[1:], strict=False):
        match statement, following:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                texts[name] = inspect.cleandoc(text)
    return texts

"""Words for what validation finds wrong in a configuration: where it stands, what is wrong, and how it is written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from relay.config import keys

_WORDS = {  # in place of what pydantic says
    "extra_forbidden": "unknown key",
    "missing": "this key is required",
    "tuple_type": 'an array is needed, like ["…"]',
    "dict_type": "a table is needed, not one value",
    "model_type": "a table is needed, not one value",
    "too_short": "one at least is needed",
}
_SHAPE = {"tuple_type", "dict_type", "model_type"}


def lines(error: ValidationError, path: Path | None, environ: Mapping[str, str]) -> Iterator[str]:
    """A line for each problem.

    Args:
        path: the configuration file; None where the environment is the whole configuration.
        environ: the environment.
    """
    problems = error.errors()
    for problem in problems:
        if problem["type"] == "too_short" and any(
            other["loc"][:1] == problem["loc"] != other["loc"] for other in problems
        ):
            continue  # the problems of the items are reported, and are the reason why the array is too short
        parts = [str(part) for part in problem["loc"] if part != "[key]"]
        set_by = next((parts[:n] for n in range(len(parts), 0, -1) if keys.variable(parts[:n]) in environ), None)
        source = str(path or "environment") if set_by is None else keys.variable(set_by)
        if set_by is None and parts:
            inside = (name for name in environ if name.startswith(keys.variable(parts) + "__"))
            if name := next(inside, ""):  # a variable for a key inside of what is wrong as a whole
                source, set_by = name, parts
        words = _words(problem, parts, set_by, alone=path is None)
        yield f"{source}: {'.'.join(parts) or 'configuration'}: {words}"


def _words(problem: ErrorDetails, parts: Sequence[str], set_by: Sequence[str] | None, *, alone: bool) -> str:
    """What is wrong.

    Args:
        parts: the tables and the name of the key.
        set_by: the part of them that a variable sets; None for what a file sets, or nothing.
        alone: whether there is no file.
    """
    kind = problem["type"]
    said = _WORDS.get(kind, problem["msg"].removeprefix("Value error, ").replace("Input should be", "must be"))
    if kind == "extra_forbidden":
        return said + _meant(parts, by_variable=set_by is not None and list(set_by) == list(parts))
    if kind in _SHAPE:
        if set_by is not None or alone:
            shape = keys.in_environment(parts[:1] if set_by is None else set_by)
            return f"{said.partition(', like')[0]}; it is written {shape}" if shape else said
        if isinstance(problem["input"], dict) and keys.is_array_of_tables(parts):
            return f"an array of tables is needed: [[{'.'.join(parts)}]], with two brackets on either side"
        if keys.is_array_of_tables(parts):
            return f"an array of tables is needed: each begins with the line [[{'.'.join(parts)}]]"
    if kind in ("missing", "too_short") and alone and set_by is None and (shape := keys.in_environment(parts)):
        return f"{_WORDS['missing']}: {shape}"
    if kind == "too_short" and keys.is_array_of_tables(parts):
        if set_by is not None:
            return f"{said}; it is written {keys.in_environment(set_by)}"
        return f"{said}: a table that begins with the line [[{'.'.join(parts)}]]"
    return said


def _meant(parts: Sequence[str], *, by_variable: bool) -> str:
    """What may be meant by an unknown key, as the end of a sentence."""
    paths = keys.meant(parts)
    if not paths:
        return ""
    if by_variable:
        return f"; did you mean {' or '.join(map(keys.variable, paths))}?"
    named = [".".join(path) + _place(path, parts) for path in paths]
    return f"; did you mean {' or '.join(named)}?"


def _place(path: Sequence[str], written: Sequence[str]) -> str:
    """Where a key that is meant stands, if it is another table than the one it was written in."""
    if list(path[:-1]) == list(written[:-1]):
        return ""
    return f" in the table [{'.'.join(path[:-1])}]" if path[1:] else ", above the first table"

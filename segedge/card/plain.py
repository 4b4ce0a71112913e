"""Frozen dataclasses to the plain values that JSON holds, and back by the types of their fields."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Hashable, Mapping
from functools import cache
from pathlib import PurePath
from types import UnionType
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

T = TypeVar("T")
_PLAIN = (str, int, float, bool, type(None))


_MOST_DIGITS = 300
"""Of a whole number that a float can hold."""


class PlainError(ValueError):
    """Plain values that do not make up the dataclass that was asked for."""

    def __init__(self, says: str, where: str, missing: tuple[str, ...] = ()) -> None:
        super().__init__(says)
        self.where = where
        """Name of the nested field that is malformed; empty at the top."""
        self.missing = missing
        """Names of the fields that are missing, where that is what is wrong."""


def parse_json(text: str | bytes) -> Any:
    """What JSON holds; ValueError for whatever is none.

    Without this a text that nests a thousand brackets is a RecursionError, and a number of hundreds
    of digits an OverflowError of whoever makes a float of it.
    """
    try:
        return json.loads(text, parse_int=_whole_number)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _whole_number(digits: str) -> int:
    if len(digits) > _MOST_DIGITS:
        raise ValueError(f"it has a number of {len(digits)} digits")
    return int(digits)


def to_plain(value: Any) -> Any:
    """Dataclasses and mappings as dicts, tuples as lists, paths as text, all else as it is."""
    if type(value) in _PLAIN:  # most are, and what follows takes its time
        return value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {key: to_plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_plain(item) for item in value]
    return str(value) if isinstance(value, PurePath) else value


def from_plain(kind: type[T], values: Mapping[str, Any], *, where: str = "") -> T:
    """A dataclass from what `to_plain` gave; keys that it does not know are left out.

    Raises `PlainError` where a field is missing or of another type; what the dataclass itself
    refuses is raised as it is.
    """
    hints, needed = _fields(cast("Hashable", kind))
    if missing := tuple(name for name in needed if name not in values):
        raise PlainError(f"lacks {', '.join(missing)}", where, missing)
    known = {name: value for name, value in values.items() if name in hints}
    return kind(**{name: _field(hints[name], value, name) for name, value in known.items()})


@cache
def _fields(kind: Any) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The type of each field, and the names of those without a default."""
    hints, fields = get_type_hints(kind), dataclasses.fields(kind)
    needed = tuple(f.name for f in fields if f.default is f.default_factory is dataclasses.MISSING)
    return {f.name: hints[f.name] for f in fields}, needed


def _field(hint: Any, value: Any, name: str) -> Any:
    try:
        return _typed(hint, value, name)
    except TypeError:
        plain = getattr(hint, "__name__", None) if get_origin(hint) is None else None
        says = f"{str(value)[:60]!r} is no {plain or hint}"
        raise PlainError(says, name) from None


def _typed(hint: Any, value: Any, name: str) -> Any:
    """One plain value in a field's type; TypeError where it is of another."""
    if type(value) is hint:
        return value
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return _any_of(arguments, value, name)
    if isinstance(hint, type) and dataclasses.is_dataclass(hint) and isinstance(value, Mapping):
        return from_plain(hint, value, where=name)
    if origin is tuple and isinstance(value, (list, tuple)):
        kinds = arguments[:1] * len(value) if arguments[-1] is Ellipsis else arguments
        if len(kinds) == len(value):
            return tuple(_typed(k, item, name) for k, item in zip(kinds, value, strict=True))
    elif origin in (dict, Mapping) and isinstance(value, Mapping):
        key, item = arguments
        return {_typed(key, k, name): _typed(item, v, name) for k, v in value.items()}
    elif hint is Any or (origin is Literal and value in arguments):
        return value
    elif hint is float and type(value) is int:
        return float(value)
    elif origin is None and isinstance(value, hint) and (hint is bool or type(value) is not bool):
        return value
    raise TypeError


def _any_of(kinds: tuple[Any, ...], value: Any, name: str) -> Any:
    for kind in kinds:
        try:
            return _typed(kind, value, name)
        except TypeError:
            continue
    raise TypeError

"""Values of options: Typer hands on words, which are read here, and refused in our own."""

from __future__ import annotations

import types
from typing import Any, Literal, Union, get_args, get_origin

from segedge.errors import UsageError, nearest_name, unknown_name_error

_NUMBERS: dict[Any, str] = {int: "a whole number", float: "a number"}


def is_read(kind: Any) -> bool:
    """Whether a value of this type is read here: numbers, and one of some names."""
    return _alone(kind) in _NUMBERS or bool(_names(kind))


def shown(kind: Any, low: float | None, high: float | None) -> str:
    """The type as the help shows it: ``<int> [x>=1]``, ``<auto|flow>``."""
    if names := _names(kind):
        return f"<{'|'.join(names)}>"
    below, above = "" if low is None else f"{low}<=", "" if high is None else f"<={high}"
    bounds = f" [{below}x{above}]" if above else f" [x>={low}]" if below else ""
    return f"<{_alone(kind).__name__}>{bounds}"


def read(
    word: str | None, option: str, kind: Any, *, low: float | None, high: float | None, usual: Any
) -> Any:
    """What a word means for an option of this type; ``usual`` is the example for a wrong one.

    Raises:
        UsageError: It is no such number, or not one of the names.
    """
    if word is None:
        return None
    if names := _names(kind):
        return _name(word, option, names, usual)
    number = _alone(kind)
    try:
        value = number(word)
    except ValueError:
        value = None
    is_low = value is not None and low is not None and not value >= low
    is_high = value is not None and high is not None and not value <= high
    if value is not None and not is_low and not is_high:
        return value
    example = usual if usual is not None else low if high is None else None
    example = low if is_low else high if is_high else example
    raise UsageError(
        f"{option} takes {_NUMBERS[number]}{_within(low, high)}",
        facts={"found": word},
        fix=f"{option} {'NUMBER' if example is None else example}",
    )


def _name(word: str, option: str, names: tuple[str, ...], usual: Any) -> str:
    if word in names:
        return word
    error = unknown_name_error(option.strip("-").replace("-", " "), word, names)
    error.fix = f"{option} {nearest_name(word, names) or usual or names[0]}"
    raise error


def _within(low: float | None, high: float | None) -> str:
    if low is not None and high is not None:
        return f" of {low} to {high}"
    if low is not None:
        return f" of {low} or more"
    return "" if high is None else f" of {high} or less"


def _names(kind: Any) -> tuple[str, ...]:
    alone = _alone(kind)
    return get_args(alone) if get_origin(alone) is Literal else ()


def _alone(kind: Any) -> Any:
    """The type without its None."""
    if get_origin(kind) in (Union, types.UnionType):
        return next(each for each in get_args(kind) if each is not types.NoneType)
    return kind

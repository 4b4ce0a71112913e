"""Closing: what frees itself at the end of a ``with`` statement, and is not used afterwards."""

from __future__ import annotations

from typing import TypeVar

from segedge.errors import UsageError

_Self = TypeVar("_Self", bound="Closing")


class Closing:
    """Something with a `close`, which ``with`` calls."""

    def close(self) -> None:
        """Free what is held; more than once does nothing."""
        raise NotImplementedError

    def __enter__(self: _Self) -> _Self:
        """Use in a ``with`` statement."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()


def check_open(is_open: bool, name: object, *, fix: str) -> None:
    """Raise UsageError where what is used was closed before."""
    if not is_open:
        raise UsageError(f"{name} is closed", fix=fix)


def check_takes(is_open: bool, name: object) -> None:
    """Raise UsageError where a frame is written to a sink that was closed before."""
    check_open(is_open, name, fix="write before close(), or open it anew for another output")

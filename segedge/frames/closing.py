"""Closing: what frees itself at the end of a ``with`` statement."""

from __future__ import annotations

from typing import TypeVar

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

"""Standard output and standard error of a command: closed ones are opened, full ones are told."""

from __future__ import annotations

import io
import os
import sys
from contextlib import suppress
from typing import Any

from segedge.errors import SinkError


class _Output(io.TextIOWrapper):
    """Standard output whose failure is an error in words."""

    def write(self, text: str, /) -> int:
        try:
            return super().write(text)
        except OSError as error:
            raise told(error) from error

    def flush(self) -> None:
        try:
            super().flush()
        except OSError as error:
            raise told(error) from error


class _Errors(io.TextIOWrapper):
    """Standard error, where nobody could be told that it cannot be written."""

    def write(self, text: str, /) -> int:
        with suppress(OSError):
            return super().write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            super().flush()


def told(error: OSError) -> Exception:
    """What is raised for it; who closes a pipe early knows: that stays as it is."""
    if isinstance(error, BrokenPipeError):
        return error
    return SinkError(
        "cannot write to standard output",
        facts={"found": error.strerror or str(error)},
        fix="let it go elsewhere: a file on a disk with room, or > /dev/null",
    )


def make_ready() -> None:
    """Let this process have standard streams that can be relied on; called once, at its start."""
    open_closed()
    sys.stdout = _like(sys.stdout, 1, _Output)
    sys.stderr = _like(sys.stderr, 2, _Errors)


def open_closed() -> None:
    """Open what the caller has closed: else the next file has its number, and our words in it."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free


def _like(stream: Any, number: int, kind: type[io.TextIOWrapper]) -> Any:
    """The stream as this kind; Python has None for one that was closed."""
    if stream is None:
        return kind(open(number, "wb", closefd=False), encoding="utf-8", line_buffering=True)
    if type(stream) is not io.TextIOWrapper:  # somebody's own, as in a test
        return stream
    encoding, errors, by_line = stream.encoding, stream.errors, stream.line_buffering
    return kind(stream.detach(), encoding=encoding, errors=errors, line_buffering=by_line)

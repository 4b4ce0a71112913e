"""Text files that a user hands over, as editors on all systems write them."""

from __future__ import annotations

import codecs
from dataclasses import dataclass
from pathlib import Path

from segedge.machine.files import reason_of


class UnreadableText(OSError):  # noqa: N818 - who asked for the file makes the error of it
    """Why a text file cannot be read, in words; see `segedge.machine.files.refused`."""


@dataclass(frozen=True)
class Line:
    """One line that says something, without blanks around it."""

    number: int
    """From 1, as editors count."""
    text: str


def read_text(path: Path) -> str:
    """A file's text without its byte-order mark, in UTF-8, or UTF-16 where a mark says so.

    Raises:
        UnreadableText: It is not there, or in another encoding.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UnreadableText(reason_of(error)) from error
    is_utf16 = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    encoding = "utf-16" if is_utf16 else "utf-8-sig"
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        name = "UTF-16" if is_utf16 else "UTF-8"
        byte = f"byte {data[error.start]:#04x}"
        raise UnreadableText(f"line {line}: {byte} is no {name}; save it as UTF-8") from error


def read_lines(path: Path) -> list[Line]:
    """The lines that are neither blank nor a comment (``# ...``), whatever ends them."""
    lines = read_text(path).replace("\r\n", "\n").replace("\r", "\n").split("\n")
    stripped = (Line(number, text.strip()) for number, text in enumerate(lines, 1))
    return [line for line in stripped if line.text and not line.text.startswith("#")]

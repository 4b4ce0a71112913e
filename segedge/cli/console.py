"""How the command line prints: aligned ``label  text`` rows, errors, JSON."""

from __future__ import annotations

import re
import sys
import textwrap
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from segedge.errors import SegedgeError, UsageError

_WIDTH = 100
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def out() -> Console:
    """Console for results, on stdout; at most 100 columns, never wrapped when piped."""
    console = Console(highlight=False, soft_wrap=True)
    console.width = min(console.width, _WIDTH)
    return console


def err() -> Console:
    """Console for progress and errors, on stderr."""
    return Console(stderr=True, highlight=False, soft_wrap=True)


def printable(text: str) -> str:
    """Text with control characters spelled out: a model file's words do not steer a terminal."""
    return _CONTROLS.sub(lambda found: repr(found[0])[1:-1], text)


def say(text: str) -> None:
    """A line on stderr: what is being done."""
    err().print(printable(text), markup=False)


def print_row(label: str, text: str) -> None:
    """One ``label       text`` row on stdout; the label takes 12 columns."""
    row = Text(f"{label:<11} ", style="bold cyan")
    out().print(row + Text(printable(text), style="default"))


def print_prose(label: str, text: str) -> None:
    """A row whose text may be long: it goes on under its beginning, 100 columns at most."""
    # A path or a command that is longer than a line stays whole, to be copied.
    lines = textwrap.wrap(text, _WIDTH - 12, break_long_words=False, break_on_hyphens=False)
    for number, line in enumerate(lines or [""]):
        print_row(label if number == 0 else "", line)


def print_json(data: Any) -> None:
    """One JSON document on stdout, for machines."""
    import json

    sys.stdout.write(json.dumps(data, indent=2) + "\n")


def print_error(error: SegedgeError) -> None:
    """The error in three parts on stderr: fact, numbers, fix."""
    console = err()
    console.print(Text("error: ", style="bold red") + Text(printable(error.headline)))
    width = max((len(label) for label, _ in error.lines()), default=0)
    for label, text in error.lines():
        style = "bold green" if label == "fix" else "bold"
        for number, line in enumerate(text.splitlines() or [""]):
            head = label if number == 0 else ""
            row = Text(f"  {head:<{width}}  ", style=style)
            console.print(row + Text(printable(line)))


def check_folder(path: Path | None) -> None:
    """Find a file that cannot be written before minutes were spent, not after."""
    if path is None:
        return
    if path.is_dir():
        raise UsageError(
            f"{path} cannot be written",
            facts={"found": "a folder"},
            fix=f"name a file: {path / 'NAME'}",
        )
    if not path.absolute().parent.is_dir():
        raise UsageError(
            f"{path} cannot be written",
            facts={"found": f"no folder {path.parent}"},
            fix=f"mkdir -p {path.parent}",
        )

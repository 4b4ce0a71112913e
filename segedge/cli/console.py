"""How the command line prints: aligned ``label  text`` rows, errors, progress on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from segedge.errors import SegedgeError

_WIDTH = 100


def out() -> Console:
    """Console for results, on stdout; at most 100 columns, never wrapped when piped."""
    console = Console(highlight=False, soft_wrap=True)
    console.width = min(console.width, _WIDTH)
    return console


def err() -> Console:
    """Console for progress and errors, on stderr."""
    return Console(stderr=True, highlight=False, soft_wrap=True)


def print_row(label: str, text: str) -> None:
    """One ``label       text`` row on stdout; the label takes 12 columns."""
    row = Text(f"{label:<11} ", style="bold cyan")
    out().print(row + Text(text, style="default"))


def print_rows(rows: Iterable[tuple[str, str]]) -> None:
    """Several rows."""
    for label, text in rows:
        print_row(label, text)


def print_json(data: Any) -> None:
    """One JSON document on stdout, for machines."""
    sys.stdout.write(json.dumps(data, indent=2) + "\n")


def print_error(error: SegedgeError) -> None:
    """The error in three parts on stderr: fact, numbers, fix."""
    console = err()
    console.print(Text("error: ", style="bold red") + Text(error.headline))
    width = max((len(label) for label, _ in error.lines()), default=0)
    for label, text in error.lines():
        style = "bold green" if label == "fix" else "bold"
        for number, line in enumerate(text.splitlines() or [""]):
            head = label if number == 0 else ""
            console.print(Text(f"  {head:<{width}}  ", style=style) + Text(line))


class RateColumn(ProgressColumn):
    """Frames per second since the start of the task."""

    def render(self, task: Task) -> Text:
        """The rate, or nothing before the first frame."""
        speed = task.finished_speed or task.speed
        return Text(f"{speed:.1f} fps" if speed else "")


def frame_progress() -> Progress:
    """A progress bar over frames, on stderr; silent where stderr is no terminal."""
    console = err()
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        RateColumn(),
        TimeRemainingColumn(compact=True),
        console=console,
        disable=not console.is_terminal,
        transient=True,
    )


def megabytes(size_bytes: int) -> str:
    """``31.2 MB`` (10^6 bytes); small sizes in kB."""
    return f"{size_bytes / 1e6:.1f} MB" if size_bytes >= 1e5 else f"{size_bytes / 1e3:.1f} kB"

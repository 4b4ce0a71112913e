"""How the command line prints: aligned ``label  text`` rows, errors, progress on stderr."""

from __future__ import annotations

import json
import re
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live
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


@contextmanager
def spinner(text: str) -> Iterator[Callable[[str], None]]:
    """What is being done, on stderr, to be changed; silent where it is no terminal."""
    console = err()
    if not console.is_terminal:
        yield lambda _: None
        return
    with console.status(text) as status:
        yield status.update


def clock(seconds: int) -> str:
    """``01:02:03``."""
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"


class StatusLine:
    """A line a source on stderr that says how a live run goes; silent where it is no terminal."""

    def __init__(self) -> None:
        console = err()
        self._live = Live(Text("waiting for frames"), console=console, transient=True)
        self._shown = console.is_terminal

    def __enter__(self) -> StatusLine:
        """Begin to show."""
        if self._shown:
            self._live.start()
        return self

    def __exit__(self, *args: object) -> None:
        """Take the lines away."""
        if self._shown:
            with suppress(OSError):
                self._live.stop()

    def show(self, sample: Mapping[str, Any]) -> None:
        """Show a sample of the pipeline; see docs/pipeline.md. A closed terminal ends no run."""
        if self._shown:
            with suppress(OSError):
                self._live.update(Text("\n".join(status_lines(sample))), refresh=True)

    def note(self, text: str) -> None:
        """A line that stays: what happened."""
        # The same console: a line of another one would be drawn into the status.
        self._live.console.print(Text("note        ", style="bold cyan") + Text(text))


def status_lines(sample: Mapping[str, Any]) -> list[str]:
    """One line a source, then one of the machine: rate, latency, drops, CPU, memory, GPU."""
    time = clock(int(sample["seconds"]))
    lines = []
    for source in sample["sources"]:
        latency = source["latency_ms"]
        facts = [f"{source['fps']:.1f} fps"]
        if latency is not None:
            facts.append(f"latency {latency['p50']:.0f} ms, p95 {latency['p95']:.0f} ms")
        facts.append(f"{source['written']} shown, {source['dropped']} dropped")
        drift = source.get("drift")
        if drift is not None and drift["differs"]:
            facts.append(
                f"confidence {drift['confidence']:.2f}, when {drift['when']} "
                f"{drift['familiar']:.2f}: this camera differs"
            )
        if not source["running"]:
            facts.append("ended")
        name = str(source["name"])
        name = name if len(name) <= 24 else f"…{name[-23:]}"
        lines.append(f"{time}  {name}  {'; '.join(facts)}")
    process, gpu = sample["process"], sample["gpu"] or {}
    facts = [f"CPU {process['cpu_percent']:.0f} %"]
    if process["memory_mb"] is not None:
        facts.append(f"{process['memory_mb']:.0f} MB")
    facts += [f"GPU {gpu['load_percent']:.0f} %"] if "load_percent" in gpu else []
    facts += [f"{gpu['power_w']:.1f} W"] if "power_w" in gpu else []
    return [*lines, f"{'':8}  {', '.join(facts)}"]


def check_folder(path: Path | None) -> None:
    """Find a file that cannot be written before minutes were spent, not after."""
    if path is not None and not path.absolute().parent.is_dir():
        raise UsageError(
            f"{path} cannot be written",
            facts={"found": f"no folder {path.parent}"},
            fix=f"mkdir -p {path.parent}",
        )


def megabytes(size_bytes: int) -> str:
    """``31.2 MB`` (10^6 bytes); small sizes in kB."""
    return f"{size_bytes / 1e6:.1f} MB" if size_bytes >= 1e5 else f"{size_bytes / 1e3:.1f} kB"

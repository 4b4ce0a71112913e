"""How the command line shows on stderr that it works: bars, a spinner, the lines of a live run.

Apart from `segedge.cli.console`, because help and errors need none of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

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

from segedge.cli.console import err


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
def step_progress() -> Iterator[Callable[[str, int, int], None]]:
    """One bar that changes its name with what is done, of how many."""
    with frame_progress() as bar:
        task = bar.add_task("reading the model", total=None)

        def tell(what: str, done: int, total: int) -> None:
            bar.update(task, description=what, completed=done, total=total)

        yield tell


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

"""`segedge batch`: many files to masks, overlays and one table of facts."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import ExitStack, redirect_stdout
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import typer

from segedge.batch.options import BatchOptions, MaskKind
from segedge.cli.console import print_json, print_prose, print_row
from segedge.cli.groups import Option
from segedge.cli.options import AsJson, Backend, FrameGroup, Model, Opacity
from segedge.cli.progress import frame_progress
from segedge.motion.summary import no_vectors, sentence

if TYPE_CHECKING:
    from segedge.batch.run import BatchProgress, BatchReport, MakePool

_MOST_SHOWN = 5
"""Failures that are listed; the file has all."""


@dataclass(frozen=True)
class ArchiveGroup:
    """What is kept of every frame."""

    panel: ClassVar[str] = "Archive"
    masks: Annotated[Literal[MaskKind, "none"], "PNG of class indices a frame."] = "palette"
    overlays: Annotated[bool, "A JPEG a frame, too."] = False
    confidence: Annotated[bool, "Put its mean into the table."] = True
    shard: Annotated[
        int, Option("Frames that are done or lost together; videos are cut at key frames.", min=1)
    ] = 1500


@dataclass(frozen=True)
class WorkersGroup:
    """Who does it."""

    panel: ClassVar[str] = "Workers"
    tries: Annotated[int, Option("Workers that a shard may take with it.", min=1)] = 3
    workers: Annotated[int, Option("0: one a GPU, or one for every two cores.", min=0)] = 0
    threads: Annotated[int, Option("Of each worker; 0: its share.", min=0)] = 0
    ray: Annotated[
        str | None,
        Option(
            "On a Ray cluster: host:6379 or ray://host:10001; alone: the one that runs here.",
            metavar="[ADDRESS]",
        ),
    ] = None

    def make_pool(self) -> MakePool | None:
        """None: processes on this machine."""
        if self.ray is None:
            return None
        from segedge.batch.on_ray import AUTO, RayPool

        address, workers, threads = self.ray or AUTO, self.workers, self.threads
        return lambda job: RayPool(job, address=address, workers=workers, threads=threads)


def batch_command(
    model: Model,
    inputs: Annotated[
        list[str],
        typer.Argument(
            help="Folders (with all in them), globs in quotes, lists (x.txt: a path a line),"
            " videos, images; or the like behind fsspec: s3://bucket/drives."
        ),
    ],
    out: Annotated[str, Option("The archive: a folder, or s3://bucket/archive.", "-o --out")],
    *,
    archive: ArchiveGroup,
    pool: WorkersGroup,
    backend: Backend = "auto",
    opacity: Opacity = 0.5,
    frame: FrameGroup,
    as_json: AsJson = False,
) -> None:
    """Segment many files: masks, overlays, and one Parquet table of facts.

    The same command again goes on where an earlier one ended, whatever ended it. Exit code 0: all
    done; 1: done, but some inputs failed (failures.jsonl names them); 2: an error; 130: Ctrl-C,
    143: SIGTERM, 129: a closed terminal.
    """
    from segedge.batch.run import run_batch

    options = BatchOptions(
        masks=None if archive.masks == "none" else archive.masks,
        overlays=archive.overlays,
        confidence=archive.confidence,
        opacity=opacity,
        **frame.words,
        backend=backend,
        shard_frames=archive.shard,
    )
    with ExitStack() as shown:
        on_progress, on_note = _display(shown)
        # Libraries on a cluster print what they like; results alone go to standard output.
        shown.enter_context(redirect_stdout(sys.stderr))
        report = run_batch(
            model,
            inputs,
            out,
            options=options,
            workers=pool.workers,
            threads=pool.threads,
            tries=pool.tries,
            **frame.check.words,
            make_pool=pool.make_pool(),
            on_progress=on_progress,
            on_note=on_note,
        )
    if as_json:
        print_json({**asdict(report), "fps": round(report.fps, 3)})
    else:
        _print(report)
    raise typer.Exit(1 if report.failures else 0)


def _display(
    shown: ExitStack,
) -> tuple[Callable[[BatchProgress], None], Callable[[str], None]]:
    """On stderr: a bar on a terminal, and a line for what the user should know."""
    bar = shown.enter_context(frame_progress())
    task = bar.add_task("starting workers", total=None)

    def on_progress(progress: BatchProgress) -> None:
        words = f"shard {progress.shards}/{progress.total_shards}"
        failed = f", {progress.failures} failed" if progress.failures else ""
        bar.update(
            task,
            completed=progress.frames,
            total=progress.total_frames,
            description=f"{words}, {progress.workers} workers{failed}",
        )

    def on_note(text: str) -> None:
        bar.console.print(f"note        {text}", markup=False)

    return on_progress, on_note


def _print(report: BatchReport) -> None:
    print_row("inputs", f"{report.sources} sources, {report.shards} shards")
    if report.shards_before:
        print_row("", f"{report.shards_before} shards were finished before")
    if report.shards_done:
        lost = f", {report.workers_lost} workers lost" if report.workers_lost else ""
        print_row(
            "done",
            f"{report.shards_done} shards, {report.frames} frames in {report.seconds:.1f} s:"
            f" {report.fps:.1f} frames/s with {report.workers} workers{lost}",
        )
    if report.motion is not None:
        print_prose("motion", sentence(report.motion))
        lacking = no_vectors(report.motion)
        if lacking:
            print_row("note", lacking)
    for failure in report.failures[:_MOST_SHOWN]:
        name = failure.get("shard", failure["source"])
        print_prose("failed", f"{name}: {failure['reason']}")
    if len(report.failures) > _MOST_SHOWN:
        print_row("", f"and {len(report.failures) - _MOST_SHOWN} more")
    if report.failures:
        print_row("wrote", f"{report.out}/failures.jsonl  {len(report.failures)} failures")
    print_row("wrote", f"{report.out}/frames.parquet  {report.rows} frames")
    if report.failures:
        print_row("next", "the same command tries again what was given up")

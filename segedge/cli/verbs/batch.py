"""`segedge batch`: many files to masks, overlays and one table of facts."""

from __future__ import annotations

import dataclasses
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from segedge.cli import options as shared
from segedge.cli.console import frame_progress, print_json, print_prose, print_row

if TYPE_CHECKING:
    from segedge.batch.run import BatchProgress, BatchReport, MakePool

MaskName = Literal["palette", "labels", "none"]
_ARCHIVE, _WORKERS = "Archive", "Workers"
_TERMINATED = 128 + signal.SIGTERM
"""Exit code that shells give to a program that SIGTERM ended."""
_MOST_SHOWN = 5
"""Failures that are listed; the file has all."""


def batch_command(
    model: Annotated[Path, typer.Argument(help="An ONNX file with its card, or an engine.")],
    inputs: Annotated[
        list[str],
        typer.Argument(
            help="Folders (with all in them), globs in quotes, lists (x.txt: a path a line),"
            " videos, images; or the like behind fsspec: s3://bucket/drives."
        ),
    ],
    out: Annotated[
        str,
        typer.Option("-o", "--out", help="The archive: a folder, or s3://bucket/archive."),
    ],
    masks: Annotated[
        MaskName, typer.Option(help="PNG of class indices a frame.", rich_help_panel=_ARCHIVE)
    ] = "palette",
    overlays: Annotated[
        bool, typer.Option("--overlays", help="A JPEG a frame, too.", rich_help_panel=_ARCHIVE)
    ] = False,
    confidence: Annotated[
        bool,
        typer.Option(help="Put it into the table; takes time on a CPU.", rich_help_panel=_ARCHIVE),
    ] = True,
    shard: Annotated[
        int,
        typer.Option(
            min=1,
            help="Frames that are done or lost together; videos are cut at key frames.",
            rich_help_panel=_ARCHIVE,
        ),
    ] = 1500,
    tries: Annotated[
        int,
        typer.Option(
            min=1, help="Workers that a shard may take with it.", rich_help_panel=_WORKERS
        ),
    ] = 3,
    workers: Annotated[
        int,
        typer.Option(
            min=0, help="0: one a GPU, or one for every two cores.", rich_help_panel=_WORKERS
        ),
    ] = 0,
    threads: Annotated[
        int,
        typer.Option(min=0, help="Of each worker; 0: its share.", rich_help_panel=_WORKERS),
    ] = 0,
    ray: Annotated[
        str | None,
        typer.Option(
            metavar="[ADDRESS]",
            help="On a Ray cluster: host:6379 or ray://host:10001; alone: the one that runs here.",
            rich_help_panel=_WORKERS,
        ),
    ] = None,
    backend: shared.Backend = "auto",
    opacity: shared.Opacity = 0.5,
    min_region: shared.MinRegion = "",
    connectivity: shared.Connectivity = 4,
    majority: shared.Majority = 0,
    fill_holes: shared.FillHoles = 0,
    slide: shared.SlideOption = None,
    overlap: shared.Overlap = None,
    as_json: shared.AsJson = False,
) -> None:
    """Segment many files: masks, overlays, and one Parquet table of facts.

    The same command again goes on where an earlier one ended, whatever ended it. Exit code 0: all
    done; 1: done, but some inputs failed (failures.jsonl names them); 2: an error; 130: Ctrl-C,
    143: SIGTERM.
    """
    from segedge.batch.options import BatchOptions
    from segedge.batch.run import run_batch
    from segedge.options.sliding import parse_slide

    options = BatchOptions(
        masks=None if masks == "none" else masks,
        overlays=overlays,
        confidence=confidence,
        opacity=opacity,
        cleaning=shared.parse_cleaning(min_region, connectivity, majority, fill_holes),
        slide=parse_slide(slide, overlap),
        backend=backend,
        shard_frames=shard,
    )
    with ExitStack() as shown:
        shown.enter_context(_sigterm_ends())
        on_progress, on_note = _display(shown)
        # Libraries on a cluster print what they like; results alone go to standard output.
        shown.enter_context(redirect_stdout(sys.stderr))
        report = run_batch(
            model,
            inputs,
            out,
            options=options,
            workers=workers,
            threads=threads,
            tries=tries,
            make_pool=None if ray is None else _on_ray(ray, workers, threads),
            on_progress=on_progress,
            on_note=on_note,
        )
    if as_json:
        print_json(report_dict(report))
    else:
        _print(report)
    raise typer.Exit(1 if report.failures else 0)


@contextmanager
def _sigterm_ends() -> Iterator[None]:
    """SIGTERM ends the run as Ctrl-C does: workers end, and the books are closed."""

    def end(number: int, frame: object) -> None:
        raise SystemExit(_TERMINATED)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _on_ray(address: str, workers: int, threads: int) -> MakePool:
    from segedge.batch.on_ray import AUTO, RayPool

    return lambda job: RayPool(job, address=address or AUTO, workers=workers, threads=threads)


def report_dict(report: BatchReport) -> dict[str, Any]:
    """The report as plain JSON values."""
    return {**dataclasses.asdict(report), "fps": round(report.fps, 3)}


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

"""`segedge run`: a model over an image, a folder or a video."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from segedge.cli.console import (
    err,
    frame_progress,
    megabytes,
    print_error,
    print_json,
    print_row,
)
from segedge.errors import SegedgeError, UsageError
from segedge.timing import COMPUTING

if TYPE_CHECKING:
    from segedge.pipeline.stats import Progress, RunReport
    from segedge.result import OverlayStyle
    from segedge.segmenter import Segmenter
    from segedge.segmenter_cuda import CudaSegmenter
    from segedge.video.protocols import Sink, Source, SourceFailure, SourceInfo

Masks = Literal["labels", "palette"]


def run_command(
    model: Annotated[Path, typer.Argument(help="The model: an ONNX file with its card.")],
    source: Annotated[
        str, typer.Argument(help="An image, a folder of images, a glob in quotes, or a video.")
    ],
    output: Annotated[
        list[str] | None,
        typer.Option(
            "-o", "--out", help="x.mp4, x.png or a folder/; any number of times. None: times only."
        ),
    ] = None,
    masks: Annotated[
        Masks | None,
        typer.Option(help="Folders and images hold class indices, raw or with the palette."),
    ] = None,
    opacity: Annotated[float, typer.Option(help="Share of the class colour, 0 to 1.")] = 0.5,
    classes: Annotated[
        str, typer.Option(help="Colour these classes only, by name: road,car.")
    ] = "",
    legend: Annotated[bool, typer.Option("--legend", help="Draw names and shares.")] = False,
    backend: Annotated[
        str, typer.Option(help="auto, or a name that `segedge doctor` lists.")
    ] = "auto",
    threads: Annotated[int, typer.Option(min=0, help="CPU threads; 0: all.")] = 0,
    card: Annotated[
        Path | None, typer.Option(help="Take the card of this ONNX file (for a .pt2 program).")
    ] = None,
    fps: Annotated[float | None, typer.Option(help="Frame rate of a video made.")] = None,
    crf: Annotated[
        int, typer.Option(min=0, max=51, help="Quality of a video; lower is better.")
    ] = 23,
    preset: Annotated[str, typer.Option(help="x264's trade of time for size.")] = "ultrafast",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for machines.")] = False,
) -> None:
    """Segment an image, a folder or a video.

    Exit code 0: all done; 1: done, but some images could not be read; 2: an error, also a video
    that ends early; 130: Ctrl-C (what was written so far is finished and playable).
    """
    from segedge.result import OverlayStyle
    from segedge.video.open import open_sink, open_source

    names = tuple(name.strip() for name in classes.split(",") if name.strip()) or None
    style = OverlayStyle(opacity=opacity, classes=names, legend=legend)
    _check_outputs(output or [], masks)
    with ExitStack() as opened:
        frames = open_source(source)
        opened.callback(frames.close)
        segmenter = _load(model, backend, threads, card, style)
        opened.callback(segmenter.close)
        style.check(segmenter.card)
        sinks = [
            open_sink(path, info=frames.info, masks=masks, fps=fps, crf=crf, preset=preset)
            for path in output or ()
        ]
        if not as_json:
            _print_head(segmenter, frames.info)
        _warm_up(segmenter, frames.info)
        report = _run(frames, segmenter, sinks)
    _print_report(report, model, segmenter, as_json)
    if report.interrupted:
        raise typer.Exit(130)
    if report.failures:
        # One bad image of many is an incident; a video that ends early is not what was asked for.
        raise typer.Exit(1 if frames.info.kind == "images" else 2)


def _check_outputs(output: list[str], masks: Masks | None) -> None:
    """Outputs that would overwrite each other, or that ask for masks where none can be."""
    from segedge.video.output import SINK_VIDEO_SUFFIXES

    places = [Path(path).resolve() for path in output]
    videos = [p for p in places if p.suffix.lower() in SINK_VIDEO_SUFFIXES and not p.is_dir()]
    twice = next((p for n, p in enumerate(places) if p in places[:n]), None)
    if twice is not None:
        raise UsageError(f"{twice.name} is asked for twice", fix="give every -o a name of its own")
    if masks and len(videos) == len(places):
        raise UsageError(
            f"--masks {masks} needs an output that can hold masks",
            facts={"found": ", ".join(output) or "no -o"},
            fix="add a folder or a PNG: -o masks/",
        )


def _load(
    model: Path, backend: str, threads: int, card: Path | None, style: OverlayStyle
) -> Segmenter | CudaSegmenter:
    from segedge.card import ModelCard
    from segedge.modelfile import read_metadata
    from segedge.segmenter import load

    given = None if card is None else ModelCard.from_metadata(read_metadata(card))
    if card is not None and given is None:
        raise UsageError(f"{card} carries no card", fix=f"segedge export {card} --classes ...")
    return load(model, backend=backend, threads=threads or None, card=given, style=style)


def _print_head(segmenter: Segmenter | CudaSegmenter, info: SourceInfo) -> None:
    print_row("backend", f"{segmenter.backend.description}: {segmenter.backend_reason}")
    facts = []
    if info.size:
        facts.append(f"{info.size[1]}x{info.size[0]}")
    if info.fps:
        facts.append(f"{info.fps:g} fps")
    if info.fps and info.frame_count:
        seconds = round(info.frame_count / info.fps)
        facts.append(f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}")
    if info.frame_count:
        facts.append(f"{info.frame_count} {'frame' if info.frame_count == 1 else 'frames'}")
    print_row("source", f"{Path(info.name).name or info.name}  {', '.join(facts)}")


def _warm_up(segmenter: Segmenter | CudaSegmenter, info: SourceInfo) -> None:
    """Compile the kernels before the clock runs: seconds on the first use of an installation."""
    from segedge.geometry import Size

    console = err()
    size = Size(*info.size) if info.size else segmenter.card.input_size
    if console.is_terminal:
        with console.status("preparing (the first time takes some seconds)"):
            segmenter.warm_up(size)
    else:
        segmenter.warm_up(size)


def _run(source: Source, segmenter: Segmenter | CudaSegmenter, sinks: list[Sink]) -> RunReport:
    from segedge.pipeline.runner import Pipeline

    with frame_progress() as bar:
        task = bar.add_task(Path(source.info.name).name, total=source.info.frame_count)

        def advance(progress: Progress) -> None:
            bar.update(task, completed=progress.written)

        pipeline = Pipeline(source, segmenter, sinks, on_progress=advance)
        try:
            return pipeline.run()
        except SegedgeError as error:
            kept = (
                [path for path in pipeline.report.paths if path.is_file()]
                if pipeline.report
                else []
            )
            if kept:
                error.facts.setdefault("kept", f"{', '.join(map(str, kept))}: the frames before it")
            raise


def _print_report(
    report: RunReport, model: Path, segmenter: Segmenter | CudaSegmenter, as_json: bool
) -> None:
    for failure in report.failures:
        print_error(_failure_error(failure))
    if as_json:
        print_json(
            {
                "model": str(model),
                "backend": segmenter.backend.description,
                "reason": segmenter.backend_reason,
                **report.to_dict(),
            }
        )
        return
    _print_stages(report)
    for note in (*report.notes, *segmenter.notes):
        print_row("note", note)
    if report.interrupted:
        print_row("interrupted", "the outputs hold the frames up to here")
    for path in report.paths:
        print_row("wrote", f"{path}  {_size_text(path)}")


def _failure_error(failure: SourceFailure) -> SegedgeError:
    """What of the source is missing, in the form of an error."""
    what, fix = "could not be read", "copy or convert it again"
    if failure.cut:
        what, fix = "ends early", "copy it again; what there was is in the output"
    elif failure.reason.startswith("damaged"):
        what = "could not be read completely"
    return SegedgeError(f"{failure.name} {what}", facts={"found": failure.reason}, fix=fix)


def _print_stages(report: RunReport) -> None:
    """The table of stages; what runs in other threads is marked as overlapped."""
    if report.stages:
        print_row("", f"{'p50':>9} {'p95':>9}    share of the frame")
    compute = report.compute
    for stage, summary in report.stages.items():
        if stage not in COMPUTING or compute is None:
            share = "(overlapped)"
        else:
            share = f"{100 * summary.mean_ms / max(compute.mean_ms, 1e-9):3.0f} %"
        print_row(stage, f"{summary.p50_ms:6.1f} ms {summary.p95_ms:6.1f} ms    {share}")
    if compute is not None:
        print_row("frame", f"{compute.p50_ms:6.1f} ms {compute.p95_ms:6.1f} ms")
    lost = f", {report.failed} failed" if report.failed else ""
    print_row(
        "frames",
        f"{report.read} read = {report.written} written, {report.dropped} dropped{lost};"
        f" {report.fps:.1f} fps over {report.seconds:.1f} s",
    )


def _size_text(path: Path) -> str:
    if path.is_dir():
        count = sum(1 for _ in path.iterdir())
        return f"{count} {'file' if count == 1 else 'files'}"
    return megabytes(path.stat().st_size) if path.exists() else ""

"""`segedge run`: a model over images, videos, cameras and streams."""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Any

import typer

from segedge.cli.console import print_error, print_json, say
from segedge.cli.progress import StatusLine, frame_progress, spinner
from segedge.cli.run.open import (
    add_harvest,
    is_short,
    make_analyses,
    open_lane_sinks,
    open_model,
    open_sources,
    open_view,
)
from segedge.cli.run.options import RunOptions
from segedge.cli.run.outputs import check_effect, check_outputs, outputs_by_source, source_labels
from segedge.cli.run.report import Outcome, print_failures, print_head, print_outcome, short_name
from segedge.errors import SegedgeError, UsageError
from segedge.machine.interrupt import BY_SIGNAL

if TYPE_CHECKING:
    from segedge.frames.protocols import Sink, Source, SourceInfo
    from segedge.live.view import LiveView
    from segedge.pipeline.runner import Lane, MultiPipeline
    from segedge.pipeline.stats import Progress, RunReport
    from segedge.segment.on_gpu import CudaSegmenter
    from segedge.segment.segmenter import Segmenter


def run_command(wanted: RunOptions) -> None:
    """Segment images, videos, cameras and streams.

    Exit code 0: all done; 1: done, but some images or one of several sources could not be read;
    2: an error, also a video that ends early; 130: Ctrl-C, 143: SIGTERM, 129: a closed terminal
    (what was written so far is finished and playable).
    """
    with ExitStack() as opened:
        # The cheap refusals first: a wrong output is not found after an engine was built.
        kinds = [False] * len(wanted.sources)
        masks, style = wanted.picture.masks, wanted.picture.style
        check_outputs(outputs_by_source(wanted.outputs, wanted.sources, are_images=kinds), masks)
        check_effect(wanted.outputs, style.effect, masks=masks)
        sources = open_sources(wanted, opened)
        images = [source.info.kind == "images" for source in sources]
        _check_sequence(wanted, sources)
        places = outputs_by_source(wanted.outputs, wanted.sources, are_images=images)
        segmenter = open_model(wanted, sources, opened)
        style.check(segmenter.card)
        infos = [source.info for source in sources]
        wanted.analyse.check(segmenter.card.classes, infos, wanted.outputs, style.effect)
        view = open_view(wanted, opened)
        sinks = open_lane_sinks(wanted, sources, places, opened)
        add_harvest(wanted, segmenter.card, sinks, places, opened)
        if not wanted.is_quiet:
            print_head(segmenter, infos)
        if view is not None:
            say(f"live        {view.url}")
        if not is_short(sources) or segmenter.backend.memory == "cuda":
            _warm_up(wanted, segmenter, infos, sinks)
        reports, errors = _run(wanted, segmenter, sources, sinks, places, view)
        flicker = [segmenter.flicker(number) for number in range(len(sources))]
    notes = [(*getattr(s, "notes", ()), *_smoothing_notes(wanted, s)) for s in sources]
    for error in errors:
        print_error(error)
    print_failures(reports)
    outcome = Outcome(wanted.model, segmenter, reports, notes, flicker)
    if wanted.as_json:
        print_json(outcome.to_dict())
    elif not wanted.is_quiet:
        print_outcome(outcome)
    raise typer.Exit(_exit_code(reports, images))


def _check_sequence(wanted: RunOptions, sources: Sequence[Source]) -> None:
    if wanted.motion.value is None or wanted.are_images_video:
        return
    for source in sources:
        if source.info.kind == "images":
            raise UsageError(
                "images are no video: nothing moves from one to the next",
                facts={"found": short_name(source.info.name)},
                fix="add --as-video, where they are the frames of a video, in order;"
                " else leave --every out",
            )


def _smoothing_notes(wanted: RunOptions, source: Source) -> tuple[str, ...]:
    is_sequence = wanted.are_images_video or source.info.kind != "images"
    if wanted.smoothing.value is None or is_sequence:
        return ()
    return ("images are not smoothed: --smooth-images, where they are the frames of a video",)


def _exit_code(reports: Sequence[RunReport], images: Sequence[bool]) -> int:
    if any(report.interrupted for report in reports):
        known = signal.Signals.__members__
        return BY_SIGNAL + known.get(reports[0].ended_by, signal.SIGINT)
    broken = [report.error is not None or bool(report.failures) for report in reports]
    if not any(broken):
        return 0
    # One bad image of many, or one camera of several, is an incident; a video that ends early is
    # not what was asked for.
    return 1 if len(reports) > 1 or images[0] else 2


def _warm_up(
    wanted: RunOptions,
    segmenter: Segmenter | CudaSegmenter,
    sources: Sequence[SourceInfo],
    sinks: Sequence[Sequence[Sink]],
) -> None:
    """Compile the kernels before the clock runs: seconds on the first use of an installation."""
    import numpy as np

    from segedge.card.geometry import Size
    from segedge.frames.frame import Frame

    sizes = [Size(*info.size) if info.size else segmenter.card.input_size for info in sources]
    needs = [frozenset[str]().union(*(sink.needs for sink in lane)) for lane in sinks]
    analyses = make_analyses(wanted)
    with spinner("preparing (the first time takes some seconds)"):
        for size, outputs in dict.fromkeys(zip(sizes, needs, strict=True)):
            segmenter.warm_up(size, outputs=outputs)
        if analyses:
            image = np.zeros((sizes[0].height, sizes[0].width, 3), np.uint8)
            blank = Frame(image, stream=None)
            result = segmenter(blank)
            for analysis in analyses:
                with suppress(UsageError):  # a zone in pixels of frames whose size is not known yet
                    analysis(blank, result)


def _run(
    wanted: RunOptions,
    segmenter: Segmenter | CudaSegmenter,
    sources: Sequence[Source],
    sinks: Sequence[list[Sink]],
    places: Sequence[list[str]],
    view: LiveView | None,
) -> tuple[tuple[RunReport, ...], list[SegedgeError]]:
    """The run itself, with its display; the reports, and the errors of sources of several."""
    from segedge.pipeline.runner import Lane, MultiPipeline, Watch

    lanes, live_sinks = [], []
    labels, backend = source_labels(wanted.sources), segmenter.backend.description
    for source, own, names, label in zip(sources, sinks, places, labels, strict=True):
        if view is not None:
            live_sinks.append(view.sink(label, model=wanted.model.name, backend=backend))
            own, names = [*own, live_sinks[-1]], [*names, "live view"]
        is_sequence = True if wanted.are_images_video else None
        policy = wanted.flow.policy
        lanes.append(Lane(source, own, policy=policy, sink_names=names, is_sequence=is_sequence))

    with ExitStack() as shown:
        on_progress, on_sample = _display(sources, shown)

        def publish(sample: dict[str, Any]) -> None:
            on_sample(sample)
            if view is not None:
                for live_sink, values in zip(live_sinks, sample["sources"], strict=True):
                    view.publish(values, source=live_sink)
                view.publish(_machine_numbers(sample))

        pipeline = MultiPipeline(
            lanes,
            segmenter,
            fail_fast=wanted.flow.fail_fast,
            watch=Watch(on_progress=on_progress, on_sample=publish),
        )
        reports = _run_until_end(pipeline, lanes, wanted.flow.seconds)
    errors = [_told(lane.source, lane.error) for lane in lanes if lane.error is not None]
    return reports, errors


def _told(source: Source, error: BaseException) -> SegedgeError:
    """What ended one source of several; a fault of ours is not passed over in silence either."""
    if isinstance(error, SegedgeError):
        return error
    return SegedgeError(
        f"{short_name(source.info.name)} ended by an error",
        facts={"found": f"{type(error).__name__}: {error}"},
        fix="--fail-fast --debug shows where it was raised",
    )


def _run_until_end(
    pipeline: MultiPipeline, lanes: Sequence[Lane], seconds: float | None
) -> tuple[RunReport, ...]:
    """Run; a live source that shows nothing cannot outlast ``--duration``."""
    import threading

    timer = None
    if seconds is not None and any(lane.source.info.live for lane in lanes):
        timer = threading.Timer(seconds, pipeline.stop)
        timer.daemon = True
        timer.start()
    try:
        return pipeline.run()
    except SegedgeError as error:
        reports = [lane.report for lane in lanes if lane.report is not None]
        kept = [str(path) for report in reports for path in report.paths if path.exists()]
        count = sum(report.written for report in reports)
        if kept and count:
            frames = "the frame" if count == 1 else f"the {count} frames"
            error.facts.setdefault("kept", f"{', '.join(kept)}: {frames} written before")
        raise
    finally:
        if timer is not None:
            timer.cancel()


def _display(
    sources: Sequence[Source], shown: ExitStack
) -> tuple[Callable[[Progress], None], Callable[[dict[str, Any]], None]]:
    """What a terminal sees meanwhile: a bar a file, or a line a live source."""
    if any(source.info.live for source in sources):
        line = shown.enter_context(StatusLine())
        for source in sources:
            if hasattr(source, "on_note"):
                source.on_note = line.note
        return (lambda progress: None), line.show
    bar = shown.enter_context(frame_progress())
    tasks = [bar.add_task(short_name(s.info.name), total=s.info.frame_count) for s in sources]

    def advance(progress: Progress) -> None:
        bar.update(tasks[progress.source], completed=progress.written)

    return advance, lambda sample: None


def _machine_numbers(sample: dict[str, Any]) -> dict[str, Any]:
    """Process and GPU in one flat table, as the live view takes it."""
    gpu = {f"gpu_{name}": value for name, value in (sample["gpu"] or {}).items()}
    return {**sample["process"], **gpu}

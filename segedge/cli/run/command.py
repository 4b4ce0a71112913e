"""`segedge run`: a model over images, videos, cameras and streams."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Any

import typer

from segedge.cli import options as shared
from segedge.cli.console import StatusLine, err, frame_progress, print_error
from segedge.cli.run import analyse, options
from segedge.cli.run import harvest as harvesting
from segedge.cli.run.outputs import check_effect, check_outputs, outputs_by_source, source_labels
from segedge.cli.run.report import print_failures, print_head, print_reports, short_name
from segedge.errors import SegedgeError, UsageError

if TYPE_CHECKING:
    from segedge.frames.protocols import Analysis, Sink, Source, SourceInfo
    from segedge.live.view import LiveView
    from segedge.pipeline.runner import Lane, MultiPipeline
    from segedge.pipeline.stats import Progress, RunReport
    from segedge.segment.on_gpu import CudaSegmenter
    from segedge.segment.segmenter import Segmenter

_TERMINATED = 128 + 15
"""Exit code that shells give to a program that SIGTERM ended."""


def run_command(
    model: options.Model,
    sources: options.Sources,
    output: options.Output = None,
    masks: options.MasksOption = None,
    opacity: shared.Opacity = 0.5,
    classes: options.Classes = "",
    legend: options.Legend = False,
    min_region: shared.MinRegion = "",
    connectivity: shared.Connectivity = 4,
    majority: shared.Majority = 0,
    fill_holes: shared.FillHoles = 0,
    regions: options.Regions = False,
    effect: options.EffectOption = "overlay",
    background: options.Background = "",
    edge: options.Edge = 1.0,
    blur: options.BlurOption = 0.02,
    heat: options.Heat = "confidence",
    slide: shared.SlideOption = None,
    overlap: shared.Overlap = None,
    smooth: shared.Smooth = None,
    smooth_images: options.SmoothImages = False,
    flicker: shared.Flicker = None,
    backend: shared.Backend = "auto",
    threads: shared.Threads = 0,
    card: options.Card = None,
    size: options.Size = "",
    source_fps: options.SourceFps = None,
    pixel_format: options.PixelFormat = None,
    decoder: options.DecoderOption = "auto",
    pace: options.Pace = False,
    timeout: options.Timeout = 5.0,
    reconnect: options.Reconnect = True,
    codec: options.CodecOption = "h264",
    encoder: options.Encoder = "auto",
    crf: options.Crf = None,
    preset: options.Preset = None,
    fps: options.Fps = None,
    segment: options.Segment = None,
    live: options.Live = None,
    token: options.Token = None,
    policy: options.PolicyOption = None,
    duration: options.Duration = None,
    frames: options.Frames = None,
    fail_fast: options.FailFast = False,
    road: analyse.RoadFlag = False,
    drivable: analyse.Drivable = "",
    obstacles: analyse.Obstacles = "",
    bonnet: analyse.Bonnet = 0.0,
    least_obstacle: analyse.LeastObstacle = 1,
    road_step: analyse.RoadStep = 16,
    ground: analyse.GroundFile = None,
    zone: analyse.Zones = None,
    zone_classes: analyse.ZoneClasses = "",
    zone_enter: analyse.ZoneEnter = 0.05,
    zone_leave: analyse.ZoneLeave = None,
    zone_hold: analyse.ZoneHold = 0.0,
    draw: analyse.Draw = False,
    harvest: harvesting.HarvestFolder = None,
    harvest_budget: harvesting.Budget = None,
    harvest_top: harvesting.Top = None,
    harvest_distance: harvesting.Distance = None,
    harvest_baseline: harvesting.BaselineFile = None,
    as_json: shared.AsJson = False,
) -> None:
    """Segment images, videos, cameras and streams.

    Exit code 0: all done; 1: done, but some images or one of several sources could not be read;
    2: an error, also a video that ends early; 130: Ctrl-C, 143: SIGTERM (what was written so far
    is finished and playable).
    """
    from segedge.options.effect import Effect
    from segedge.options.sliding import parse_slide
    from segedge.options.style import OverlayStyle

    shown = Effect(effect, background, edge, blur, heat)  # type: ignore[arg-type]
    names = tuple(name.strip() for name in classes.split(",") if name.strip()) or None
    wanted = options.RunOptions(
        model=model,
        sources=tuple(sources),
        outputs=tuple(output or ()),
        style=OverlayStyle(opacity=opacity, classes=names, legend=legend, effect=shown),
        cleaning=shared.parse_cleaning(min_region, connectivity, majority, fill_holes),
        slide=parse_slide(slide, overlap),
        regions=regions,
        smoothing=shared.parse_smoothing(smooth, flicker=flicker),
        smooth_images=smooth_images,
        masks=masks,
        backend=backend,
        threads=threads,
        card=card,
        size=size,
        source_fps=source_fps,
        pixel_format=pixel_format,
        decoder=decoder,
        pace=pace,
        timeout_seconds=timeout,
        reconnect=reconnect,
        codec=codec,
        encoder=encoder,
        crf=crf,
        preset=preset,
        fps=fps,
        segment=segment,
        live=live,
        token=token,
        policy=policy,
        seconds=shared.parse_seconds(duration, option="--duration"),
        frames=frames,
        fail_fast=fail_fast,
        as_json=as_json,
        analyse=analyse.read_analyse_options(
            road=road,
            drivable=drivable,
            obstacles=obstacles,
            bonnet=bonnet,
            least_obstacle=least_obstacle,
            road_step=road_step,
            ground=ground,
            zones=zone or (),
            zone_classes=zone_classes,
            zone_enter=zone_enter,
            zone_leave=zone_leave,
            zone_hold=zone_hold,
            draw=draw,
        ),
        harvest=harvesting.read_harvest_options(
            harvest,
            budget=harvest_budget,
            top=harvest_top,
            distance=harvest_distance,
            baseline=harvest_baseline,
        ),
    )
    raise typer.Exit(run(wanted))


def run(wanted: options.RunOptions) -> int:
    """Do what was asked for; the exit code."""
    from segedge.cli.run.open import add_harvest, make_analyses, open_lane_sinks, open_sources

    with ExitStack() as opened:
        # The cheap refusals first: a wrong output is not found after an engine was built.
        kinds = [False] * len(wanted.sources)
        check_outputs(
            outputs_by_source(wanted.outputs, wanted.sources, are_images=kinds), wanted.masks
        )
        check_effect(wanted.outputs, wanted.style.effect, masks=wanted.masks)
        sources = open_sources(wanted, opened)
        images = [source.info.kind == "images" for source in sources]
        places = outputs_by_source(wanted.outputs, wanted.sources, are_images=images)
        segmenter = _load(wanted)
        opened.callback(segmenter.close)
        wanted.style.check(segmenter.card)
        infos = [source.info for source in sources]
        wanted.analyse.check(segmenter.card.classes, infos, wanted.outputs, wanted.style.effect)
        view = _open_view(wanted, opened)
        sinks = open_lane_sinks(wanted, sources, places, opened)
        if wanted.harvest is not None:
            add_harvest(wanted.harvest, wanted, segmenter.card, sinks, places, opened)
        if not wanted.is_quiet:
            print_head(segmenter, infos)
        if view is not None:
            err().print(f"live        {view.url}", markup=False)
        needs = [frozenset[str]().union(*(sink.needs for sink in lane)) for lane in sinks]
        _warm_up(segmenter, infos, needs, make_analyses(wanted))
        reports, errors = _run(wanted, segmenter, sources, sinks, places, view)
        flicker = [segmenter.flicker(number) for number in range(len(sources))]
    notes = [(*getattr(s, "notes", ()), *_smoothing_notes(wanted, s)) for s in sources]
    for error in errors:
        print_error(error)
    print_failures(reports)
    if wanted.is_quiet and not wanted.as_json:
        return _exit_code(reports, images)
    print_reports(
        reports,
        model=wanted.model,
        segmenter=segmenter,
        source_notes=notes,
        flicker=flicker,
        as_json=wanted.as_json,
    )
    return _exit_code(reports, images)


def _smoothing_notes(wanted: options.RunOptions, source: Source) -> tuple[str, ...]:
    if wanted.smoothing is None or wanted.smooth_images or source.info.kind != "images":
        return ()
    return ("images are not smoothed: --smooth-images, where they are the frames of a video",)


def _exit_code(reports: Sequence[RunReport], images: Sequence[bool]) -> int:
    if any(report.interrupted for report in reports):
        return _TERMINATED if reports[0].ended_by == "SIGTERM" else 130
    broken = [report.error is not None or bool(report.failures) for report in reports]
    if not any(broken):
        return 0
    # One bad image of many, or one camera of several, is an incident; a video that ends early is
    # not what was asked for.
    return 1 if len(reports) > 1 or images[0] else 2


def _load(wanted: options.RunOptions) -> Segmenter | CudaSegmenter:
    from segedge.card.card import ModelCard
    from segedge.card.modelfile import read_metadata
    from segedge.segment.load import load

    card = wanted.card
    given = None if card is None else ModelCard.from_metadata(read_metadata(card))
    if card is not None and given is None:
        raise UsageError(f"{card} carries no card", fix=f"segedge export {card} --classes ...")
    return load(
        wanted.model,
        backend=wanted.backend,
        threads=wanted.threads or None,
        card=given,
        style=wanted.style,
        cleaning=wanted.cleaning,
        slide=wanted.slide,
        smoothing=wanted.smoothing,
    )


def _open_view(wanted: options.RunOptions, opened: ExitStack) -> LiveView | None:
    if wanted.live is None:
        return None
    from segedge.live.address import parse_address
    from segedge.live.view import LiveView

    address = parse_address(wanted.live)
    title = f"segedge: {wanted.model.stem}"
    view = LiveView(address.host, address.port, token=wanted.token, title=title)
    opened.callback(view.close)
    return view


def _warm_up(
    segmenter: Segmenter | CudaSegmenter,
    sources: Sequence[SourceInfo],
    needs: Sequence[frozenset[str]],
    analyses: Sequence[Analysis],
) -> None:
    """Compile the kernels before the clock runs: seconds on the first use of an installation."""
    import numpy as np

    from segedge.card.geometry import Size
    from segedge.frames.frame import Frame

    console = err()
    sizes = [Size(*info.size) if info.size else segmenter.card.input_size for info in sources]
    with ExitStack() as shown:
        if console.is_terminal:
            shown.enter_context(console.status("preparing (the first time takes some seconds)"))
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
    wanted: options.RunOptions,
    segmenter: Segmenter | CudaSegmenter,
    sources: Sequence[Source],
    sinks: Sequence[list[Sink]],
    places: Sequence[list[str]],
    view: LiveView | None,
) -> tuple[tuple[RunReport, ...], list[SegedgeError]]:
    """The run itself, with its display; the reports, and the errors of sources of several."""
    from segedge.pipeline.runner import Lane, MultiPipeline, Watch

    labels = source_labels(wanted.sources)
    lanes, live_sinks = [], []
    for source, own, names, label in zip(sources, sinks, places, labels, strict=True):
        extra: list[Sink] = []
        if view is not None:
            description = segmenter.backend.description
            live_sink = view.sink(label, model=wanted.model.name, backend=description)
            live_sinks.append(live_sink)
            extra = [live_sink]
        names = [*names, *(["live view"] if extra else [])]
        lanes.append(
            Lane(
                source,
                [*own, *extra],
                policy=wanted.policy,
                sink_names=names,
                is_sequence=True if wanted.smooth_images else None,
            )
        )

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
            fail_fast=wanted.fail_fast,
            watch=Watch(on_progress=on_progress, on_sample=publish),
        )
        reports = _run_until_end(pipeline, lanes, wanted.seconds)
    errors = [lane.error for lane in lanes if isinstance(lane.error, SegedgeError)]
    return reports, errors


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
        kept = [
            path for lane in lanes if lane.report for path in lane.report.paths if path.is_file()
        ]
        if kept:
            error.facts.setdefault("kept", f"{', '.join(map(str, kept))}: the frames before it")
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

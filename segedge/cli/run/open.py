"""What `segedge run` opens: the model, the sources, sinks, view and harvest of the options."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING

from segedge.cli.run.outputs import source_labels

if TYPE_CHECKING:
    from segedge.card.card import ModelCard
    from segedge.cli.run.options import RunOptions
    from segedge.frames.protocols import Analysis, Sink, Source
    from segedge.live.view import LiveView
    from segedge.segment.on_gpu import CudaSegmenter
    from segedge.segment.segmenter import Segmenter

_FEW = 3
"""So many frames are computed in NumPy before Numba and its kernels are loaded."""


def open_sources(wanted: RunOptions, opened: ExitStack) -> list[Source]:
    """All sources, in the order in which they were named; one that fails is said at once."""
    sources = []
    for spec in wanted.sources:
        source = _open_source(wanted, spec)
        opened.callback(source.close)
        sources.append(source)
    return sources


def _open_source(wanted: RunOptions, spec: str) -> Source:
    from segedge.pipeline.limits import LimitedSource
    from segedge.video.sources.open import open_source

    source = open_source(spec, options=wanted.source_options)
    frames, seconds = wanted.flow.frames, wanted.flow.seconds
    if frames is None and seconds is None:
        return source
    return LimitedSource(source, frames=frames, seconds=seconds)


def is_short(sources: Sequence[Source]) -> bool:
    """Whether all is done before kernels would be loaded."""
    counts = [source.info.frame_count for source in sources]
    return sum(math.inf if count is None else count for count in counts) <= _FEW


def open_model(
    wanted: RunOptions, sources: Sequence[Source], opened: ExitStack
) -> Segmenter | CudaSegmenter:
    """The model with all that changes its labels and pictures."""
    from segedge.card.modelfile import require_card
    from segedge.segment.load import load

    given = None if wanted.card is None else require_card(wanted.card)
    segmenter = load(
        wanted.model,
        backend=wanted.backend,
        threads=wanted.threads or None,
        card=given,
        style=wanted.picture.style,
        cleaning=wanted.cleaning.value,
        slide=wanted.slide.value,
        smoothing=wanted.smoothing.value,
        motion=wanted.motion.value,
        **wanted.check.words,
        kernels="none" if is_short(sources) else "beside",
    )
    opened.callback(segmenter.close)
    return segmenter


def open_view(wanted: RunOptions, opened: ExitStack) -> LiveView | None:
    """The page of ``--live``."""
    if wanted.flow.live is None:
        return None
    from segedge.live.address import parse_address
    from segedge.live.view import LiveView

    address = parse_address(wanted.flow.live)
    title = f"segedge: {wanted.model.stem}"
    view = LiveView(address.host, address.port, token=wanted.flow.token, title=title)
    opened.callback(view.close)
    return view


def make_analyses(wanted: RunOptions) -> list[Analysis]:
    """What JSON lines say beyond their usual keys: fresh ones for each sink of each source."""
    from segedge.analyse.regions import RegionsAnalysis

    analyses: list[Analysis] = []
    if wanted.regions:
        analyses.append(RegionsAnalysis(classes=wanted.picture.style.classes))
    return [*analyses, *wanted.analyse.analyses()]


def open_lane_sinks(
    wanted: RunOptions,
    sources: Sequence[Source],
    places: Sequence[Sequence[str]],
    opened: ExitStack,
) -> list[list[Sink]]:
    """The sinks of each source at its places; those opened are closed if a later one is refused."""
    from segedge.video.sinks.open import open_sink

    options = wanted.recording.sink_options(
        lambda: make_analyses(wanted), alpha=wanted.picture.style.effect.traits.alpha
    )
    sinks: list[list[Sink]] = []
    for source, names in zip(sources, places, strict=True):
        own: list[Sink] = []
        for name in names:
            sink = open_sink(name, info=source.info, masks=wanted.picture.masks, options=options)
            opened.callback(sink.close, error=True)  # does nothing after the run has closed it
            own.append(wanted.analyse.drawn(sink))
        sinks.append(own)
    return sinks


def add_harvest(
    wanted: RunOptions,
    card: ModelCard,
    sinks: Sequence[list[Sink]],
    places: Sequence[list[str]],
    opened: ExitStack,
) -> None:
    """One harvest for all sources: a sink more for each of them, where it is wanted."""
    if wanted.harvest.value is None:
        return
    from segedge.harvest.harvest import Harvest

    harvest = Harvest(wanted.harvest.value, card, model=wanted.model.name)
    opened.callback(harvest.close)  # does nothing after the run has closed its sinks
    for label, own, names in zip(source_labels(wanted.sources), sinks, places, strict=True):
        own.append(harvest.sink(label))
        names.append("harvest")

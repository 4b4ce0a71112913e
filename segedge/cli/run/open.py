"""What `segedge run` opens: the sources and sinks that the options name."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from segedge.card.card import ModelCard
    from segedge.cli.run.options import RunOptions
    from segedge.frames.protocols import Analysis, Sink, Source
    from segedge.harvest.options import HarvestOptions


def open_sources(wanted: RunOptions, opened: ExitStack) -> list[Source]:
    """All sources, in the order in which they were named.

    Args:
        wanted: The options.
        opened: Closes them.

    Raises:
        SourceError: One of them cannot be opened: said at once, not in mid-run.
    """
    sources = []
    for spec in wanted.sources:
        source = _open_source(wanted, spec)
        opened.callback(source.close)
        sources.append(source)
    return sources


def _open_source(wanted: RunOptions, spec: str) -> Source:
    from segedge.pipeline.limits import LimitedSource
    from segedge.video.options import SourceOptions, parse_size
    from segedge.video.sources.open import open_source

    options = SourceOptions(
        size=parse_size(wanted.size) if wanted.size else None,
        fps=wanted.source_fps,
        pixel_format=wanted.pixel_format,
        decoder=wanted.decoder,
        pace=wanted.pace,
        reconnect=wanted.reconnect,
        timeout_seconds=wanted.timeout_seconds,
    )
    source = open_source(spec, options=options)
    if wanted.frames is None and wanted.seconds is None:
        return source
    return LimitedSource(source, frames=wanted.frames, seconds=wanted.seconds)


def make_analyses(wanted: RunOptions) -> list[Analysis]:
    """What JSON lines say beyond their usual keys: fresh ones for each sink of each source.

    Args:
        wanted: The options.
    """
    from segedge.analyse.regions import RegionsAnalysis

    analyses: list[Analysis] = []
    if wanted.regions:
        analyses.append(RegionsAnalysis(classes=wanted.style.classes))
    return [*analyses, *wanted.analyse.analyses()]


def open_lane_sinks(
    wanted: RunOptions,
    sources: Sequence[Source],
    places: Sequence[Sequence[str]],
    opened: ExitStack,
) -> list[list[Sink]]:
    """The sinks of each source.

    Args:
        wanted: The options.
        sources: The opened sources.
        places: What each writes to.
        opened: Closes those that were opened when a later one is refused.
    """
    from segedge.cli.options import parse_seconds
    from segedge.video.sinks.open import SinkOptions, open_sink

    segment_seconds = parse_seconds(wanted.segment, option="--segment")
    sinks: list[list[Sink]] = []
    for source, names in zip(sources, places, strict=True):
        options = SinkOptions(
            codec=wanted.codec,
            encoder=wanted.encoder,
            crf=wanted.crf,
            preset=wanted.preset,
            fps=wanted.fps,
            segment_seconds=segment_seconds,
            make_analyses=lambda: make_analyses(wanted),
            alpha=wanted.style.effect.traits.alpha,
        )
        own: list[Sink] = []
        for name in names:
            sink = open_sink(name, info=source.info, masks=wanted.masks, options=options)
            opened.callback(sink.close, error=True)  # does nothing after the run has closed it
            own.append(wanted.analyse.drawn(sink))
        sinks.append(own)
    return sinks


def add_harvest(
    options: HarvestOptions,
    wanted: RunOptions,
    card: ModelCard,
    sinks: Sequence[list[Sink]],
    places: Sequence[list[str]],
    opened: ExitStack,
) -> None:
    """One harvest for all sources: a sink more for each of them.

    Args:
        options: Where it goes, and what is kept.
        wanted: The options of the run.
        card: The model's.
        sinks: The sinks of each source, added to.
        places: What they are called, added to.
        opened: Closes it.
    """
    from segedge.cli.run.outputs import source_labels
    from segedge.harvest.harvest import Harvest

    harvest = Harvest(options, card, model=wanted.model.name)
    opened.callback(harvest.close)  # does nothing after the run has closed its sinks
    for label, own, names in zip(source_labels(wanted.sources), sinks, places, strict=True):
        own.append(harvest.sink(label))
        names.append("harvest")

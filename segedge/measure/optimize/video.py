"""What a video gains where the network of the recommended candidate sees only some frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from segedge.card.card import ModelCard
from segedge.card.geometry import Size
from segedge.errors import UsageError
from segedge.measure.optimize.candidates import Candidate
from segedge.measure.optimize.trial import Say
from segedge.options.motion import Motion
from segedge.pipeline.feed import FrameSegmenter
from segedge.pipeline.runner import Pipeline
from segedge.segment.load import load
from segedge.video.sinks.callable_sink import CallableSink
from segedge.video.sources.open import open_source

EVERY = (1, 2, 4)
"""Frames from one that the network sees to the next; the first is what others are compared with."""


@dataclass(frozen=True)
class VideoRate:
    """One pass over a video, decoded to overlays, without encoding."""

    every: int
    fps: float
    agreement: float | None
    """Of carried labels with the network's, see docs/motion.md; None where nothing was compared."""


def check_video(video: Path, card: ModelCard) -> None:
    """Raise before minutes are spent where there is no video, or no logits to carry."""
    Motion(every=EVERY[-1]).check(card)
    source = open_source(video)
    source.close()
    if source.info.kind != "video":
        raise UsageError(
            f"--video takes a video, and {video.name} is none",
            facts={"found": source.info.kind},
            fix="--video CLIP.mp4, or leave it out",
        )


def video_rates(candidate: Candidate, video: Path, *, say: Say) -> tuple[VideoRate, ...]:
    """The whole video, once for each of `EVERY`."""
    found = []
    for every in EVERY:
        say(f"video       {candidate.name}, every {every}")
        found.append(_rate(candidate, video, every))
    return tuple(found)


def _rate(candidate: Candidate, video: Path, every: int) -> VideoRate:
    motion = None if every == 1 else Motion(every=every)
    with load(candidate.artifact.path, backend=candidate.backend, motion=motion) as segmenter:
        source = open_source(video)
        sink = CallableSink(lambda frame, result: None, needs={"overlay"})
        if source.info.size is not None:
            segmenter.warm_up(Size(*source.info.size), outputs=("overlay",))
        report = Pipeline(source, cast("FrameSegmenter", segmenter), [sink]).run()
    facts: dict[str, Any] = report.motion or {}
    return VideoRate(every, report.fps, facts.get("agreement"))


def rates_text(rates: Sequence[VideoRate]) -> str:
    """``every frame 41.2 fps; every 2: 68.0 fps (1.65 times), 99.1 % agree; ...``."""
    plain, *carried = rates
    parts = [f"every frame {plain.fps:.1f} fps"]
    for rate in carried:
        times = f"{rate.fps / plain.fps:.2f} times" if plain.fps else "-"
        agree = "" if rate.agreement is None else f", {100 * rate.agreement:.1f} % agree"
        parts.append(f"every {rate.every}: {rate.fps:.1f} fps ({times}){agree}")
    return "; ".join(parts)

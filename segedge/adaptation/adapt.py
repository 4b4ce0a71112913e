"""A network fitted to a camera: its unlabelled images in, the same graph with other weights out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from segedge.adaptation.choose import Candidates, best_of, other_classes
from segedge.adaptation.expected import (
    known_statistics,
    measured_statistics,
    no_statistics_error,
)
from segedge.adaptation.frames import FrameFacts, Frames, sample_frames
from segedge.adaptation.options import SHARES, AdaptOptions, AdaptReport, Trial
from segedge.adaptation.unfolded import agreement_with_unfolded
from segedge.card.card import ModelCard
from segedge.card.familiar import FAMILIAR
from segedge.card.modelfile import read_facts, require_card, with_metadata
from segedge.card.proof import PROOF
from segedge.card.records import Adaptation
from segedge.card.statistics import STATISTICS, Statistics
from segedge.convert.onnx_card import check_output
from segedge.convert.proof import prove
from segedge.drift.glance import familiar_of, glance
from segedge.engine.file import is_engine
from segedge.errors import ModelError
from segedge.graph.kit import Model, load_model, session_of, to_bytes
from segedge.graph.typed import precision_of
from segedge.machine.files import write_atomically
from segedge.measure.datasets.datasets import Dataset

Progress = Callable[[str, int, int], None]
"""Called with what is done, how many steps are done, and how many there are."""


def adapt(
    model: str | Path,
    output: str | Path,
    *,
    images: str | Path,
    options: AdaptOptions | None = None,
    dataset: Dataset | None = None,
    progress: Progress | None = None,
) -> AdaptReport:
    """Fit a network to a camera by the statistics of its images: no labels, no training.

    What each normalised channel is on these images is compared with what its layer expects, and
    the difference folded into the layer's weights: the graph, its size and its speed stay. How far
    to go is chosen on frames that were held back. Where that does not help nothing is written.

    Args:
        model: An ``.onnx`` file in float32 with its card.
        output: The ``.onnx`` file to write.
        images: A folder, pattern, video, camera or stream with what the camera sees.
        options: How; None is `AdaptOptions` as it comes.
        dataset: Labelled images of the camera, whose mean IoU decides then; see
            `segedge.measure.datasets.datasets.open_dataset`.
        progress: Called as it goes on.

    Returns:
        What was found, and what was written.

    Raises:
        UsageError: Options that cannot be meant.
        SourceError: There are no images, or they show too little.
        ModelError: The file cannot be adapted: int8, fp16, an engine, no statistics, NaN.
        SinkError: The file cannot be written.
    """
    options, path, target = options or AdaptOptions(), Path(model), Path(output)
    tell = progress or (lambda _what, _done, _total: None)
    card = _card_of(path)
    check_output(target, source=path)
    network = _loaded(path)
    statistics = _statistics(path, network, card, options, tell)
    frames = sample_frames(
        images, card, frames=options.frames, seconds=options.seconds, progress=tell
    )
    with frames:
        frames.require_variety(str(images))
        moving = _counter(tell, "measuring", frames.facts.count)
        candidates = Candidates.of(network, card, statistics, frames, tick=moving)
        trials = _trials(candidates, frames, options, dataset, tell)
        chosen = best_of(trials, asked=options.share)
        facts = frames.facts
        report: dict[str, Any] = {
            "frames": facts.count, "different": facts.different, "constant": facts.constant,
            "images_sha256": facts.sha256, "statistics": statistics.origin,
            "layers": len(candidates.layers), "left": candidates.left,
            "trials": trials, "chosen": chosen,
            "warnings": other_classes(chosen, FAMILIAR.read(read_facts(path).metadata)),
        }  # fmt: skip
        if chosen is trials[0]:
            return AdaptReport(out=None, **report)
        tell("checking", 0, 1)
        adapted = candidates.at(chosen.share)
        agreement = agreement_with_unfolded(candidates, chosen.share, adapted, frames)
        record = _record(facts, statistics, candidates, trials[0], chosen, dataset)
        card = card.replace(adaptation=record, parity=agreement.parity(
            images=facts.count, kind="images", sizes=[card.input_size]))  # fmt: skip
        said = {**STATISTICS.metadata(statistics), **_familiar(adapted, card, frames)}
    _write(target, adapted, card, said, facts)
    tell("done", 1, 1)
    return AdaptReport(out=target, record=record, agreement=agreement.agreement, **report)


def _card_of(path: Path) -> ModelCard:
    """The card of a file that can be adapted."""
    if is_engine(path):
        raise ModelError(
            f"{path.name} is an engine: its weights are compiled in",
            fix="segedge adapt MODEL.onnx, the file it was built from, then segedge build",
        )
    card = require_card(path)
    if card.quantization is not None:
        raise ModelError(
            f"{path.name} is in int8: its ranges are those of the images it was calibrated on",
            fix="segedge adapt FLOAT.onnx --images ..., then segedge quantize the adapted file "
            "with --calibrate on the same images",
        )
    if card.head == "labels":
        raise ModelError(
            f"{path.name} gives labels only: nothing tells how sure it is of them",
            fix="export it again without its ArgMax: --output names the logits",
        )
    return card


def _loaded(path: Path) -> Model:
    """The graph, in float32."""
    model = load_model(path)
    precision = precision_of(model)
    if precision != "f32":
        raise ModelError(
            f"{path.name} is in {'int8' if precision == 'int8' else 'float16'}",
            fix="segedge adapt the float32 file, then convert the adapted one: "
            "segedge build --precision fp16",
        )
    return model


def _statistics(
    path: Path, network: Model, card: ModelCard, options: AdaptOptions, tell: Progress
) -> Statistics:
    """What the layers expect, by the file or by images like those of training."""
    if options.source is None:
        known = known_statistics(network, STATISTICS.read(read_facts(path).metadata))
        if known is None:
            raise no_statistics_error(path, network)
        return known
    source = sample_frames(
        options.source, card, frames=options.frames, seconds=options.seconds, progress=tell
    )
    with source:
        source.require_variety(str(options.source))
        count = source.facts.count
        return measured_statistics(
            network, source.tensors(), origin=f"{count} images",
            tick=_counter(tell, "measuring the source", count),
        )  # fmt: skip


def _trials(
    candidates: Candidates, frames: Frames, options: AdaptOptions, dataset: Dataset | None,
    tell: Progress,
) -> tuple[Trial, ...]:  # fmt: skip
    shares = SHARES if options.share is None else (options.share,)
    trials = candidates.try_shares(shares, frames, tick=_counter(tell, "trying", len(shares) + 1))
    if dataset is None:
        return trials
    tick = _counter(tell, "evaluating", len(trials))
    return candidates.with_miou(trials, dataset, limit=options.limit, tick=tick)


def _counter(tell: Progress, what: str, total: int) -> Callable[[], None]:
    done = 0

    def tick() -> None:
        nonlocal done
        done += 1
        tell(what, done, total)

    return tick


def _record(
    facts: FrameFacts, statistics: Statistics, candidates: Candidates, before: Trial,
    after: Trial, dataset: Dataset | None,
) -> Adaptation:  # fmt: skip
    miou = None
    if before.miou is not None and after.miou is not None:
        miou = (before.miou, after.miou)
    return Adaptation(
        images=facts.count,
        images_sha256=facts.sha256,
        statistics=statistics.origin,
        layers=len(candidates.layers),
        share=after.share,
        information=(before.information, after.information),
        confidence=(before.confidence, after.confidence),
        miou=miou,
        judged_on="" if dataset is None else f"{dataset.name}, {len(dataset)} images",
    )


def _familiar(network: Model, card: ModelCard, frames: Frames) -> dict[str, str]:
    """What the adapted network's answers look like on the camera's frames, as metadata."""
    session, output = session_of(network), card.output or None
    glances = [
        glance(size, thin, session(tensor, output), card)
        for (size, thin), tensor in zip(frames.seen, frames.tensors(), strict=True)
    ]
    return FAMILIAR.metadata(familiar_of(glances, "adapted"))


def _write(
    path: Path, network: Model, card: ModelCard, said: dict[str, str], facts: FrameFacts
) -> None:
    """The adapted file with its card, what it says of itself and a proof, whole or not at all.

    What it expects of its channels is what it expected before: they are brought there.
    """
    data = with_metadata(to_bytes(network), {**card.to_metadata(), **said})
    proof = prove(data, card, levels=facts.levels)
    write_atomically(path, with_metadata(data, PROOF.metadata(proof)), durable=True)

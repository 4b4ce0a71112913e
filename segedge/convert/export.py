"""The whole way from a trained network to one ONNX file that describes itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from segedge.card.card import ModelCard
from segedge.card.familiar import FAMILIAR
from segedge.card.geometry import Size
from segedge.card.modelfile import with_metadata
from segedge.card.proof import PROOF
from segedge.card.records import OwnWay, Provenance
from segedge.card.statistics import STATISTICS
from segedge.convert import parity
from segedge.convert.describe import asked_channels, build_card, enlarging_is_assumed
from segedge.convert.known import Known
from segedge.convert.loaded import Loaded, load_file, load_network
from segedge.convert.mask_head import compared
from segedge.convert.noise import smooth_noise
from segedge.convert.onnx_card import attach_card, check_output, checked_bytes
from segedge.convert.options import ExportOptions, ExportReport, PassReport, Progress
from segedge.convert.original import open_session
from segedge.convert.parity import Network
from segedge.convert.passes.clean import clean
from segedge.convert.passes.compose_masks import compose_masks
from segedge.convert.passes.cut_tail import cut_tail
from segedge.convert.passes.extent import margin_note
from segedge.convert.passes.find_head import find_head
from segedge.convert.passes.head import FoundHead, HeadFacts
from segedge.convert.passes.peculiar import peculiarities
from segedge.convert.passes.simplify import simplify
from segedge.convert.preparation import Preparation
from segedge.convert.proof import Pixels, make_proof, original_witness
from segedge.convert.reading import Reading
from segedge.convert.settle import seeing, settle
from segedge.convert.sources import Source, resolve
from segedge.convert.statistics import kept_statistics
from segedge.convert.way import (
    WAY_IMAGES,
    Levels,
    agrees_more,
    enlarges_in_steps,
    in_steps,
    independent,
    kept_for,
    measure_way,
    require_alike,
    way_noise,
)
from segedge.errors import CardError, ExportError, ParityError, UsageError
from segedge.graph.kit import (
    axis_names,
    image_input,
    infer_shapes,
    opset_of,
    rounds_to_codes,
    to_bytes,
)
from segedge.machine.files import write_atomically
from segedge.reference.agreement import LabelCount
from segedge.version import __version__
from segedge.video.sources.sample import ImageSample, sample_images

_OTHER_SIZES = (
    "usual causes: AdaptiveAvgPool2d(k > 1), grid_sample, position tables of fixed size. "
    "Export without --dynamic size, one file a size"
)
_SEEN = 4
"""Images that a head's values are looked at on, where nothing else says what they are."""
_ASSUMED = (
    "the graph ends at logits of stride {stride} and does not say how the training code enlarges "
    "them: half-pixel is assumed (--half-pixel); --align-corners where it has align_corners=True"
)


@dataclass(frozen=True)
class _Made:
    """A finished file that is not written yet."""

    report: ExportReport
    data: bytes


def export(
    source: Any,
    output: str | Path,
    *,
    options: ExportOptions | None = None,
    progress: Progress | None = None,
    check: Callable[[Path], object] | None = None,
) -> ExportReport:
    """Export a network, cut its tail, measure parity, and write one file with its card.

    Args:
        source: ``package.module:factory``, ``file.py:factory``, a ``.pt2`` program, a TorchScript
            file, a Hugging Face folder, an ``.onnx`` file, or a ``torch.nn.Module``.
        output: The ``.onnx`` file to write. It appears only when all checks have passed.
        options: What the source does not say itself.
        progress: Called before each step.
        check: Looks at the finished file before it has its name, and refuses it by raising:
            `segedge.export` opens it as `segedge.load` does.

    Returns:
        What was done and measured.

    Raises:
        UsageError: Options that cannot be meant.
        CheckpointError: Weights that do not fit.
        CardError: Class names that do not fit the channels.
        ExportError: A network that cannot be exported as asked.
        ParityError: The result does not compute what the original does.
        SinkError: The file cannot be written.
    """
    options, path = options or ExportOptions(), Path(output)
    tell = progress or (lambda _step, _share: None)
    is_file = isinstance(source, (str, Path)) and Path(source).suffix == ".onnx"
    check_output(path, source=Path(source) if is_file and Path(source).exists() else None)
    made = _make(source, path, options, tell)
    if enlarges_in_steps(made.report) and options.keep_tail is None:
        kept = _make(source, path, replace(options, keep_tail=True), tell)
        made = _chosen(made, kept)
    elif enlarges_in_steps(made.report):
        made = _with_note(made, in_steps(made.report.card))
    tell("writing", 0.95)
    write_atomically(path, made.data, durable=True, check=check)
    tell("done", 1.0)
    return made.report


def _chosen(cut: _Made, kept: _Made) -> _Made:
    """Of two ways to end the graph, the one whose labels are more nearly the source's own."""
    if agrees_more(kept.report.card, cut.report.card):
        tail = replace(kept.report.tail, reason="cut, it gives other labels than the source's own")
        kept = replace(kept, report=replace(kept.report, tail=tail))
        return _with_note(kept, kept_for(cut.report.card))
    return cut


def _with_note(made: _Made, note: str) -> _Made:
    return replace(made, report=replace(made.report, notes=(*made.report.notes, note)))


def _make(source: Any, path: Path, options: ExportOptions, tell: Progress) -> _Made:
    """All of an export but writing."""
    tell("loading", 0.0)
    found = resolve(source, options)
    tell("exporting", 0.1)
    loaded = load_file(found, options) if found.kind == "onnx" else load_network(found, options)
    tell("simplifying", 0.4)
    passes = [compose_masks(loaded.model, scale=loaded.masks.scale)] if loaded.masks else []
    passes += simplify(loaded.model)
    tell("cutting the tail", 0.5)
    found_head = find_head(
        loaded.model,
        network=loaded.input.size,
        input_shape=loaded.input.shape,
        keep=options.keep_tail,
        channels=asked_channels(options, loaded.said),
    )
    loaded = replace(
        loaded,
        original=parity.usual_labels(loaded.original, found_head.facts.original),
        exact=parity.usual_labels(loaded.exact, found_head.facts.original),
    )
    found_head = _settled(found_head, loaded, options)
    head = found_head.facts
    passes += [run(loaded.model) for run in (cut_tail(found_head), clean(head.head))]
    infer_shapes(loaded.model)
    statistics = kept_statistics(loaded.model, loaded.statistics)
    prepared = _described(loaded, head, options)
    card = replace(
        prepared.card,
        provenance=_provenance(found, loaded),
        caveats=peculiarities(loaded.model),
    )
    loaded = replace(loaded, notes=(*loaded.notes, *prepared.notes, *head.notes))
    if enlarging_is_assumed(options, loaded.said, head, card.input_size):
        loaded = replace(loaded, notes=(*loaded.notes, _ASSUMED.format(stride=card.stride)))
    tell("checking", 0.6)
    exported, pixels = open_session(to_bytes(loaded.model), loaded.precision), Pixels()
    known = Known(exported, card)
    card, seen = _with_parity(loaded, known, head, card, options, pixels)
    loaded = replace(loaded, notes=(*loaded.notes, *seen))
    attach_card(loaded.model, card)
    data = checked_bytes(loaded.model)
    tell("proving", 0.9)
    with suppress(CardError):  # it says labels that are none of its classes: nothing to compare
        proof = make_proof(
            original_witness(loaded.exact, exported, card, head), exported, card,
            graph=data, name=loaded.witness, precision=loaded.precision, levels=pixels.levels,
        )  # fmt: skip
        data = with_metadata(data, PROOF.metadata(proof))
    if statistics is not None:
        data = with_metadata(data, STATISTICS.metadata(statistics))
    if known.familiar is not None:
        data = with_metadata(data, FAMILIAR.metadata(known.familiar))
    report = _report(path, found, loaded, head, card, passes, len(data))
    return _Made(replace(report, prepared=prepared.origins), data)


def _settled(found: FoundHead, loaded: Loaded, options: ExportOptions) -> FoundHead:
    """The head with what its values say, and refused where it does not lie over its input."""
    card = _described(loaded, found.facts, options).card

    def images() -> Iterable[parity.Image]:
        sample = _sample(options)
        return islice(sample.pixels(), _SEEN) if sample else smooth_noise(card.input_size, _SEEN)

    found = settle(found, card, seeing(loaded.original, images, card), options.threshold)
    facts = found.facts
    if not any("Resize" in step for step in facts.tail.removed):
        note = margin_note(found.end, facts.grid, card.input_size)
        found = replace(found, facts=replace(facts, notes=(*facts.notes, *filter(None, [note]))))
    return found


def _described(loaded: Loaded, head: HeadFacts, options: ExportOptions) -> Preparation:
    return build_card(
        options,
        loaded.said,
        head,
        size=loaded.input.size,
        input_layout=loaded.input.layout,
        provenance=Provenance(),
        mask_scale=loaded.masks.scale if loaded.masks else None,
    )


def adopt(
    path: str | Path,
    output: str | Path,
    *,
    options: ExportOptions | None = None,
    progress: Progress | None = None,
) -> ExportReport:
    """Give an existing ONNX file a card and cut its tail; `export` for ``.onnx`` files only.

    Raises:
        UsageError: The path is no ``.onnx`` file.
        SegedgeError: As `export`.
    """
    if Path(path).suffix.lower() != ".onnx":
        raise UsageError(f"{path} is no .onnx file", fix="segedge.convert.export takes the others")
    return export(path, output, options=options, progress=progress)


def _provenance(source: Source, loaded: Loaded) -> Provenance:
    return Provenance(
        source=source.name,
        checkpoint_sha256=source.sha256,
        torch=loaded.torch,
        exporter=f"{loaded.exporter}, opset {opset_of(loaded.model)}",
        segedge=__version__,
    )


def _with_parity(
    loaded: Loaded, known: Known, head: HeadFacts, card: ModelCard, options: ExportOptions,
    pixels: Pixels,
) -> tuple[ModelCard, tuple[str, ...]]:  # fmt: skip
    """Measure at the exported size and, where the size may vary, at others; note it in the card.

    What the original's values say besides comes with it.
    """
    sample, exported = _sample(options), known.network
    if sample:
        images = known.passing(pixels.passing(sample.pixels()))
    else:
        images = iter(smooth_noise(card.input_size))
    way, levels = None, Levels()
    head, wanted = compared(loaded.masks, head)
    prepare = independent(card) if loaded.way is None else None
    reading = None if head.limit is None and head.head == "logits" else Reading()
    count, result = parity.compare(
        loaded.original, known, images, card=card, head=head, levels=levels,
        reading=reading, prepare=prepare.tensor if prepare else None,
        is_coded=rounds_to_codes(loaded.model),
    )  # fmt: skip
    parity.require_agreement(result, card, images=count, wanted=wanted)
    notes = reading.require(head, card) if reading is not None else ()
    if prepare is not None:
        levels.require(card, prepare.name)
        way = OwnWay(prepare.name, levels=levels.most)
    elif loaded.way is not None:
        follows = loaded.said.folder is not None and bool(loaded.said.folder.follows_frame)
        images = islice(sample.pixels(), WAY_IMAGES) if sample else way_noise(card, follows)
        way, levels = measure_way(loaded.way, exported, images, card)
        if not options.overrides_preprocessing:
            levels.require(card, way.name)
            if sample:  # grey or smooth images hide swapped colours, and places a pixel off
                require_alike(loaded.way, next(way_noise(card, follows)), card)
    sizes = [card.input_size]
    if "batch" in options.dynamic:
        parity.require_batch(exported, list(smooth_noise(card.input_size)), card)
    if "size" in options.dynamic:
        for size in parity.untraced_sizes(card.input_size, card.stride):
            result += _at_untraced_size(loaded.original, exported, size, sample, card, head, wanted)
            sizes.append(size)
    measured = result.parity(images=count, kind="images" if sample else "noise", sizes=sizes)
    return replace(card, parity=replace(measured, way=way)), notes


def _sample(options: ExportOptions) -> ImageSample | None:
    """The images that the user verifies on."""
    if not options.verify:
        return None
    return sample_images([options.verify], limit=options.verify_images, option="--verify")


def _at_untraced_size(
    original: Network,
    exported: Network,
    size: Size,
    sample: ImageSample | None,
    card: ModelCard,
    head: HeadFacts,
    wanted: float,
) -> LabelCount:
    """Compare at a size that the exporter has not seen; refuse the export where they differ."""
    images = islice(sample.pixels(), 2) if sample else smooth_noise(size, 2)
    there = replace(card, input_height=size.height, input_width=size.width)
    try:
        count, result = parity.compare(original, exported, images, card=there, head=head)
        parity.require_agreement(result, there, images=count, wanted=wanted)
        return result
    except ParityError as error:
        raise ParityError(
            "the network is not the same at sizes it was not traced at",
            facts={"traced": str(card.input_size), f"at {size}": error.facts["agreement"]},
            fix=_OTHER_SIZES,
        ) from error
    except ExportError as error:
        raise ExportError(
            "the network does not run at sizes it was not traced at",
            facts={"traced": str(card.input_size), f"at {size}": error.facts.get("says", "")},
            fix=_OTHER_SIZES,
        ) from error


def _report(
    path: Path,
    source: Source,
    loaded: Loaded,
    head: HeadFacts,
    card: ModelCard,
    passes: list[PassReport],
    size_bytes: int,
) -> ExportReport:
    model = loaded.model
    return ExportReport(
        path=path,
        card=card,
        kind=source.kind,
        input_shape=axis_names(image_input(model)),
        output_shape=axis_names(model.graph.outputs[0]),
        channels=head.channels or len(card.classes),
        opset=opset_of(model),
        nodes=len(model.graph),
        nodes_before=loaded.nodes,
        size_bytes=size_bytes,
        tail=head.tail,
        passes=tuple(passes),
        checkpoint=source.checkpoint,
        notes=loaded.notes,
    )


__all__ = ["adopt", "export"]

"""The whole way from a trained network to one ONNX file that describes itself."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from segedge.card.axes import rows_axis
from segedge.card.card import ModelCard, OwnWay, Provenance
from segedge.card.dialects import image_size
from segedge.card.familiar import FAMILIAR
from segedge.card.geometry import Size
from segedge.card.modelfile import ModelFacts, with_metadata
from segedge.card.proof import PROOF, FilePrecision
from segedge.card.statistics import STATISTICS, Statistics
from segedge.convert import parity
from segedge.convert.describe import Said, asked_channels, build_card, enlarging_is_assumed
from segedge.convert.known import Known
from segedge.convert.mask_head import MaskHead, choose_outputs, compared, originals
from segedge.convert.noise import smooth_noise
from segedge.convert.onnx_card import attach_card, check_output, checked_bytes
from segedge.convert.onnx_file import (
    InputFacts,
    chosen_form,
    load_onnx,
    output_specs,
    prepare_input,
)
from segedge.convert.options import ExportOptions, ExportReport, PassReport, Progress
from segedge.convert.original import Original, open_session, precision_of
from segedge.convert.parity import Network
from segedge.convert.passes.clean import clean
from segedge.convert.passes.compose_masks import compose_masks
from segedge.convert.passes.cut_tail import cut_tail
from segedge.convert.passes.find_head import HeadFacts, find_head
from segedge.convert.passes.graph import (
    Model,
    axis_names,
    image_input,
    infer_shapes,
    opset_of,
    rounds_to_codes,
    to_bytes,
)
from segedge.convert.passes.peculiar import peculiarities
from segedge.convert.passes.simplify import simplify
from segedge.convert.passes.usual_input import InputForm
from segedge.convert.passes.usual_output import usual_output
from segedge.convert.proof import Pixels, make_proof, original_witness, runtime_name
from segedge.convert.sources import Source, resolve
from segedge.convert.statistics import batch_norms, kept_statistics
from segedge.convert.way import (
    IN_STEPS,
    WAY_IMAGES,
    Labelling,
    Levels,
    enlarges_in_steps,
    independent,
    measure_way,
    way_noise,
)
from segedge.errors import CardError, ExportError, ParityError, UsageError
from segedge.machine.files import write_atomically
from segedge.reference.agreement import LabelCount
from segedge.version import __version__
from segedge.video.sources.sample import ImageSample, sample_images

_OTHER_SIZES = (
    "usual causes: AdaptiveAvgPool2d(k > 1), grid_sample, position tables of fixed size. "
    "Export without --dynamic size, one file a size"
)
_ASSUMED = (
    "the graph ends at logits of stride {stride} and does not say how the training code enlarges "
    "them: half-pixel is assumed (--half-pixel); --align-corners where it has align_corners=True"
)


@dataclass(frozen=True)
class _Loaded:
    """A source as a graph, beside the original to compare with."""

    model: Model
    original: Network
    exact: Network
    """What the file must compute, as slowly as it takes to compute that and nothing else."""
    witness: str
    """Who computes that."""
    input: InputFacts
    said: Said
    masks: MaskHead | None
    """How masks become classes of pixels, where it classifies such. ``original`` gives the labels
    of the network's own post-processing then."""
    nodes: int
    torch: str
    exporter: str
    statistics: Statistics
    """What its normalisations expect; of some values that the finished graph has no more."""
    notes: tuple[str, ...]
    way: Labelling | None = None
    """The source's own way from an image to labels."""
    precision: FilePrecision = "f32"
    """What the graph's own types say."""


def export(
    source: Any,
    output: str | Path,
    *,
    options: ExportOptions | None = None,
    progress: Progress | None = None,
) -> ExportReport:
    """Export a network, cut its tail, measure parity, and write one file with its card.

    Args:
        source: ``package.module:factory``, ``file.py:factory``, a ``.pt2`` program, a TorchScript
            file, a Hugging Face folder, an ``.onnx`` file, or a ``torch.nn.Module``.
        output: The ``.onnx`` file to write. It appears only when all checks have passed.
        options: What the source does not say itself.
        progress: Called before each step.

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
    tell("loading", 0.0)
    found = resolve(source, options)
    tell("exporting", 0.1)
    loaded = _load_onnx(found, options) if found.kind == "onnx" else _export(found, options)
    tell("simplifying", 0.4)
    passes = [compose_masks(loaded.model, scale=loaded.masks.scale)] if loaded.masks else []
    passes += simplify(loaded.model)
    tell("cutting the tail", 0.5)
    found_head = find_head(
        loaded.model,
        network=loaded.input.size,
        input_shape=loaded.input.shape,
        keep=options.keep_tail,
    )
    head = found_head.facts
    loaded = replace(
        loaded,
        original=parity.usual_labels(loaded.original, head.original),
        exact=parity.usual_labels(loaded.exact, head.original),
    )
    passes += [run(loaded.model) for run in (cut_tail(found_head), clean(head.head))]
    infer_shapes(loaded.model)
    statistics = kept_statistics(loaded.model, loaded.statistics)
    card = build_card(
        options,
        loaded.said,
        head,
        size=loaded.input.size,
        input_layout=loaded.input.layout,
        provenance=_provenance(found, loaded),
        mask_scale=loaded.masks.scale if loaded.masks else None,
    )
    card = replace(card, caveats=peculiarities(loaded.model))
    if enlarging_is_assumed(options, loaded.said, head, card.input_size):
        loaded = replace(loaded, notes=(*loaded.notes, _ASSUMED.format(stride=card.stride)))
    tell("checking", 0.6)
    exported, pixels = open_session(to_bytes(loaded.model), loaded.precision), Pixels()
    known = Known(exported, card)
    card = _with_parity(loaded, known, head, card, options, pixels)
    if head.tail.cut and enlarges_in_steps(card):
        loaded = replace(loaded, notes=(*loaded.notes, IN_STEPS))
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
    tell("writing", 0.95)
    write_atomically(path, data, durable=True)
    tell("done", 1.0)
    return _report(path, found, loaded, head, card, passes, len(data))


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


def _export(source: Source, options: ExportOptions) -> _Loaded:
    """Run torch's exporter on the main head."""
    network, size = source.network, options.size or source.size
    assert network is not None
    if size is None:
        why = source.folder.follows_frame if source.folder else ""
        raise UsageError(
            f"the input size of {source.name} is not known",
            facts={"its processor": f"follows the frame's size: {why}"} if why else {},
            fix="give it: --size HxW",
        )
    if source.kind == "program" and source.size not in (None, size):
        raise UsageError(
            f"{source.name} is fixed at another size",
            facts={"asked": str(size), "found": str(source.size)},
            fix="leave --size out, or export the program again at that size",
        )
    said = Said(folder=source.folder)
    outputs = network.outputs(size)
    masks, chosen = choose_outputs(
        outputs, options, source=source.name, channels=asked_channels(options, said),
        summed_at=source.summed_at, largest=True,
    )  # fmt: skip
    network.select(*chosen)
    model = network.to_onnx(size, opset=options.opset, dynamic=options.dynamic)
    original, exact = originals(masks, network.run, network.run, rows_axis=2)
    notes = []
    if len(outputs) > len(chosen):
        taken = " and ".join(str(outputs[index]) for index in chosen)
        notes.append(f"took output {taken} of {len(outputs)}")
    written = opset_of(model)
    if written != options.opset:
        notes.append(f"opset {options.opset} was asked for, torch's exporter wrote {written}")
    return _Loaded(
        model=model,
        original=original,
        exact=exact,
        witness=f"PyTorch {network.version}",
        input=InputFacts(InputForm("nchw", 3, 1, "float32"), size, options.dynamic, ()),
        said=said,
        masks=masks,
        nodes=len(model.graph),
        torch=network.version,
        exporter=f"torch.onnx {'script' if source.kind == 'torchscript' else 'dynamo'}",
        statistics=Statistics.of("BatchNorm", network.expected),
        notes=tuple(notes),
        way=source.way,
    )


def _load_onnx(source: Source, options: ExportOptions) -> _Loaded:
    """Load an ONNX file, choose its main output, and make both ends of it the usual ones."""
    assert source.path is not None
    model, facts = load_onnx(source.path)
    carried = STATISTICS.read(facts.metadata) or Statistics.of("BatchNorm", {})
    nodes = len(model.graph)
    card = ModelCard.from_metadata(facts.metadata)
    given = prepare_input(
        model,
        source.name,
        size=options.size,
        suggested=card.input_size if card else image_size(facts.metadata),
        dynamic=options.dynamic,
    )
    said = Said(card=card, metadata=facts.metadata, form=given.form)
    channels = asked_channels(options, said)
    masks, indices = choose_outputs(
        output_specs(model, given.size, channels), options, source=source.name, channels=channels
    )
    chosen = [model.graph.outputs[index] for index in indices]
    model.graph.outputs[:] = chosen
    form = None if masks else chosen_form(model, given, channels)
    if form is not None:
        usual_output(form)(model)
    precision = precision_of(model)
    theirs = Original(source.path, tuple(str(one.name) for one in chosen), given.form, form)
    original, exact = originals(
        masks,
        theirs.run(precision, optimise=True),
        theirs.run(precision, optimise=False),
        rows_axis=rows_axis(given.layout),
    )
    return _Loaded(
        model=model,
        original=original,
        exact=exact,
        witness=runtime_name(),
        input=given,
        said=said,
        masks=masks,
        nodes=nodes,
        torch="",
        exporter=facts.producer,
        statistics=Statistics.of(carried.origin, {**carried.expected, **batch_norms(model)}),
        notes=(*given.notes, *_opset_note(options, facts)),
        precision=precision,
    )


def _opset_note(options: ExportOptions, facts: ModelFacts) -> tuple[str, ...]:
    """An adopted file keeps its operator set; say so where another was asked for."""
    if options.opset in (ExportOptions().opset, facts.opset):
        return ()
    return (f"opset {options.opset} was asked for; an adopted file keeps its own, {facts.opset}",)


def _provenance(source: Source, loaded: _Loaded) -> Provenance:
    return Provenance(
        source=source.name,
        checkpoint_sha256=source.sha256,
        torch=loaded.torch,
        exporter=f"{loaded.exporter}, opset {opset_of(loaded.model)}",
        segedge=__version__,
    )


def _with_parity(
    loaded: _Loaded, known: Known, head: HeadFacts, card: ModelCard, options: ExportOptions,
    pixels: Pixels,
) -> ModelCard:  # fmt: skip
    """Measure at the exported size and, where the size may vary, at others; note it in the card."""
    sample, exported = _sample(options), known.network
    if sample:
        images = known.passing(pixels.passing(sample.pixels()))
    else:
        images = iter(smooth_noise(card.input_size))
    way, levels = None, Levels()
    head, wanted = compared(loaded.masks, head)
    prepare = independent(card) if loaded.way is None else None
    count, result = parity.compare(
        loaded.original, known, images, card=card, head=head, levels=levels,
        prepare=prepare.tensor if prepare else None, is_coded=rounds_to_codes(loaded.model),
    )  # fmt: skip
    parity.require_agreement(result, card, images=count, wanted=wanted)
    if prepare is not None:
        levels.require(card, prepare.name)
        way = OwnWay(prepare.name, levels=levels.most)
    elif loaded.way is not None:
        follows = loaded.said.folder is not None and bool(loaded.said.folder.follows_frame)
        images = islice(sample.pixels(), WAY_IMAGES) if sample else way_noise(card, follows)
        way, levels = measure_way(loaded.way, exported, images, card)
        if not options.overrides_preprocessing:
            levels.require(card, way.name)
    sizes = [card.input_size]
    if "batch" in options.dynamic:
        parity.require_batch(exported, list(smooth_noise(card.input_size)), card)
    if "size" in options.dynamic:
        for size in parity.untraced_sizes(card.input_size, card.stride):
            result += _at_untraced_size(loaded.original, exported, size, sample, card, head, wanted)
            sizes.append(size)
    measured = result.parity(images=count, kind="images" if sample else "noise", sizes=sizes)
    return replace(card, parity=replace(measured, way=way))


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
    loaded: _Loaded,
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

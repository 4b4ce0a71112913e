"""A source as a graph, and beside it the original that the finished file is compared with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segedge.card.axes import rows_axis
from segedge.card.card import ModelCard
from segedge.card.dialects import image_size
from segedge.card.modelfile import ModelFacts
from segedge.card.proof import FilePrecision
from segedge.card.statistics import STATISTICS, Statistics
from segedge.convert.describe import asked_channels
from segedge.convert.mask_head import MaskHead, Run, choose_outputs, originals
from segedge.convert.onnx_file import (
    InputFacts,
    chosen_form,
    load_onnx,
    output_specs,
    prepare_input,
)
from segedge.convert.options import ExportOptions
from segedge.convert.original import Original
from segedge.convert.outputs import OutputSpec
from segedge.convert.parity import Network
from segedge.convert.passes.inner_scaling import inner_scaling
from segedge.convert.passes.usual_input import InputForm
from segedge.convert.passes.usual_output import OutputForm, float_outputs, usual_output
from segedge.convert.proof import runtime_name
from segedge.convert.said import Said
from segedge.convert.sources import Source
from segedge.convert.statistics import batch_norms
from segedge.convert.way import Labelling
from segedge.errors import UsageError
from segedge.graph.kit import Model, opset_of
from segedge.graph.typed import precision_of

_WINDOWS = (
    "its processor cuts frames into windows along the longer side: run it with --slide auto "
    "--overlap 0; without, the network sees the middle of each frame only"
)
_FOLLOWS = (
    "its processor follows the frame's size ({why}): this file is for frames that it brings to "
    "{size}, others are stretched to that"
)


@dataclass(frozen=True)
class Loaded:
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


def load_network(source: Source, options: ExportOptions) -> Loaded:
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
    channels = asked_channels(options, said)
    outputs = network.outputs(size, channels)
    masks, chosen = choose_outputs(
        outputs, options, source=source.name, channels=channels, summed_at=source.summed_at
    )
    network.select(*chosen)
    model = network.to_onnx(size, opset=options.opset, dynamic=options.dynamic)
    given = InputFacts(InputForm("nchw", 3, 1, "float32"), size, options.dynamic, ())
    form = None if masks else chosen_form(model, given.shape, size, channels)
    run: Run = network.run
    if form is not None:
        usual_output(form)(model)
        run = partial(_formed, network.run, form)
    original, exact = originals(masks, run, run, rows_axis=2)
    notes = list(_taken(outputs, chosen))
    if source.folder is not None and source.folder.windows:
        notes.append(_WINDOWS)
    if source.folder is not None and source.folder.follows_frame:
        notes.append(_FOLLOWS.format(why=source.folder.follows_frame, size=size))
    written = opset_of(model)
    if written != options.opset:
        notes.append(f"opset {options.opset} was asked for, torch's exporter wrote {written}")
    return Loaded(
        model=model,
        original=original,
        exact=exact,
        witness=f"PyTorch {network.version}",
        input=given,
        said=replace(said, inner=inner_scaling(model)),
        masks=masks,
        nodes=len(model.graph),
        torch=network.version,
        exporter=f"torch.onnx {'script' if source.kind == 'torchscript' else 'dynamo'}",
        statistics=Statistics.of("BatchNorm", network.expected),
        notes=tuple(notes),
        way=source.way,
    )


def load_file(source: Source, options: ExportOptions) -> Loaded:
    """Load an ONNX file, choose its main output, and make both ends of it the usual ones."""
    assert source.path is not None
    model, facts = load_onnx(source.path)
    carried = STATISTICS.read(facts.metadata) or Statistics.of("BatchNorm", {})
    nodes, inner = len(model.graph), inner_scaling(model)
    card = ModelCard.from_metadata(facts.metadata)
    given = prepare_input(
        model,
        source.name,
        size=options.size,
        suggested=card.input_size if card else image_size(facts.metadata),
        dynamic=options.dynamic,
    )
    said = Said(card=card, metadata=facts.metadata, form=given.form, inner=inner)
    channels = asked_channels(options, said)
    outputs = output_specs(model, given.size, channels)
    masks, indices = choose_outputs(outputs, options, source=source.name, channels=channels)
    chosen = [model.graph.outputs[index] for index in indices]
    model.graph.outputs[:] = chosen
    float_outputs(model)
    form = None if masks else chosen_form(model, given.shape, given.size, channels)
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
    return Loaded(
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
        notes=(*given.notes, *_taken(outputs, indices), *_opset_note(options, facts)),
        precision=precision,
    )


def _formed(run: Run, form: OutputForm, tensor: NDArray[np.float32]) -> list[NDArray[Any]]:
    return [form(output) for output in run(tensor)]


def _taken(outputs: Sequence[OutputSpec], chosen: Sequence[int]) -> Iterator[str]:
    """What was chosen among several outputs."""
    if len(outputs) > len(chosen):
        taken = " and ".join(str(outputs[index]) for index in chosen)
        yield f"took output {taken} of {len(outputs)}; --output INDEX|NAME takes another"


def _opset_note(options: ExportOptions, facts: ModelFacts) -> tuple[str, ...]:
    """An adopted file keeps its operator set; say so where another was asked for."""
    if options.opset in (ExportOptions().opset, facts.opset):
        return ()
    return (f"opset {options.opset} was asked for; an adopted file keeps its own, {facts.opset}",)

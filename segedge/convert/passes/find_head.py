"""Where the class logits are at a graph's end, and what stands behind them (DESIGN section 5).

Nothing is guessed: every operator between the class logits and the output must be one whose effect
on the labels is known exactly (`segedge.convert.passes.chain`), and a Resize in front the plain
bilinear one that the runtime's tail computes (`segedge.convert.passes.resize`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from segedge.card.geometry import Size
from segedge.convert.options import TailReport
from segedge.convert.outputs import OutputSpec, image_level_error
from segedge.convert.passes.chain import (
    Link,
    Rounding,
    Shapes,
    TailState,
    describe,
    follow,
    is_code,
    walk_back,
)
from segedge.convert.passes.class_axis import class_axis
from segedge.convert.passes.extent import fits
from segedge.convert.passes.head import TO_FLOAT, FoundHead, HeadFacts, about_zero, one_channel
from segedge.convert.passes.resize import LinearUpsample, linear_upsample
from segedge.errors import ExportError
from segedge.graph.kit import Model, Value, attribute, constant, ir, measure_shapes
from segedge.graph.operators import Operator

_COARSE_LABELS = (
    "the original labels a grid of {grid}: here its logits are enlarged, with finer borders; "
    "--keep-tail takes its labels as they are"
)
_PROBABILITIES = (
    "it ends at probabilities whose enlarging is left to the user, and enlarged logits have other "
    "labels: --cut-tail where they are meant"
)


@dataclass(frozen=True)
class _Wanted:
    """What the source says of its map besides the graph."""

    network: Size
    """The input's size."""
    channels: int | None
    """Classes that were named."""

    def axes(self, value: Value, shape: tuple[int, ...], *, is_output: bool) -> list[int]:
        """Where the classes may be, the likeliest first: what is behind a value may know better."""
        if len(shape) != 4:
            return []
        if is_output:
            return [class_axis(value, shape, self.network, self.channels)]
        try:
            first = class_axis(value, shape, self.network, self.channels)
        except ExportError:  # the operators behind it may know
            first = 1
        return [first, 4 - first]


@dataclass(frozen=True)
class _Ending:
    """A graph's end as it was found."""

    links: tuple[Link, ...]
    """The followed chain, without the Resize."""
    upsample: Link | None
    """The Resize in front of it, where the tail can do it instead."""
    linear: LinearUpsample | None
    """What that Resize is."""
    start: TailState
    """What the chain starts from."""
    final: TailState
    """What the output is."""
    base: Value
    """The value that the graph would end at."""
    reason: str
    """Why not more was recognised."""


def find_head(
    model: Model,
    *,
    network: Size,
    input_shape: Sequence[int],
    keep: bool | None = None,
    channels: int | None = None,
) -> FoundHead:
    """Find the class logits, where the graph that ends there is provably the same network.

    ``input_shape`` has numbers for dynamic axes. ``keep`` leaves the graph and only finds out what
    its output is; None leaves probabilities that the original does not enlarge itself: its users
    enlarge them, which gives other labels than enlarged logits. ``channels`` are the classes that
    were named. What a single channel's threshold is is settled afterwards
    (`segedge.convert.settle`). ExportError: the output is image-level, or no class axis can be made
    out.
    """
    output = model.graph.outputs[0]
    links = walk_back(output)
    inner = [output, *(link.result for link in links), *(link.source for link in links)]
    unique = list({id(value): value for value in inner if not value.is_graph_input()}.values())
    shapes = measure_shapes(model, unique, input_shape)
    shapes.update({v.name: tuple(input_shape) for v in inner if v.is_graph_input()})
    if len(shapes[output.name]) < 3:
        raise image_level_error(OutputSpec(output.name, shapes[output.name]), "the network")
    ending = _recognise(model, links, output, shapes, _Wanted(network, channels))
    reason = ""
    if keep or not _worth_cutting(ending, shapes, output, network):
        reason = "kept as asked" if keep else ending.reason or "there is none: nothing to cut"
    elif keep is None and _is_left_to_enlarge(ending, shapes, network):
        reason = _PROBABILITIES
    if reason:
        return _as_it_is(ending, output, shapes[output.name], reason)
    return _cut(ending, shapes, network)


def _recognise(
    model: Model, links: list[Link], output: Value, shapes: Shapes, wanted: _Wanted
) -> _Ending:
    """Split a chain into its upsample and the rest, and follow it forwards."""
    network = wanted.network
    upsample, linear, reason = None, None, ""
    if links and links[0].node.op_type == "Resize":
        resize, links = links[0], links[1:]
        source, result = shapes[resize.source.name], shapes[resize.result.name]
        found = linear_upsample(
            resize.node, source=source, result=result, network=(network.height, network.width)
        )
        if isinstance(found, str):
            reason = found
        else:
            upsample, linear = resize, found
    # The logits have four axes; how the original itself rounds them stays with them.
    while upsample is None and links and not _may_start(links[0], shapes):
        links = links[1:]
    base = links[0].source if links else output
    if upsample is not None:
        base = upsample.source
    shape = shapes[base.name]
    starts = [linear.class_axis] if linear else wanted.axes(base, shape, is_output=not links)
    for axis in starts if links or linear or not _is_integer(output) else []:
        start = TailState(axis, 4, shape[axis], roundings=_integer_resize(upsample, links))
        final = follow(model, links, start, shapes)
        if isinstance(final, str):
            reason = reason or final
            continue
        plane = (network.height, network.width) if linear else _plane(shape, start)
        if _is_map(final, shapes[output.name], plane):
            links, start, base = _without_leading_transposes(links, start, base, shapes, linear)
            return _Ending(tuple(links), upsample, linear, start, final, base, reason)
    state = _guess_output(output, shapes[output.name], wanted)
    return _Ending((), None, None, state, state, output, reason or "its end was not recognised")


def _may_start(link: Link, shapes: Shapes) -> bool:
    return len(shapes[link.source.name]) == 4 and not is_code(link)


def _integer_resize(upsample: Link | None, links: list[Link]) -> tuple[Rounding, ...]:
    """What a Resize of codes rounds: it is told by a DequantizeLinear right behind it."""
    scale = _codes_behind(upsample, links)
    if not scale:
        return ()
    step = float(np.max(scale[0].constants[0]))
    return (Rounding("", step, (-np.inf,), (np.inf,)),)


def _codes_behind(upsample: Link | None, links: Sequence[Link]) -> tuple[Operator, ...]:
    """The DequantizeLinear that makes numbers of an upsample's codes, to be put in front of it."""
    node = links[0].node if upsample is not None and links else None
    if node is None or node.op_type != "DequantizeLinear":
        return ()
    constants = [constant(value) for value in node.inputs[1:]]
    given = tuple(array for array in constants if array is not None)
    return (Operator("DequantizeLinear", given, {"axis": attribute(node, "axis", 1)}),)


def _is_map(final: TailState, shape: tuple[int, ...], plane: tuple[int, int]) -> bool:
    """Whether an output has a value, or one a class, for each place of a plane."""
    if not (
        final.labels or final.channels == 1 or (final.rank == 4 and final.class_axis in (1, 3))
    ):
        return False
    places = [n for axis, n in enumerate(shape) if axis != final.class_axis and n != 1]
    return places == [n for n in plane if n != 1]


def _without_leading_transposes(
    links: list[Link],
    start: TailState,
    base: Value,
    shapes: Mapping[str, tuple[int, ...]],
    linear: LinearUpsample | None,
) -> tuple[list[Link], TailState, Value]:
    """Keep a Transpose in the graph that turns channels-last logits into NCHW ones."""
    first = links[0].node if links else None
    if linear is None and start.class_axis == 3 and first is not None:
        perm = first.attributes.get("perm") if first.op_type == "Transpose" else None
        if perm is not None and tuple(perm.value) == (0, 3, 1, 2):
            moved = links[0].result
            return links[1:], replace(start, class_axis=1, channels=shapes[moved.name][1]), moved
    return links, start, base


def _guess_output(output: Value, shape: tuple[int, ...], wanted: _Wanted) -> TailState:
    """What an output behind an unknown operator is, by its type and shape alone."""
    if _is_integer(output) and (len(shape) != 4 or 1 in shape[1:]):
        return TailState(None, len(shape), 0, labels=True)
    if len(shape) == 3 and fits(shape[1:], wanted.network):
        is_labels = wanted.channels is not None and wanted.channels > 2
        return TailState(None, 3, int(not is_labels), labels=is_labels)
    if len(shape) != 4:
        raise ExportError(
            f"output {output.name} has no class axis",
            facts={
                "found": str(OutputSpec(output.name, shape)),
                "expected": "logits (N, classes, H/stride, W/stride) or integer labels (N, H, W)",
            },
        )
    axis = wanted.axes(output, shape, is_output=True)[0]
    return TailState(axis, 4, shape[axis])


def _is_integer(output: Value) -> bool:
    return output.dtype is not None and not output.dtype.is_floating_point()


def _worth_cutting(ending: _Ending, shapes: Shapes, output: Value, network: Size) -> bool:
    """Whether cutting removes work; labels of full size that the network makes itself stay."""
    if ending.upsample is not None:
        return True
    if not ending.final.labels:
        return any(link.node.op_type not in ("Identity", "Cast") for link in ending.links)
    size = (network.height, network.width)
    plane = _plane(shapes[ending.base.name], ending.start)
    return bool(ending.links) and (plane != size or shapes[output.name][-2:] != size)


def _is_left_to_enlarge(ending: _Ending, shapes: Shapes, network: Size) -> bool:
    """Whether the original ends at probabilities of a coarser grid than its input."""
    final, plane = ending.final, _plane(shapes[ending.base.name], ending.start)
    is_coarse = ending.upsample is None and plane != (network.height, network.width)
    return is_coarse and final.activation in ("sigmoid", "softmax") and not final.labels


def _plane(shape: tuple[int, ...], state: TailState) -> tuple[int, int]:
    """Rows and columns of a value with four axes."""
    return (shape[2], shape[3]) if state.class_axis == 1 else (shape[1], shape[2])


def _cut(ending: _Ending, shapes: Shapes, network: Size) -> FoundHead:
    """The graph ends at the base value."""
    final, start, base = ending.final, ending.start, ending.base
    activation = _activation_before(base)
    shift = final.threshold or 0.0
    negated = final.written[1] < final.written[0]
    grid = Size(*_plane(shapes[base.name], start))
    names = [str(ending.linear)] if ending.linear else []
    removed = (*names, *describe(list(ending.links)))
    is_coarse = ending.linear is None and grid != network and final.labels
    full = start.channels * network.height * network.width * 4
    facts = HeadFacts(
        head="logits",
        layout="nchw" if start.class_axis == 1 else "nhwc",
        channels=start.channels,
        grid=grid,
        align_corners=bool(ending.linear and ending.linear.align_corners),
        probabilities=bool(activation),
        original=replace(final, activation=final.activation or activation),
        tail=TailReport(
            cut=bool(removed),
            removed=removed,
            saved_bytes=full if ending.linear else 0,
            reason=ending.reason or ("" if removed else "only axes and types are put in order"),
        ),
        shift=shift,
        negated=negated,
        notes=(_COARSE_LABELS.format(grid=grid),) if is_coarse else (),
    )
    behind = (*_codes_behind(ending.upsample, ending.links), *about_zero(shift, negated=negated))
    return FoundHead(facts, base, behind, shapes[base.name])


def _as_it_is(ending: _Ending, output: Value, shape: tuple[int, ...], reason: str) -> FoundHead:
    """The facts of an output that is left alone."""
    final = ending.final
    tail = TailReport(cut=False, reason=reason)
    is_truth = output.dtype == ir().DataType.BOOL
    if final.labels:
        known = ending.start.channels if ending.links or ending.upsample else None
        grid = Size(*(shape[1:3] if _ends_with_one(shape) else shape[-2:]))
        facts = HeadFacts(
            "labels", "nchw", 1 if is_truth else known, grid, False, False, final, tail
        )
        return FoundHead(facts, output, _usual_labels(final, output, shape, is_truth))
    is_squeezed = final.channels == 1 and final.rank == len(shape) == 3
    if not is_squeezed and (final.class_axis not in (1, 3) or final.rank != 4):
        raise ExportError(
            "the output has no class axis", fix="export without --keep-tail, or change the head"
        )
    activation = final.activation or _activation_before(output)
    is_codes = _is_integer(output)
    behind = one_channel(shape[2]) if is_squeezed else ()
    facts = HeadFacts(
        head="logits",
        layout="nhwc" if final.class_axis == 3 else "nchw",
        channels=final.channels,
        grid=Size(*(shape[1:] if is_squeezed else _plane(shape, final))),
        align_corners=False,
        probabilities=bool(activation) or is_codes,
        original=replace(final, activation=activation),
        tail=tail,
    )
    return FoundHead(facts, output, (*behind, *(TO_FLOAT if is_codes else ())))


def _usual_labels(
    final: TailState, output: Value, shape: tuple[int, ...], is_truth: bool
) -> tuple[Operator, ...]:
    """Labels are numbers from 0 on: thresholds give truth values, and others write 0 and 255.

    Where classes were the last axis, an axis of one is left there, which goes.
    """
    if _ends_with_one(shape):
        squeezed = Operator("Reshape", (np.zeros(3, np.int64),))
        return (squeezed, *_usual_labels(final, output, shape[:3], is_truth))
    to_bytes = Operator("Cast", attributes={"to": int(ir().DataType.UINT8)})
    if final.threshold is None and output.dtype is not None and output.dtype.is_floating_point():
        return (Operator("Cast", attributes={"to": int(ir().DataType.INT32)}),)
    if is_truth:
        return (to_bytes,)
    if final.threshold is not None and final.written != (0, 1):
        return (Operator("Equal", (np.array(max(final.written)),)), to_bytes)
    return ()


def _ends_with_one(shape: tuple[int, ...]) -> bool:
    """Whether labels are N x H x W x 1."""
    return len(shape) == 4 and shape[3] == 1 and shape[1] != 1


def _activation_before(value: Value) -> str:
    """softmax, log_softmax or sigmoid, where the value is one's result; else empty."""
    while (node := value.producer()) is not None:
        if node.op_type in ("Sigmoid", "Softmax", "LogSoftmax"):
            return "log_softmax" if node.op_type == "LogSoftmax" else str(node.op_type).lower()
        if node.op_type not in ("Identity", "Cast", "Transpose", "Resize"):
            break
        value = node.inputs[0]
    return ""

"""Cutting the tail: the final upsample, softmax and argmax leave the graph (DESIGN section 5).

The pass never guesses. Its precondition is that every operator between the class logits and the
output is one whose effect on the labels is known exactly (`segedge.convert.passes.chain`) and that
a Resize in front is the plain bilinear one that the runtime's tail computes
(`segedge.convert.passes.resize`). Its effect is that the graph ends at the logits; its
postcondition is that the tail's labels are those of the original, which the parity check measures
afterwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from segedge.card.axes import Layout
from segedge.card.card import Head
from segedge.card.geometry import Size
from segedge.convert.options import TailReport
from segedge.convert.outputs import OutputSpec, image_level_error
from segedge.convert.passes.chain import Link, TailState, describe, follow, walk_back
from segedge.convert.passes.graph import Model, Value, drop_dead, ir, measure_shapes
from segedge.convert.passes.resize import LinearUpsample, linear_upsample
from segedge.errors import ExportError


@dataclass(frozen=True)
class HeadFacts:
    """What the graph's output is after the pass, and what the original's was."""

    head: Head
    """logits, or labels already."""
    layout: Layout
    """Axis order of the logits."""
    channels: int | None
    """Class channels; None for labels of which nothing more is known."""
    grid: Size
    """Rows and columns of the output."""
    align_corners: bool
    """How the grid lies on the input."""
    probabilities: bool
    """Whether the output is probabilities rather than logits: an activation stayed inside."""
    original: TailState
    """What the original's output is."""
    tail: TailReport
    """What was removed."""


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


def cut_tail(
    model: Model, *, network: Size, input_shape: Sequence[int], keep: bool = False
) -> HeadFacts:
    """End the graph at its class logits, in place, where that is provably the same network.

    ``input_shape`` has numbers for dynamic axes. ``keep`` leaves the graph and only finds out what
    its output is. ExportError: the output is image-level, or no class axis can be made out.
    """
    output = model.graph.outputs[0]
    links = walk_back(output)
    inner = [output, *(link.result for link in links), *(link.source for link in links)]
    unique = list({id(value): value for value in inner if not value.is_graph_input()}.values())
    shapes = measure_shapes(model, unique, input_shape)
    shapes.update({v.name: tuple(input_shape) for v in inner if v.is_graph_input()})
    if len(shapes[output.name]) < 3:
        raise image_level_error(OutputSpec(output.name, shapes[output.name]), "the network")
    ending = _recognise(model, links, output, shapes, network)
    if keep or not _worth_cutting(ending, shapes, output, network):
        reason = "kept as asked" if keep else ending.reason or "there is none: nothing to cut"
        return _as_it_is(model, ending, shapes[output.name], reason)
    return _cut(model, ending, shapes, network)


def _recognise(
    model: Model,
    links: list[Link],
    output: Value,
    shapes: dict[str, tuple[int, ...]],
    network: Size,
) -> _Ending:
    """Split a chain into its upsample and the rest, and follow it forwards."""
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
    base = links[0].source if links else output
    if upsample is not None:
        base = upsample.source
    shape = shapes[base.name]
    starts = [linear.class_axis] if linear else [1, 3]
    for axis in starts if len(shape) == 4 else []:
        start = TailState(axis, 4, shape[axis])
        final = follow(model, links, start)
        if isinstance(final, str):
            reason = reason or final
        elif final.labels or final.class_axis in (1, 3) or (final.channels == 1):
            if linear is None and not links and axis == 1 and _looks_nhwc(shape, network):
                continue
            links, start, base = _without_leading_transposes(links, start, base, shapes, linear)
            return _Ending(tuple(links), upsample, linear, start, final, base, reason)
    state = _guess_output(output, shapes[output.name], network)
    return _Ending((), None, None, state, state, output, reason or "its end was not recognised")


def _looks_nhwc(shape: tuple[int, ...], network: Size) -> bool:
    """A full-size map whose channels can only be the last axis."""
    size = (network.height, network.width)
    return shape[1:3] == size and shape[2:4] != size


def _without_leading_transposes(
    links: list[Link],
    start: TailState,
    base: Value,
    shapes: dict[str, tuple[int, ...]],
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


def _guess_output(output: Value, shape: tuple[int, ...], network: Size) -> TailState:
    """What an output behind an unknown operator is, by its type and shape alone."""
    integers = not output.dtype.is_floating_point() if output.dtype is not None else False
    if integers:
        return TailState(None, len(shape), 0, labels=True)
    if len(shape) != 4:
        raise ExportError(
            f"output {output.name} has no class axis",
            facts={
                "found": str(OutputSpec(output.name, shape)),
                "expected": "logits (N, classes, H/stride, W/stride) or integer labels (N, H, W)",
            },
        )
    axis = 3 if _looks_nhwc(shape, network) else 1
    return TailState(axis, 4, shape[axis])


def _worth_cutting(
    ending: _Ending, shapes: dict[str, tuple[int, ...]], output: Value, network: Size
) -> bool:
    """Whether cutting removes work; labels of full size that the network makes itself stay."""
    if ending.upsample is not None:
        return True
    if not ending.links:
        return False
    if not ending.final.labels:
        return bool(describe(list(ending.links))) or ending.final.class_axis is None
    size = (network.height, network.width)
    return (
        _plane(shapes[ending.base.name], ending.start) != size or shapes[output.name][-2:] != size
    )


def _plane(shape: tuple[int, ...], state: TailState) -> tuple[int, int]:
    """Rows and columns of a value with four axes."""
    return (shape[2], shape[3]) if state.class_axis == 1 else (shape[1], shape[2])


def _cut(
    model: Model, ending: _Ending, shapes: dict[str, tuple[int, ...]], network: Size
) -> HeadFacts:
    """End the graph at the base value, and drop what is behind."""
    before = len(model.graph)
    rows, columns = _plane(shapes[ending.base.name], ending.start)
    final, activation = ending.base, _activation_before(ending.base)
    if ending.start.channels == 1 and activation == "sigmoid":
        final = _minus_half(model, ending.base)
    model.graph.outputs[:] = [final]
    drop_dead(model)
    if len(model.graph) > before:
        raise ExportError("the cut made the graph larger: a bug in segedge")
    removed = [str(ending.linear)] if ending.linear else []
    full = ending.start.channels * network.height * network.width * 4
    return HeadFacts(
        head="logits",
        layout="nchw" if ending.start.class_axis == 1 else "nhwc",
        channels=ending.start.channels,
        grid=Size(rows, columns),
        align_corners=bool(ending.linear and ending.linear.align_corners),
        probabilities=bool(activation),
        original=replace(ending.final, activation=ending.final.activation or activation),
        tail=TailReport(
            cut=True,
            removed=(*removed, *describe(list(ending.links))),
            saved_bytes=full if ending.linear else 0,
            reason=ending.reason,
        ),
    )


def _as_it_is(model: Model, ending: _Ending, shape: tuple[int, ...], reason: str) -> HeadFacts:
    """The facts of an output that is left alone."""
    final = ending.final
    tail = TailReport(cut=False, reason=reason)
    if final.labels:
        _booleans_to_bytes(model)
        known = ending.start.channels if ending.links or ending.upsample else None
        grid = Size(shape[-2], shape[-1])
        return HeadFacts("labels", "nchw", known, grid, False, False, final, tail)
    if final.class_axis not in (1, 3) or final.rank != 4:
        raise ExportError(
            "the output has no class axis", fix="export without --keep-tail, or change the head"
        )
    output = model.graph.outputs[0]
    activation = final.activation or _activation_before(output)
    if final.channels == 1 and activation == "sigmoid":
        model.graph.outputs[:] = [_minus_half(model, output)]
    rows, columns = _plane(shape, final)
    return HeadFacts(
        head="logits",
        layout="nchw" if final.class_axis == 1 else "nhwc",
        channels=final.channels,
        grid=Size(rows, columns),
        align_corners=False,
        probabilities=bool(activation),
        original=replace(final, activation=activation),
        tail=tail,
    )


def _booleans_to_bytes(model: Model) -> None:
    """Thresholds give booleans; labels are numbers."""
    lib, output = ir(), model.graph.outputs[0]
    if output.dtype != lib.DataType.BOOL:
        return
    node = lib.node("Cast", inputs=[output], attributes={"to": int(lib.DataType.UINT8)})
    result = node.outputs[0]
    result.name, result.shape = "label_bytes", output.shape
    result.type = lib.TensorType(lib.DataType.UINT8)
    model.graph.append(node)
    model.graph.outputs[:] = [result]


def _activation_before(value: Value) -> str:
    """softmax, log_softmax or sigmoid, where the value is one's result; else empty."""
    while (node := value.producer()) is not None:
        if node.op_type in ("Sigmoid", "Softmax", "LogSoftmax"):
            return "log_softmax" if node.op_type == "LogSoftmax" else str(node.op_type).lower()
        if node.op_type not in ("Identity", "Cast", "Transpose", "Resize"):
            break
        value = node.inputs[0]
    return ""


def _minus_half(model: Model, value: Value) -> Value:
    """Shift probabilities so that the threshold of a one-channel head is 0, as for logits."""
    lib = ir()
    half = lib.Value(
        name="half",
        const_value=lib.tensor(np.asarray(0.5, value.dtype.numpy()), name="half"),
        shape=lib.Shape([]),
        type=lib.TensorType(value.dtype),
    )
    model.graph.register_initializer(half)
    node = lib.node("Sub", inputs=[value, half])
    result = node.outputs[0]
    result.name, result.shape, result.type = "above_half", value.shape, value.type
    model.graph.append(node)
    return result

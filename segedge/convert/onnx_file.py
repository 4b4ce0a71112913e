"""An ONNX file that somebody else exported: loaded, checked, and made static where asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segedge.card.axes import Layout, channel_axis, image_shape, rows_axis
from segedge.card.geometry import Size
from segedge.card.modelfile import ModelFacts, read_facts
from segedge.convert.options import DynamicAxis
from segedge.convert.outputs import OutputSpec, output_spec
from segedge.convert.passes.chain import walk_back
from segedge.convert.passes.usual_input import INPUT_TYPES, InputForm, usual_input
from segedge.convert.passes.usual_output import OutputForm, output_form
from segedge.errors import ExportError, UsageError
from segedge.graph.kit import (
    Model,
    Value,
    axis_names,
    forget_shapes,
    infer_shapes,
    ir,
    load_model,
    measure_shapes,
    shape_of,
)

_EXPECTED = (
    "one image tensor (N, 3, H, W) or (N, H, W, 3), or with 1 channel, of "
    f"{', '.join(INPUT_TYPES[:-1])} or {INPUT_TYPES[-1]}"
)


@dataclass(frozen=True)
class InputFacts:
    """What the one input of a network is."""

    form: InputForm
    """What it was in the file."""
    size: Size
    """Height and width, chosen where the file leaves them open."""
    dynamic: tuple[DynamicAxis, ...]
    """Axes that stay open."""
    fixed: tuple[str, ...]
    """Names of open axes that were closed."""

    @property
    def layout(self) -> Layout:
        """Axis order."""
        return self.form.layout

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Shape of the input tensor for one image."""
        return image_shape(self.layout, self.size)

    @property
    def notes(self) -> tuple[str, ...]:
        """What was done with it, a sentence each."""
        closed = f"open axes closed: {', '.join(self.fixed)} (--dynamic keeps them)"
        return (*self.form.notes(), *((closed,) if self.fixed else ()))


def load_onnx(path: Path) -> tuple[Model, ModelFacts]:
    """Load an ONNX file with its weights, functions inlined."""
    facts = read_facts(path)
    model = load_model(path)
    infer_shapes(model)
    return model, facts


def output_specs(model: Model, network: Size, channels: int | None) -> list[OutputSpec]:
    """Names and shapes of the graph's outputs, and which of them end at the same logits."""
    return [_output_spec(value, network, channels) for value in model.graph.outputs]


def _output_spec(value: Value, network: Size, channels: int | None) -> OutputSpec:
    links = walk_back(value)
    return output_spec(
        str(value.name),
        shape_of(value) or (None,) * 4,
        is_float=value.dtype is None or value.dtype.is_floating_point(),
        network=network,
        channels=channels,
        logits=str((links[0].source if links else value).name),
    )


def chosen_form(
    model: Model, input_shape: Sequence[int], network: Size, channels: int | None
) -> OutputForm | None:
    """How the graph's one output is brought to the usual form; None where it has that."""
    output = model.graph.outputs[0]
    shape, is_float = shape_of(output), output.dtype is None or output.dtype.is_floating_point()
    if shape is None or None in shape:
        shape = measure_shapes(model, [output], input_shape)[output.name]
    numbers = tuple(axis or 0 for axis in shape)
    return output_form(numbers, is_float=is_float, network=network, channels=channels)


def prepare_input(
    model: Model,
    name: str,
    *,
    size: Size | None,
    suggested: Size | None,
    dynamic: Sequence[DynamicAxis],
) -> InputFacts:
    """Check the image input, make it the usual one and close its open axes, all in place.

    Axes that shall vary stay open. ``size`` is the user's, ``suggested`` that of the file's
    metadata.
    """
    value, form = _image_value(model, name)
    usual_input(form)(model)
    shape = shape_of(value) or ()
    rows = rows_axis(form.layout)
    columns = rows + 1
    chosen = _chosen_size(name, (shape[rows], shape[columns]), size, suggested)
    closed = {"batch": (0,), "size": (rows, columns)}
    for kind in dynamic:
        if any(shape[axis] is not None for axis in closed[kind]):
            raise ExportError(
                f"{name} has a fixed {kind}",
                facts={"input": "x".join(map(str, axis_names(value)))},
                fix="export it again from PyTorch with dynamic axes",
            )
    names = axis_names(value)
    target: list[Any] = list(value.shape)
    fixed: list[str] = []
    numbers = {0: 1, rows: chosen.height, columns: chosen.width, 6 - rows - columns: 3}
    keep = {axis for kind in dynamic for axis in closed[kind]}
    for axis, number in numbers.items():
        if shape[axis] is None and axis not in keep:
            target[axis] = number
            fixed.append(f"{names[axis]}={number}")
    if fixed:
        value.shape = ir().Shape(target)
        forget_shapes(model)
        infer_shapes(model)
    given = InputFacts(form, chosen, tuple(dynamic), tuple(fixed))
    if form.batch > 1:
        _check_one_image(model, given, name)
    return given


def _check_one_image(model: Model, given: InputFacts, name: str) -> None:
    """Refuse a graph that needs its batch."""
    batch = given.form.batch
    try:
        shapes = measure_shapes(model, list(model.graph.outputs), given.shape)
        says = next((f"it still gives {s}" for s in shapes.values() if s[:1] == (batch,)), "")
    except ExportError as error:
        says = error.facts.get("says", "")
    if says:
        raise ExportError(
            f"{name} has a fixed batch of {batch}, and does not run with 1",
            facts={"says": says},
            fix="export it with a batch of 1, or a dynamic one",
        )


def _image_value(model: Model, name: str) -> tuple[Value, InputForm]:
    """The one image input and what it is."""
    inputs = list(model.graph.inputs)
    listing = "; ".join(f"{v.name} {'x'.join(map(str, axis_names(v)))}" for v in inputs)
    shape = shape_of(inputs[0]) if len(inputs) == 1 else None
    facts = {"inputs": listing or "none", "expected": _EXPECTED}
    if shape is None or len(shape) != 4:
        raise ExportError(f"{name} does not take one image", facts=facts)
    value = inputs[0]
    dtype = str(value.dtype.numpy()) if value.dtype is not None else "nothing known"
    if dtype not in INPUT_TYPES:
        raise ExportError(
            f"{name} takes {dtype}",
            facts=facts,
            fix="export it in float32; a smaller precision is chosen when it is built",
        )
    layouts: tuple[tuple[Layout, int], ...] = (("nchw", 3), ("nhwc", 3), ("nchw", 1), ("nhwc", 1))
    for layout, channels in layouts:
        if shape[channel_axis(layout)] == channels:
            return value, InputForm(layout, channels, shape[0] or 1, dtype)
    if shape[1] is None:
        return value, InputForm("nchw", 3, shape[0] or 1, dtype)
    raise ExportError(f"{name} takes neither a colour image nor a grey one", facts=facts)


def _chosen_size(
    name: str, found: tuple[int | None, int | None], size: Size | None, suggested: Size | None
) -> Size:
    """The file's own size where it is fixed, else the user's, else the metadata's."""
    height, width = found
    if height is not None and width is not None:
        if size is not None and size != Size(height, width):
            raise UsageError(
                f"{name} is fixed at another size",
                facts={"asked": str(size), "found": f"{height}x{width}"},
                fix="leave --size out, or export it again at that size",
            )
        return Size(height, width)
    chosen = size or suggested
    if chosen is None:
        raise UsageError(f"{name} leaves its input size open", fix="give it: --size HxW")
    if (height not in (None, chosen.height)) or (width not in (None, chosen.width)):
        raise UsageError(f"{name} is fixed at {height or '?'}x{width or '?'}", fix="--size HxW")
    return chosen

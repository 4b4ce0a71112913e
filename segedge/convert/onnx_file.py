"""An ONNX file that somebody else exported: loaded, checked, and made static where asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segedge.card.axes import Layout, image_shape, rows_axis
from segedge.card.geometry import Size
from segedge.card.modelfile import ModelFacts, read_facts
from segedge.convert.options import DynamicAxis
from segedge.convert.outputs import OutputSpec
from segedge.convert.passes.graph import (
    Model,
    Value,
    axis_names,
    forget_shapes,
    infer_shapes,
    ir,
    run_passes,
    runtime_inputs,
    shape_of,
)
from segedge.errors import ExportError, ModelError, UsageError

_EXPECTED = "one float32 image tensor (N, 3, H, W) or (N, H, W, 3)"


@dataclass(frozen=True)
class InputFacts:
    """What the one input of a network is."""

    layout: Layout
    """Axis order."""
    size: Size
    """Height and width, chosen where the file leaves them open."""
    dynamic: tuple[DynamicAxis, ...]
    """Axes that stay open."""
    fixed: tuple[str, ...]
    """Names of open axes that were closed."""

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Shape of the input tensor for one image."""
        return image_shape(self.layout, self.size)


def load_onnx(path: Path) -> tuple[Model, ModelFacts]:
    """Load an ONNX file with its weights, functions inlined."""
    facts = read_facts(path)
    lib = ir()
    try:
        model = lib.load(path)
        _check_weight_files(model, path)
        lib.external_data.load_to_model(model)
        if model.functions:
            run_passes(model, "Inline")
        run_passes(model, "RemoveInitializersFromInputs")
    except ModelError:
        raise
    except FileNotFoundError as error:
        raise ModelError(
            f"the weights of {path.name} are in another file, and that is missing",
            facts={"missing": Path(str(error.filename or "")).name or str(error)},
            fix="put it beside the ONNX file, or export with external_data=False",
        ) from error
    except Exception as error:  # protobuf, onnx_ir and numpy raise many classes on damaged files
        raise ModelError(
            f"{path.name} is damaged",
            facts={"says": f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:160]}"},
            fix="copy or export the file again",
        ) from error
    infer_shapes(model)
    return model, facts


def _check_weight_files(model: Model, path: Path) -> None:
    """Weights outside the file may only be beside it: a model must not name other files to read."""
    folder = path.resolve().parent
    for value in model.graph.initializers.values():
        location = getattr(value.const_value, "location", None)
        if location is not None and not (folder / location).resolve().is_relative_to(folder):
            raise ModelError(
                f"{path.name} wants weights from outside its folder",
                facts={"found": str(location)[:100]},
                fix="export it again into one file: external_data=False",
            )


def output_specs(model: Model) -> list[OutputSpec]:
    """Names and shapes of the graph's outputs."""
    return [
        OutputSpec(str(value.name), shape_of(value) or (None,) * 4) for value in model.graph.outputs
    ]


def prepare_input(
    model: Model,
    name: str,
    *,
    size: Size | None,
    suggested: Size | None,
    dynamic: Sequence[DynamicAxis],
) -> InputFacts:
    """Check the image input, and close its open axes (in place) except those that shall vary.

    ``size`` is the user's, ``suggested`` that of the file's metadata.
    """
    value, layout = _image_value(model, name)
    shape = shape_of(value) or ()
    rows = rows_axis(layout)
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
    return InputFacts(layout, chosen, tuple(dynamic), tuple(fixed))


def _image_value(model: Model, name: str) -> tuple[Value, Layout]:
    """The one image input and its axis order."""
    inputs = runtime_inputs(model)
    listing = "; ".join(f"{v.name} {'x'.join(map(str, axis_names(v)))}" for v in inputs)
    shape = shape_of(inputs[0]) if len(inputs) == 1 else None
    if shape is None or len(shape) != 4:
        raise ExportError(
            f"{name} does not take one image",
            facts={"inputs": listing or "none", "expected": _EXPECTED},
        )
    value = inputs[0]
    if value.dtype != ir().DataType.FLOAT:
        raise ExportError(
            f"{name} takes {str(value.dtype).lower()}, not float32",
            facts={"inputs": listing, "expected": _EXPECTED},
            fix="export it in float32; a smaller precision is chosen when it is built",
        )
    if shape[0] not in (None, 1):
        raise ExportError(
            f"{name} has a fixed batch of {shape[0]}",
            facts={"inputs": listing},
            fix="export it with a batch of 1, or a dynamic one",
        )
    if shape[3] == 3 and shape[1] != 3:
        return value, "nhwc"
    if shape[1] in (None, 3):
        return value, "nchw"
    raise ExportError(
        f"{name} does not take a colour image", facts={"inputs": listing, "expected": _EXPECTED}
    )


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

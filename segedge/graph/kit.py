"""Small things that everyone needs who reads or rewrites an ONNX graph.

Graphs are ``onnx_ir.Model`` throughout; onnx_ir has no usable stubs here, hence the Any.
"""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segedge.errors import ExportError, ModelError, first_line
from segedge.machine.onnx_session import Session
from segedge.machine.optional import require

Model = Any
"""``onnx_ir.Model``"""
Node = Any
"""``onnx_ir.Node``"""
Value = Any
"""``onnx_ir.Value``"""
FLOAT, FLOAT16 = 1, 10
"""Element types; ``onnx_ir.DataType`` equals these numbers."""
FLOATS = (FLOAT, FLOAT16)
_PURPOSE = "read or write the graph of a network"


@functools.cache
def ir() -> Any:
    """The onnx_ir library."""
    return require("onnx_ir", purpose=_PURPOSE)


def run_passes(model: Model, *names: str, **options: Any) -> None:
    """Run passes of onnx_ir's own: ``ShapeInference`` is its `ShapeInferencePass`."""
    passes = require("onnx_ir.passes.common", purpose=_PURPOSE)
    for name in names:
        getattr(passes, f"{name}Pass")(**options)(model)


def load_model(path: Path) -> Model:
    """The graph of an ONNX file with its weights, functions inlined, inputs without weights."""
    lib = ir()
    try:
        with quiet("onnx_ir"):
            model = lib.load(path)
        _check_weight_files(model, path)
        lib.external_data.load_to_model(model)
        if model.functions:
            run_passes(model, "Inline")
        drop_weights_from_inputs(model)
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
            facts={"says": f"{type(error).__name__}: {first_line(error)}"},
            fix="copy or export the file again",
        ) from error
    return model


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


def drop_weights_from_inputs(model: Model) -> None:
    """Old exporters list weights among the inputs, as defaults that a caller may replace."""
    count = len(model.graph.inputs)
    run_passes(model, "RemoveInitializersFromInputs")
    if len(model.graph.inputs) < count:
        model.ir_version = max(model.ir_version, 4)  # before it, every weight had to be listed


def constant(value: Value | None) -> NDArray[Any] | None:
    """The array of an initializer or Constant node, or None where the value is computed."""
    tensor = None if value is None else ir().convenience.get_const_tensor(value)
    return None if tensor is None else np.asarray(tensor.numpy())


def shape_of(value: Value) -> tuple[int | None, ...] | None:
    """The shape with None for symbolic axes; None where even the rank is unknown."""
    if value.shape is None:
        return None
    return tuple(axis if isinstance(axis, int) else None for axis in value.shape)


def axis_names(value: Value) -> tuple[int | str, ...]:
    """The shape for people: numbers, and the names of symbolic axes."""
    axes = value.shape or ()
    return tuple(axis if isinstance(axis, int) else str(axis.value or "?") for axis in axes)


def set_type(value: Value, dtype: int) -> None:
    """Make a value a tensor of an element type."""
    # A type of its own: clones share theirs, and setting its dtype would turn them, too.
    value.type = ir().TensorType(ir().DataType(dtype))


def set_constant(value: Value, array: NDArray[Any]) -> None:
    """Give an initializer other numbers."""
    value.const_value = ir().Tensor(np.asarray(array), name=value.name)
    set_type(value, value.const_value.dtype)


def attribute(node: Node, name: str, default: Any) -> Any:
    """An attribute's value, bytes decoded, or the default where the node has none."""
    found = node.attributes.get(name)
    value = default if found is None else found.value
    return value.decode() if isinstance(value, bytes) else value


def initializer(model: Model, name: str, array: NDArray[Any]) -> Value:
    """A new constant of the graph."""
    value = ir().val(name, const_value=ir().Tensor(np.asarray(array), name=name))
    model.graph.register_initializer(value)
    return value


def new_node(
    op: str,
    inputs: Sequence[Value | None],
    result: str,
    *,
    dtype: int | None = None,
    shape: Any = None,
    name: str | None = None,
    **attributes: Any,
) -> Node:
    """A node with one output, in no graph yet."""
    lib = ir()
    output = lib.val(result, None if dtype is None else lib.DataType(dtype), shape)
    return lib.node(op, inputs, attributes=attributes, outputs=[output], name=name)


def new_model(inputs: Sequence[Value], opset: int) -> Model:
    """A graph of these inputs alone, to be filled."""
    graph = ir().Graph(inputs, [], nodes=[], opset_imports={"": opset}, name="graph")
    return ir().Model(graph, ir_version=8)


class Formula:
    """Nodes of one output each, on their way into a graph under names that nobody else has.

    ``formula("Mul", value, array)`` is such a node's output; arrays and lists of integers become
    constants.
    """

    def __init__(self, model: Model, prefix: str) -> None:
        self._model, self._prefix, self._count = model, prefix, 0
        self._nodes: list[Node] = []

    def __call__(
        self,
        op: str,
        *inputs: Value | NDArray[Any] | list[int] | None,
        dtype: int | None = None,
        **attributes: Any,
    ) -> Value:
        """A node's output; ``dtype`` where inference shall not have to find it."""
        read = [
            self._constant(each) if isinstance(each, (np.ndarray, list)) else each
            for each in inputs
        ]
        name = self._name(op)
        node = new_node(op, read, f"{name}_out", dtype=dtype, name=name, **attributes)
        self._nodes.append(node)
        return node.outputs[0]

    def take(self) -> list[Node]:
        """The nodes since the last time, in order: whoever asked for them puts them into it."""
        taken, self._nodes = self._nodes, []
        return taken

    def _constant(self, numbers: NDArray[Any] | list[int]) -> Value:
        array = np.asarray(numbers, np.int64 if isinstance(numbers, list) else None)
        return initializer(self._model, self._name("constant"), array)

    def _name(self, kind: str) -> str:
        self._count += 1
        return f"{self._prefix}_{kind.lower()}_{self._count}"


def replace_node(node: Node, nodes: Sequence[Node], names: Sequence[str]) -> None:
    """Put nodes, each with one output, in the place of another's first output.

    The last one's output is a new value with the old one's shape and type; ``names`` are appended
    to the old one's name, one for each node.
    """
    result = node.outputs[0]
    for each, name in zip(nodes, names, strict=True):
        each.outputs[0].name = f"{result.name}_{name}"
    last = nodes[-1].outputs[0]
    last.shape, last.type = result.shape, result.type
    node.append(nodes)
    result.replace_all_uses_with(last, replace_graph_outputs=True)


def values_of(model: Model) -> Iterator[Value]:
    """The main graph's values: inputs, weights, and what nodes give, in order."""
    graph = model.graph
    yield from graph.inputs
    yield from graph.initializers.values()
    for node in graph:
        yield from (value for value in node.outputs if value.name)


def values_by_name(model: Model) -> dict[str, Value]:
    """The main graph's values by name."""
    return {value.name: value for value in values_of(model)}


def image_input(model: Model) -> Value:
    """The one graph input (`onnx_file.prepare_input` checks that)."""
    return model.graph.inputs[0]


def opset_of(model: Model) -> int:
    """Version of the default operator set."""
    return int(model.opset_imports.get("", model.opset_imports.get("ai.onnx", 0)))


def holds(model: Model, operator: str) -> bool:
    """Whether the graph has an operator of this type."""
    return any(node.op_type == operator for node in model.graph)


def rounds_to_codes(model: Model) -> bool:
    """Whether the network quantizes inside."""
    return any(holds(model, f"{kind}QuantizeLinear") for kind in ("", "Dynamic")) or holds(
        model, "QLinearConv"
    )


def drop_dead(model: Model) -> None:
    """Remove nodes, initializers, functions and opsets that no output needs."""
    run_passes(model, "RemoveUnusedNodes", "RemoveUnusedFunctions", "RemoveUnusedOpsets")


def drop_unused_weights(model: Model) -> None:
    """Remove initializers that nobody reads."""
    for value in list(model.graph.initializers.values()):
        if not value.uses() and not value.is_graph_output():
            del model.graph.initializers[value.name]


def to_bytes(model: Model) -> bytes:
    """The model as the bytes of an ONNX file."""
    result: bytes = ir().to_proto(model).SerializeToString()
    return result


def session_of(model: Model, **options: Any) -> Session:
    """The model on ONNX Runtime's CPU, to measure it; options as of `Session`."""
    return Session(ir().to_proto(model), **options)


def with_outputs(model: Model, names: Collection[str]) -> Model:
    """A copy with these values among its outputs, but for those that are its inputs."""
    copy = model.clone()
    for value in values_of(copy):
        is_end = value.is_graph_input() or value.is_graph_output()
        if value.name in names and not is_end:
            copy.graph.outputs.append(value)
    return copy


def measure_shapes(
    model: Model, values: Sequence[Value], input_shape: Sequence[int]
) -> dict[str, tuple[int, ...]]:
    """Real shapes of inner values, by running the network once on zeros; it stays as it is."""
    names = [value.name for value in values]
    session = session_of(with_outputs(model, names), error=ExportError)
    zeros = np.zeros(tuple(input_shape), image_input(model).dtype.numpy())
    arrays = session.run(zeros, names)
    return {name: array.shape for name, array in zip(names, arrays, strict=True)}


def put_behind(
    model: Model,
    value: Value,
    nodes: Sequence[Node],
    *,
    renamed: str | None = None,
    reads: Callable[[Node], bool] = lambda node: True,
) -> None:
    """Put nodes behind a value, whose readers (or those chosen) get the last one's result instead.

    ``renamed`` is a new name for the value: then the result takes its own, and its place among the
    graph's outputs.
    """
    graph, producer, last = model.graph, value.producer(), nodes[-1].outputs[0]
    for use in list(value.uses()):
        if use.node not in nodes and reads(use.node):
            use.node.replace_input_with(use.idx, last)
    if renamed is not None:
        last.name, value.name = value.name, renamed
        graph.outputs[:] = [last if output is value else output for output in graph.outputs]
    if producer is None:
        graph.insert_before(graph[0], nodes)
    else:
        graph.insert_after(producer, nodes)


def infer_shapes(model: Model) -> None:
    """Write the shapes of all inner values into the model, where they can be known."""
    if any("Sequence" in node.op_type for node in model.graph.all_nodes()):
        _type_sequences(model)
    run_passes(model, "ShapeInference")


def _type_sequences(model: Model) -> None:
    """Say what is a sequence of tensors: onnx_ir's pass takes it for a tensor where nobody has."""
    with contextlib.suppress(Exception):  # what cannot be inferred stays unknown, as to the pass
        for graph, known in zip(model.graphs(), inferred(model).graphs(), strict=True):
            for node, same in zip(graph, known, strict=True):
                for value, found in zip(node.outputs, same.outputs, strict=True):
                    value.type = value.type or found.type


def inferred(model: Model, **options: Any) -> Model:
    """A copy with the types and shapes that onnx's own inference knows; it raises its errors."""
    inference = require("onnx.shape_inference", purpose="infer the shapes of a graph")
    return ir().from_proto(inference.infer_shapes(ir().to_proto(model), **options))


def forget_shapes(model: Model) -> None:
    """Drop the shapes of inner values, which are stale once an input's shape has changed."""
    for node in model.graph:
        for value in node.outputs:
            value.shape = None


@contextlib.contextmanager
def quiet(*names: str, below: int = logging.ERROR) -> Iterator[None]:
    """Keep libraries' loggers silent below a level for a while."""
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(below)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)

"""What the channels inside a network are on images, in one pass over them.

Batch normalisation is written into the graph: behind each layer its value is brought to what is
expected of it, by a mean and a variance that this image shares with those before it. So a layer is
measured behind layers that are adapted already, as AdaBN has it, and one image is in memory at a
time: a batch would need shapes that many graphs have baked in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segedge.adaptation.layers import Layer
from segedge.adaptation.moves import Found, is_alive
from segedge.errors import ModelError
from segedge.machine.onnx_session import Session, cpu_session
from segedge.precision.graph import FLOAT, STANDARD_DOMAINS, copied, onnx

FEW_POSITIONS = 16
"""Of a value, an image: what is pooled to so few tells no deviation, and stays as it is."""
_AXES, _SHARE, _REST, _ONE = "adapt_axes", "adapt_share", "adapt_rest", "adapt_one"
_LEAST_VARIANCE = 1e-5
Tick = Callable[[], None]


def with_positions(
    model: Any, layers: Sequence[Layer], tensor: NDArray[np.float32]
) -> tuple[Layer, ...]:
    """The layers, those marked whose values are pooled to a few positions, by running one image."""
    helper, copy = onnx().helper, copied(model)
    for number, layer in enumerate(layers):
        copy.graph.node.append(helper.make_node("Shape", [layer.value], [f"adapt_shape_{number}"]))
        copy.graph.output.append(
            helper.make_tensor_value_info(f"adapt_shape_{number}", onnx().TensorProto.INT64, [4])
        )
    names = [f"adapt_shape_{number}" for number in range(len(layers))]
    shapes = Session(copy).run(tensor, names)
    return tuple(
        replace(layer, small=int(np.prod(shape[2:])) < FEW_POSITIONS)
        for layer, shape in zip(layers, shapes, strict=True)
    )


@dataclass(frozen=True)
class Moments:
    """Mean and mean square of each layer's channels, in the units of what is expected."""

    mean: list[NDArray[np.float32]]
    square: list[NDArray[np.float32]]

    def found(self) -> list[Found]:
        """The same as mean and variance."""
        pairs = zip(self.mean, self.square, strict=True)
        wide = [(m.ravel().astype(np.float64), s.ravel().astype(np.float64)) for m, s in pairs]
        return [Found(mean, np.maximum(square - mean**2, 0.0)) for mean, square in wide]


def measure(
    model: Any,
    layers: Sequence[Layer],
    tensors: Iterable[NDArray[np.float32]],
    *,
    normalise: bool = True,
    tick: Tick = lambda: None,
) -> dict[str, Found]:
    """What each layer's channels are on images, which count alike.

    Without ``normalise`` in the network as it is. ModelError: a value is not finite.
    """
    session = cpu_session(_measuring(model, layers, normalise=normalise).SerializeToString())
    image = session.get_inputs()[0].name
    moments = Moments(*([np.zeros((1, len(one.expected), 1, 1), np.float32) for one in layers]
                        for _ in range(2)))  # fmt: skip
    names = [name for number in range(len(layers)) for name in (_mean(number), _square(number))]
    for count, tensor in enumerate(tensors, start=1):
        feed: dict[str, Any] = {_mean(n) + "_before": m for n, m in enumerate(moments.mean)}
        feed |= {_square(n) + "_before": s for n, s in enumerate(moments.square)}
        share = np.array(1.0 / count, np.float32)
        results = session.run(names, {image: tensor, _SHARE: share, **feed})
        moments = Moments(results[0::2], results[1::2])
        _refuse_nan(layers, results)
        tick()
    return {layer.value: found for layer, found in zip(layers, moments.found(), strict=True)}


def _mean(number: int) -> str:
    return f"adapt_mean_{number}"


def _square(number: int) -> str:
    return f"adapt_square_{number}"


def _refuse_nan(layers: Sequence[Layer], results: Sequence[NDArray[np.float32]]) -> None:
    for number, result in enumerate(results):
        if not np.isfinite(result).all():
            raise ModelError(
                "the network gives inf or NaN on these images",
                facts={"first in": layers[number // 2].value},
                fix="check the weights; segedge inspect MODEL says where they are from",
            )


def _measuring(model: Any, layers: Sequence[Layer], *, normalise: bool) -> Any:
    """The graph with the moments of each layer as outputs, and a normalisation behind it."""
    build = _Builder(model)
    by_node = {layer.node: (number, layer) for number, layer in enumerate(layers)}
    for place, node in enumerate(model.graph.node):
        build.nodes.append(copied_node(node))
        if place in by_node:
            number, layer = by_node[place]
            if normalise:
                build.nodes[-1].output[0] = f"adapt_raw_{number}"
            build.moments(number, layer, build.nodes[-1].output[0])
            if normalise:
                build.normalise(number, layer)
    return build.model()


def copied_node(node: Any) -> Any:
    """A node of its own with the same contents."""
    copy = onnx().NodeProto()
    copy.CopyFrom(node)
    return copy


class _Builder:
    """Nodes, constants, inputs and outputs on their way into a graph."""

    def __init__(self, model: Any) -> None:
        self._model = copied(model)
        self._opset = max(o.version for o in model.opset_import if o.domain in STANDARD_DOMAINS)
        self.nodes = [onnx().helper.make_node("Sub", [_ONE, _SHARE], [_REST])]
        self._constant(_ONE, np.ones((), np.float32))
        self._constant(_AXES, np.array([0, 2, 3], np.int64))
        self._input(_SHARE, [])

    def moments(self, number: int, layer: Layer, raw: str) -> None:
        """A layer's moments so far, of its value in the units of what is expected."""
        name, expected = f"adapt_{number}", layer.expected
        unit = np.where(is_alive(expected), expected.deviation, 1.0)
        self._channels(f"{name}_expected", expected.mean)
        self._channels(f"{name}_unit", unit)
        self._add("Sub", raw, f"{name}_expected", f"{name}_off")
        self._add("Div", f"{name}_off", f"{name}_unit", f"{name}_t")
        self._add("Mul", f"{name}_t", f"{name}_t", f"{name}_tt")
        for moment, of in ((_mean(number), f"{name}_t"), (_square(number), f"{name}_tt")):
            self._reduce(of, f"{moment}_own")
            self._input(f"{moment}_before", [1, len(expected), 1, 1])
            self._add("Mul", f"{moment}_own", _SHARE, f"{moment}_new")
            self._add("Mul", f"{moment}_before", _REST, f"{moment}_old")
            self._add("Add", f"{moment}_new", f"{moment}_old", moment)
            self._model.graph.output.append(
                onnx().helper.make_tensor_value_info(moment, FLOAT, None)
            )

    def normalise(self, number: int, layer: Layer) -> None:
        """The value in its units to the layer's value, by the moments so far."""
        name, expected = f"adapt_{number}", layer.expected
        alive = is_alive(expected)
        self._channels(f"{name}_deviation", np.where(alive, expected.deviation, 0.0))
        self._channels(f"{name}_least", np.full(len(expected), _LEAST_VARIANCE))
        mean, square = _mean(number), _square(number)
        self._add("Mul", mean, mean, f"{name}_mm")
        self._add("Sub", square, f"{name}_mm", f"{name}_variance")
        self._add("Max", f"{name}_variance", f"{name}_least", f"{name}_v")
        self.nodes.append(onnx().helper.make_node("Sqrt", [f"{name}_v"], [f"{name}_root"]))
        self._add("Div", f"{name}_deviation", f"{name}_root", f"{name}_scale")
        self._add("Sub", f"{name}_t", mean, f"{name}_centred")
        self._add("Mul", f"{name}_centred", f"{name}_scale", f"{name}_scaled")
        self._add("Add", f"{name}_scaled", f"{name}_expected", layer.value)

    def model(self) -> Any:
        """The finished graph."""
        graph = self._model.graph
        del graph.node[:]
        graph.node.extend(self.nodes)
        return self._model

    def _add(self, op: str, first: str, second: str, result: str) -> None:
        self.nodes.append(onnx().helper.make_node(op, [first, second], [result]))

    def _reduce(self, value: str, result: str) -> None:
        """Over images and positions; the axes became an input with opset 18."""
        if self._opset >= 18:
            self._add("ReduceMean", value, _AXES, result)
        else:
            self.nodes.append(
                onnx().helper.make_node("ReduceMean", [value], [result], axes=[0, 2, 3])
            )

    def _channels(self, name: str, values: NDArray[np.float64]) -> None:
        self._constant(name, values.reshape(1, -1, 1, 1).astype(np.float32))

    def _constant(self, name: str, array: NDArray[Any]) -> None:
        self._model.graph.initializer.append(onnx().numpy_helper.from_array(array, name))

    def _input(self, name: str, shape: list[int]) -> None:
        self._model.graph.input.append(onnx().helper.make_tensor_value_info(name, FLOAT, shape))

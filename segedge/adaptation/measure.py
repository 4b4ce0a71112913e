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
from segedge.graph.kit import (
    FLOAT,
    Formula,
    Model,
    Value,
    ir,
    opset_of,
    put_behind,
    session_of,
    to_bytes,
    values_by_name,
)
from segedge.machine.onnx_session import cpu_session

FEW_POSITIONS = 16
"""Of a value, an image: what is pooled to so few tells no deviation, and stays as it is."""
_SHARE = "adapt_share"
_LEAST_VARIANCE = 1e-5
Tick = Callable[[], None]


def with_positions(
    model: Model, layers: Sequence[Layer], tensor: NDArray[np.float32]
) -> tuple[Layer, ...]:
    """The layers, those marked whose values are pooled to a few positions, by running one image."""
    copy = model.clone()
    values, add = values_by_name(copy), Formula(copy, "adapt")
    found = [add("Shape", values[layer.value], dtype=ir().DataType.INT64) for layer in layers]
    copy.graph.extend(add.take())
    copy.graph.outputs.extend(found)
    shapes = session_of(copy).run(tensor, [value.name for value in found])
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
    model: Model,
    layers: Sequence[Layer],
    tensors: Iterable[NDArray[np.float32]],
    *,
    normalise: bool = True,
    tick: Tick = lambda: None,
) -> dict[str, Found]:
    """What each layer's channels are on images, which count alike.

    Without ``normalise`` in the network as it is. ModelError: a value is not finite.
    """
    session = cpu_session(to_bytes(_measuring(model, layers, normalise=normalise)))
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


def _measuring(model: Model, layers: Sequence[Layer], *, normalise: bool) -> Model:
    """The graph with the moments of each layer as outputs, and a normalisation behind it."""
    build = _Builder(model.clone())
    for number, layer in enumerate(layers):
        build.layer(number, layer, normalise=normalise)
    return build.model


class _Builder:
    """A graph into which a measurement is written, with what all layers share."""

    def __init__(self, model: Model) -> None:
        self.model, self._values = model, values_by_name(model)
        self._add = Formula(model, "adapt")
        self._has_axes = opset_of(model) >= 18
        """ReduceMean's axes became an input."""
        self._share = self._input(_SHARE, [])
        self._rest = self._add("Sub", np.ones((), np.float32), self._share)
        model.graph.insert_before(model.graph[0], self._add.take())

    def layer(self, number: int, layer: Layer, *, normalise: bool) -> None:
        """Measure a layer, and bring its value to what is expected."""
        add, raw, expected = self._add, self._values[layer.value], layer.expected
        alive = is_alive(expected)
        middle, unit = _column(expected.mean), _column(np.where(alive, expected.deviation, 1.0))
        t = add("Div", add("Sub", raw, middle), unit)
        mean = self._moment(_mean(number), t, len(expected))
        square = self._moment(_square(number), add("Mul", t, t), len(expected))
        if not normalise:
            self.model.graph.insert_after(raw.producer(), add.take())
            return
        variance = add("Sub", square, add("Mul", mean, mean))
        variance = add("Max", variance, np.array(_LEAST_VARIANCE, np.float32))
        wanted = _column(np.where(alive, expected.deviation, 0.0))
        scale = add("Div", wanted, add("Sqrt", variance))
        add("Add", add("Mul", add("Sub", t, mean), scale), middle)
        put_behind(self.model, raw, add.take(), renamed=f"adapt_raw_{number}")

    def _moment(self, name: str, value: Value, channels: int) -> Value:
        """The mean of a value so far, over images and positions."""
        add, axes = self._add, [0, 2, 3]
        own = (
            add("ReduceMean", value, axes)
            if self._has_axes
            else add("ReduceMean", value, axes=axes)
        )
        before = self._input(f"{name}_before", [1, channels, 1, 1])
        so_far = add("Mul", before, self._rest)
        moment = add("Add", add("Mul", own, self._share), so_far, dtype=FLOAT)
        moment.name = name
        self.model.graph.outputs.append(moment)
        return moment

    def _input(self, name: str, shape: list[int]) -> Value:
        value = ir().val(name, ir().DataType.FLOAT, shape)
        self.model.graph.inputs.append(value)
        return value


def _column(values: NDArray[np.float64]) -> NDArray[np.float32]:
    """A number a channel, along the channels' axis."""
    return values.reshape(1, -1, 1, 1).astype(np.float32)

"""What can be wrong with a network that was exported, its card, or the backend that runs it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from segedge.card.card import ModelCard

Model = Any
Edit = Callable[[Model], None]


def _nodes(model: Model, op: str) -> list[Any]:
    found = [node for node in model.graph.node if node.op_type == op]
    assert found, f"no {op} among {sorted({node.op_type for node in model.graph.node})}"
    return found


def _attribute(op: str, value: Any, *, name: str, at: int = 0) -> Edit:
    def edit(model: Model) -> None:
        node = _nodes(model, op)[at]
        kept = [one for one in node.attribute if one.name != name]
        assert value is None or value != {
            a.name: onnx.helper.get_attribute_value(a) for a in node.attribute
        }.get(name)
        del node.attribute[:]
        node.attribute.extend(kept)
        if value is not None:
            node.attribute.append(onnx.helper.make_attribute(name, value))

    return edit


def _renamed(op: str, other: str, at: int = 0) -> Edit:
    """Another operator of the same inputs, without attributes where it has none of them."""

    def edit(model: Model) -> None:
        node = _nodes(model, op)[at]
        node.op_type = other
        if other in ("Identity", "Relu", "HardSigmoid", "Tanh"):
            del node.attribute[:]
            del node.input[1:]

    return edit


def _swapped_inputs(op: str) -> Edit:
    def edit(model: Model) -> None:
        node = _nodes(model, op)[0]
        node.input[0], node.input[1] = node.input[1], node.input[0]

    return edit


def _pooled_otherwise(model: Model) -> None:
    node = _nodes(model, "MaxPool")[0]
    node.op_type = "AveragePool"
    kept = [one for one in node.attribute if one.name not in ("dilations", "storage_order")]
    del node.attribute[:]
    node.attribute.extend(kept)


def _weights(edit: Callable[[NDArray[Any]], NDArray[Any]], *, conv: int = 0, slot: int = 1) -> Edit:
    """Other values in the weights (slot 1) or the biases (slot 2) of a convolution."""

    def change(model: Model) -> None:
        name = _nodes(model, "Conv")[conv].input[slot]
        (tensor,) = [one for one in model.graph.initializer if one.name == name]
        values = numpy_helper.to_array(tensor).copy()
        tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(edit(values)), name))

    return change


def _flipped_bit(bit: int) -> Callable[[NDArray[Any]], NDArray[Any]]:
    """One bit of the largest weight: 23 to 30 are the exponent's."""

    def edit(values: NDArray[Any]) -> NDArray[Any]:
        place = int(np.argmax(np.abs(values)))
        values.view(np.uint32).reshape(-1)[place] ^= np.uint32(1 << bit)
        return values

    return edit


def _permuted(axis: int) -> Callable[[NDArray[Any]], NDArray[Any]]:
    return lambda values: np.roll(values, 1, axis=axis)


def _without_one(values: NDArray[Any]) -> NDArray[Any]:
    values[int(np.argmax(np.abs(values).reshape(len(values), -1).sum(1)))] = 0
    return values


GRAPH_FAULTS: dict[str, Edit] = {
    "a stride shifted by a pixel": _attribute("Conv", [0, 0, 2, 2], name="pads"),
    "padding on one side only": _attribute("Conv", [2, 2, 0, 0], name="pads", at=3),
    "no dilation": lambda model: [
        _attribute("Conv", [1, 1], name="dilations", at=1)(model),
        _attribute("Conv", [1, 1, 1, 1], name="pads", at=1)(model),
    ],  # type: ignore[func-returns-value,dict-item,return-value]
    "another slope": _attribute("LeakyRelu", 0.2, name="alpha"),
    "no activation": _renamed("Relu", "Identity"),
    "a clip is a relu": _renamed("Clip", "Relu"),
    "borders are not counted": _attribute("AveragePool", None, name="count_include_pad"),
    "mean for maximum": _pooled_otherwise,
    "nearest for linear": _attribute("Resize", "nearest", name="mode"),
    "aligned corners": _attribute("Resize", "align_corners", name="coordinate_transformation_mode"),
    "asymmetric pixels": _attribute("Resize", "asymmetric", name="coordinate_transformation_mode"),
    "branches in another order": lambda model: _swap_halves(model),
    "a rough sigmoid": _renamed("Sigmoid", "HardSigmoid"),
    "another gate": _renamed("Sigmoid", "Tanh"),
    "the gate is added": lambda model: _gate_added(model),
    "a bit of a stem weight's exponent": _weights(_flipped_bit(23)),
    "a bit of a depthwise weight's exponent": _weights(_flipped_bit(23), conv=1),
    "a bit of a deep weight's exponent": _weights(_flipped_bit(24), conv=3),
    "a bit of a gate weight's exponent": _weights(_flipped_bit(25), conv=4),
    "a bit of a class's weight": _weights(_flipped_bit(26), conv=5),
    "a bit of a bias's exponent": _weights(_flipped_bit(23), slot=2),
    "input channels rolled": _weights(_permuted(1)),
    "output channels rolled": _weights(_permuted(0)),
    "a kernel mirrored": _weights(lambda values: values[:, :, :, ::-1]),
    "a kernel transposed": _weights(lambda values: values.transpose(0, 1, 3, 2)),
    "a depthwise kernel upside down": _weights(lambda values: values[:, :, ::-1], conv=1),
    "classes rolled": _weights(_permuted(0), conv=5),
    "a filter is missing": _weights(_without_one, conv=3),
    "weights of 6 bits": _weights(lambda v: np.round(v * 64).astype(np.float32) / 64, conv=5),
}


def faulty(path: Path, fault: Edit, target: Path) -> Path:
    """A copy of a file with a fault in its graph."""
    model = onnx.load(path)
    fault(model)
    onnx.save(model, target)
    return target


LEAST_BIT = _weights(_flipped_bit(0))
"""A fault so small that no label sees it."""


def scaled_weights(factor: float) -> Edit:
    """The classifier's weights times a factor: a training that went on."""
    return _weights(lambda values: values * np.float32(factor), conv=5)


def _swap_halves(model: Model) -> None:
    node = _nodes(model, "Concat")[0]
    node.input[0], node.input[1] = node.input[1], node.input[0]


def _gate_added(model: Model) -> None:
    gate = _nodes(model, "Sigmoid")[0].output[0]
    (node,) = [one for one in model.graph.node if one.op_type == "Mul" and gate in one.input]
    node.op_type = "Add"


CARD_FAULTS: dict[str, Callable[[ModelCard], ModelCard]] = {
    "blue for red": lambda card: card.replace(color="bgr"),
    "a mean 2 % off": lambda card: card.replace(mean=tuple(1.02 * m for m in card.mean)),
    "a deviation 2 % off": lambda card: card.replace(std=tuple(1.02 * s for s in card.std)),
    "one channel's mean off": lambda card: card.replace(mean=(card.mean[0] + 0.01, *card.mean[1:])),
    "no normalisation": lambda card: card.replace(mean=(0, 0, 0), std=(1, 1, 1)),
    "a letterbox": lambda card: card.replace(fit="letterbox"),
    "a crop": lambda card: card.replace(fit="crop"),
    "nearest pixels": lambda card: card.replace(resize="nearest"),
    "antialiased pixels": lambda card: card.replace(resize="antialias"),
    "other corners": lambda card: card.replace(align_corners=not card.align_corners),
}


# --------------------------------------------------------------- faults of a backend or a kernel


def _shifted(logits: NDArray[Any]) -> NDArray[Any]:
    return np.roll(logits, 1, axis=3)


def _one_nan(logits: NDArray[Any]) -> NDArray[Any]:
    logits[0, :, 3, 4] = np.nan
    return logits


def _last_row_missing(logits: NDArray[Any]) -> NDArray[Any]:
    logits[:, :, -1] = 0
    return logits


def few_bits(logits: NDArray[Any]) -> NDArray[Any]:
    """As bfloat16 has them."""
    bits = logits.view(np.uint32) + np.uint32(0x8000) & np.uint32(0xFFFF0000)
    return np.asarray(bits.view(np.float32))


def _classes_swapped(logits: NDArray[Any]) -> NDArray[Any]:
    return logits[:, ::-1].copy()


def _a_bit_louder(logits: NDArray[Any]) -> NDArray[Any]:
    return logits * np.float32(1.01)


OUTPUT_FAULTS: dict[str, Callable[[NDArray[Any]], NDArray[Any]]] = {
    "logits a point to the right": _shifted,
    "one NaN": _one_nan,
    "the last row is not written": _last_row_missing,
    "bf16 that calls itself f32": few_bits,
    "classes in another order": _classes_swapped,
    "one channel louder": _a_bit_louder,
}


def _last_column_unread(tensor: NDArray[Any]) -> NDArray[Any]:
    tensor[..., -1] = 0
    return tensor


INPUT_FAULTS: dict[str, Callable[[NDArray[Any]], NDArray[Any]]] = {
    "channels in another order": lambda tensor: tensor[:, ::-1].copy(),
    "the last column is not read": _last_column_unread,
    "the frame is mirrored": lambda tensor: tensor[..., ::-1].copy(),
}


class Broken:
    """A backend whose outputs, or inputs, are something else than they should be."""

    def __init__(
        self, backend: Any, output: Callable[[Any], Any] | None = None, *, given: Any = None
    ) -> None:
        self._backend, self._output, self._given = backend, output, given

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    def run(self, inputs: Any, outputs: Any = None, *, stream: int = 0) -> Any:
        changed = [self._given(x.copy()) for x in inputs] if self._given else inputs
        results = self._results(self._backend.run(changed))
        for result, output in zip(results, outputs or (), strict=bool(outputs)):
            np.copyto(output, result)
        return outputs or results

    def _results(self, results: Any) -> Any:
        return [self._output(x.copy()) if self._output else x for x in results]


class FrameBehind(Broken):
    """It answers each frame but the first by the frame before."""

    _last: Any = None

    def _results(self, results: Any) -> Any:
        kept = [result.copy() for result in results]
        before, self._last = self._last or kept, kept
        return before


class Stale(Broken):
    """What was built of other weights answers."""

    def __init__(self, backend: Any, old: Any) -> None:
        super().__init__(backend)
        self._old = old

    def run(self, inputs: Any, outputs: Any = None, *, stream: int = 0) -> Any:
        return self._old.run(inputs, outputs)

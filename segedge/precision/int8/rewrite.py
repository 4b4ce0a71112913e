"""The rewriting: Q/DQ pairs around what computes in int8, int8 weights with a DQ, all symmetric."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segedge.graph.kit import (
    FLOAT,
    Model,
    Node,
    Value,
    drop_unused_weights,
    initializer,
    new_node,
    put_behind,
    values_by_name,
)
from segedge.graph.typed import TypedGraph, fresh, is_weight
from segedge.precision.int8.place import Layer, Placement, group_of
from segedge.precision.int8.ranges import LEVELS, quantized, weight_scales

SEVEN_BITS = 63
"""Levels of weights in seven bits."""
_ZERO = np.int8(0)
_UNSIGNED = 255
_POSITIVE = ("Relu", "Sigmoid", "HardSigmoid", "Softmax", "Abs", "Exp", "Softplus")
_KEEPING = (
    "Add", "Mul", "Concat", "MaxPool", "AveragePool", "GlobalAveragePool", "Max", "Identity"
)  # fmt: skip
"""Operators that give nothing negative where they read nothing negative."""


def rewrite(
    graph: TypedGraph,
    layers: Sequence[Layer],
    placement: Placement,
    thresholds: Mapping[str, float],
    *,
    weight_levels: int = LEVELS,
    means: Mapping[str, NDArray[np.float32]] | None = None,
    unsigned: bool = False,
) -> Model:
    """The network with explicit Q/DQ nodes.

    Zero points are 0 everywhere (TensorRT takes no others), unless ``unsigned``. Activations have a
    scale a tensor, weights one a channel; biases stay float32: TensorRT wants them so, ONNX Runtime
    quantizes them itself when it fuses the layer.

    ``thresholds``: the largest magnitude of each quantized value that int8 shall represent.
    ``means``: of each channel that a Conv reads. Given, each bias takes back what rounded weights
    add to the mean of a channel (Nagel et al. 2019, as in `equalize`). ``unsigned``: uint8
    activations for CPUs: 0 to 255 for what is never negative, with zero point 0 (so that a Relu
    before it is redundant, and ONNX Runtime computes the convolution in integers), else zero point
    128.
    """
    rewriter = _Rewriter(graph, placement, weight_levels, means or {}, unsigned=unsigned)
    return rewriter.run(layers, thresholds)


class _Rewriter:
    def __init__(
        self, graph: TypedGraph, placement: Placement, weight_levels: int,
        means: Mapping[str, NDArray[np.float32]], *, unsigned: bool,
    ) -> None:  # fmt: skip
        self.graph, self.placement, self.levels = graph, placement, weight_levels
        self.means, self.unsigned = means, unsigned
        self.never_negative = never_negative(graph) if unsigned else frozenset()
        self.model = graph.model.clone()
        self.values = values_by_name(self.model)
        self.taken = {*self.values, *(node.name for node in self.model.graph)}
        self.weights: dict[str, Value] = {}

    def run(self, layers: Sequence[Layer], thresholds: Mapping[str, float]) -> Model:
        int8_layers = {layer.name: layer for layer in layers if layer.name in self.placement.int8}
        for name in self.placement.values:
            self._quantize(self.values[name], thresholds[name])
        for node in list(self.model.graph):
            if node.name in int8_layers:
                self._weight(node, int8_layers[node.name])
        drop_unused_weights(self.model)
        return self.model

    def _quantize(self, value: Value, threshold: float) -> None:
        """Q and DQ behind a value, read by what computes in int8, or by all if it is made in it."""
        name, graph = value.name, self.model.graph
        codes, floats = self._fresh(f"{name}_int8"), self._fresh(f"{name}_dq")
        scale, zero = self._activation(name, threshold)
        pair, read = [], value
        for op, result, dtype in (
            ("QuantizeLinear", codes, zero.dtype),
            ("DequantizeLinear", floats, FLOAT),
        ):
            inputs = [read, scale, zero]
            pair.append(new_node(op, inputs, result, dtype=dtype, shape=value.shape, name=result))
            read = pair[-1].outputs[0]
        int8, is_made = self.placement.int8, name in self.placement.made
        put_behind(
            self.model, value, pair,
            reads=lambda node: node.graph is graph and (is_made or node.name in int8),
        )  # fmt: skip

    def _activation(self, name: str, threshold: float) -> tuple[Value, Value]:
        """The scale and zero point of a value."""
        if not self.unsigned:
            return self._parameters(name, np.float32(threshold / LEVELS), ())
        is_positive = name in self.never_negative
        levels, zero = (_UNSIGNED, 0) if is_positive else (LEVELS, LEVELS + 1)
        return self._parameters(name, np.float32(threshold / levels), (), zero=np.uint8(zero))

    def _weight(self, node: Node, layer: Layer) -> None:
        """int8 weights in place of the float ones, and a DequantizeLinear that reads them."""
        array = self.values[layer.weight].const_value.numpy().astype(np.float32)
        scales = weight_scales(array, layer.weight_axis, levels=self.levels)
        values = quantized(array, scales, layer.weight_axis)
        if layer.op == "Conv" and layer.source in self.means:
            lost = array - values * scales.reshape(-1, *([1] * (array.ndim - 1)))
            self._correct_bias(node, mean_output(lost, self.means[layer.source], group_of(node)))
        if layer.weight not in self.weights:
            parameters = self._parameters(layer.weight, scales, scales.shape)
            stored = self._initializer(f"{layer.weight}_int8", values)
            result = self._fresh(f"{layer.weight}_dq")
            made = new_node(
                "DequantizeLinear", [stored, *parameters], result, dtype=FLOAT,
                shape=stored.shape, name=result, axis=layer.weight_axis,
            )  # fmt: skip
            self.model.graph.insert_before(node, made)
            self.weights[layer.weight] = made.outputs[0]
        node.replace_input_with(1, self.weights[layer.weight])

    def _correct_bias(self, node: Node, correction: NDArray[np.float32]) -> None:
        old = node.inputs[2] if len(node.inputs) > 2 else None
        if old is not None and not is_weight(old):
            return  # computed: left alone
        name, bias = (node.name, 0) if old is None else (old.name, old.const_value.numpy())
        node.resize_inputs(3)
        corrected = np.asarray(bias + correction, np.float32)
        node.replace_input_with(2, self._initializer(f"{name}_corrected", corrected))

    def _parameters(
        self, name: str, scale: Any, shape: tuple[int, ...], *, zero: Any = _ZERO
    ) -> tuple[Value, Value]:
        return (
            self._initializer(f"{name}_scale", np.asarray(scale, np.float32).reshape(shape)),
            self._initializer(f"{name}_zero_point", np.full(shape, zero, zero.dtype)),
        )

    def _initializer(self, name: str, array: NDArray[Any]) -> Value:
        return initializer(self.model, self._fresh(name), array)

    def _fresh(self, name: str) -> str:
        return fresh(name, self.taken)


def never_negative(graph: TypedGraph) -> frozenset[str]:
    """Values of a graph that are 0 or more whatever it reads."""
    found: set[Value] = set()
    for node in graph.nodes:
        keeps = node.op_type in _KEEPING and all(
            value is None or value in found or _is_positive_constant(value) for value in node.inputs
        )
        if keeps or node.op_type in _POSITIVE or _is_clipped_at_zero(node):
            found |= set(node.outputs)
    return frozenset(value.name for value in found)


def _is_clipped_at_zero(node: Node) -> bool:
    low = node.inputs[1] if node.op_type == "Clip" and len(node.inputs) > 1 else None
    return low is not None and _is_positive_constant(low)


def _is_positive_constant(value: Value) -> bool:
    return is_weight(value) and bool((value.const_value.numpy() >= 0).all())


def mean_output(
    weights: NDArray[np.float32], mean: NDArray[np.float32], group: int
) -> NDArray[np.float32]:
    """Mean of a Conv's output channels for input channels of these means; borders left out.

    Weights are O x I/group x ...
    """
    kernel_sums = weights.reshape(*weights.shape[:2], -1).sum(axis=2)
    means = np.repeat(mean.reshape(group, -1), len(weights) // group, axis=0)
    return np.asarray((kernel_sums * means).sum(axis=1), np.float32)

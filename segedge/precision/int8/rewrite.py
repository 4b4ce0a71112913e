"""The rewriting: Q/DQ pairs around what computes in int8, int8 weights with a DQ, all symmetric."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segedge.machine.optional import require
from segedge.precision.graph import TypedGraph, captured, copied, fresh, infer, onnx, refill
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
) -> Any:
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
        self.model = copied(graph.model)
        self.taken = {name for node in graph.nodes for name in (node.name, *node.output)}
        self.taken |= {w.name for w in self.model.graph.initializer}
        self.taken |= {v.name for v in self.model.graph.input}
        self.initializers: list[Any] = []
        self.weights: dict[str, tuple[Any, str]] = {}

    def run(self, layers: Sequence[Layer], thresholds: Mapping[str, float]) -> Any:
        helper = onnx().helper
        int8_layers = {layer.name: layer for layer in layers if layer.name in self.placement.int8}
        pairs, read = {}, {}
        for name in self.placement.values:
            scale, zero = self._activation(name, thresholds[name])
            quantized_name, read[name] = self._fresh(f"{name}_int8"), self._fresh(f"{name}_dq")
            pairs[name] = [
                helper.make_node(op, [source, scale, zero], [result], name=result)
                for op, source, result in (
                    ("QuantizeLinear", name, quantized_name),
                    ("DequantizeLinear", quantized_name, read[name]),
                )
            ]
        nodes: list[Any] = []
        for value in self.model.graph.input:
            nodes += pairs.get(value.name, [])
        for node in self.model.graph.node:
            self._redirect(node, read)
            if node.name in int8_layers:
                nodes += self._weight(node, int8_layers[node.name])
            nodes.append(node)
            for name in node.output:
                nodes += pairs.get(name, [])
        return self._assembled(nodes)

    def _activation(self, name: str, threshold: float) -> tuple[str, str]:
        """Names of the scale and zero point of a value."""
        if not self.unsigned:
            return self._parameters(name, np.float32(threshold / LEVELS), ())
        is_positive = name in self.never_negative
        levels, zero = (_UNSIGNED, 0) if is_positive else (LEVELS, LEVELS + 1)
        return self._parameters(name, np.float32(threshold / levels), (), zero=np.uint8(zero))

    def _redirect(self, node: Any, read: Mapping[str, str]) -> None:
        """Let a node read int8 where it computes in it, or where the value is made in it."""
        for index, name in enumerate(node.input):
            if name in read and (node.name in self.placement.int8 or name in self.placement.made):
                node.input[index] = read[name]

    def _weight(self, node: Any, layer: Layer) -> list[Any]:
        """int8 weights in place of the float ones; the DequantizeLinear that reads them."""
        made: list[Any] = []
        array = self.graph.constants[layer.weight].astype(np.float32)
        scales = weight_scales(array, layer.weight_axis, levels=self.levels)
        values = quantized(array, scales, layer.weight_axis)
        if layer.op == "Conv" and layer.source in self.means:
            lost = array - values * scales.reshape(-1, *([1] * (array.ndim - 1)))
            self._correct_bias(node, mean_output(lost, self.means[layer.source], group_of(node)))
        if layer.weight not in self.weights:
            scale, zero = self._parameters(layer.weight, scales, scales.shape)
            stored, result = self._fresh(f"{layer.weight}_int8"), self._fresh(f"{layer.weight}_dq")
            self._initializer(stored, values)
            made.append(
                onnx().helper.make_node(
                    "DequantizeLinear", [stored, scale, zero], [result], name=result,
                    axis=layer.weight_axis,
                )
            )  # fmt: skip
            self.weights[layer.weight] = (made[0], result)
        node.input[1] = self.weights[layer.weight][1]
        return made

    def _correct_bias(self, node: Any, correction: NDArray[np.float32]) -> None:
        old = node.input[2] if len(node.input) > 2 else ""
        if old and old not in self.graph.constants:
            return  # computed: left alone
        name = self._fresh(f"{old or node.name}_corrected")
        bias = self.graph.constants[old].astype(np.float32) if old else 0
        self._initializer(name, np.asarray(bias + correction, np.float32))
        if len(node.input) > 2:
            node.input[2] = name
        else:
            node.input.append(name)

    def _parameters(
        self, name: str, scale: Any, shape: tuple[int, ...], *, zero: Any = _ZERO
    ) -> tuple[str, str]:
        scale_name, zero_name = self._fresh(f"{name}_scale"), self._fresh(f"{name}_zero_point")
        self._initializer(scale_name, np.asarray(scale, np.float32).reshape(shape))
        self._initializer(zero_name, np.full(shape, zero, zero.dtype))
        return scale_name, zero_name

    def _initializer(self, name: str, array: Any) -> None:
        numpy_helper = require("onnx.numpy_helper", purpose="quantize a network")
        self.initializers.append(numpy_helper.from_array(array, name))

    def _fresh(self, name: str) -> str:
        return fresh(name, self.taken)

    def _assembled(self, nodes: list[Any]) -> Any:
        graph = self.model.graph
        del graph.value_info[:]
        refill(graph.node, nodes)
        needed = _read(graph)
        weights = (*graph.initializer, *self.initializers)
        refill(graph.initializer, (w for w in weights if w.name in needed))
        return infer(self.model)


def never_negative(graph: TypedGraph) -> frozenset[str]:
    """Values of a graph that are 0 or more whatever it reads."""
    found: set[str] = set()
    for node in graph.nodes:
        keeps = node.op_type in _KEEPING and all(
            name in found or _is_positive_constant(graph, name) for name in node.input if name
        )
        if keeps or node.op_type in _POSITIVE or _is_clipped_at_zero(graph, node):
            found |= set(node.output)
    return frozenset(found)


def _is_clipped_at_zero(graph: TypedGraph, node: Any) -> bool:
    low = node.input[1] if node.op_type == "Clip" and len(node.input) > 1 else ""
    return bool(low) and _is_positive_constant(graph, low)


def _is_positive_constant(graph: TypedGraph, name: str) -> bool:
    return name in graph.constants and bool((graph.constants[name] >= 0).all())


def mean_output(
    weights: NDArray[np.float32], mean: NDArray[np.float32], group: int
) -> NDArray[np.float32]:
    """Mean of a Conv's output channels for input channels of these means; borders left out.

    Weights are O x I/group x ...
    """
    kernel_sums = weights.reshape(*weights.shape[:2], -1).sum(axis=2)
    means = np.repeat(mean.reshape(group, -1), len(weights) // group, axis=0)
    return np.asarray((kernel_sums * means).sum(axis=1), np.float32)


def _read(graph: Any) -> Collection[str]:
    """Names that any node reads, also from inside a subgraph, or that are outputs."""
    names = {value.name for value in graph.output}
    for node in graph.node:
        names |= {*node.input} | captured(node)
    return names

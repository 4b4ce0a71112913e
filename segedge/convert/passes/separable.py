"""Linear maps of rows and of columns, in operators that every backend computes alike."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from segedge.graph.kit import Model, Node, Value, initializer, ir, replace_node, shape_of

Matrix = NDArray[np.float64]
"""Output places x input places."""


def replace_by_products(
    model: Model, source: Value, end: Node, *, rows: Matrix, columns: Matrix
) -> None:
    """Put ``rows @ x @ columns.T`` in the place of a node's result."""
    lib, name, dtype = ir(), end.outputs[0].name, source.dtype.numpy()
    left = initializer(model, f"{name}_rows", rows.astype(dtype))
    right = initializer(model, f"{name}_columns", columns.T.astype(dtype))
    first = lib.node("MatMul", inputs=[left, source])
    second = lib.node("MatMul", inputs=[first.outputs[0], right])
    replace_node(end, [first, second], ["mapped_rows", "mapped"])


def products_macs(channels: int, rows: Matrix, columns: Matrix) -> int:
    """Multiplications of `replace_by_products` for one image."""
    (high, height), (wide, width) = map(len, (rows, rows.T)), map(len, (columns, columns.T))
    return channels * high * width * (height + wide)


@dataclass(frozen=True)
class Sliding:
    """An axis whose outputs all read with the same taps, some of which may lie outside."""

    taps: Matrix
    stride: int
    before: int
    after: int
    """Zeros that lie outside the input, and are read."""
    gain: Matrix
    """What each output is multiplied with: what lies outside is not counted."""

    @classmethod
    def of(cls, matrix: Matrix) -> Sliding | None:
        """As which a matrix can be computed; None where its rows are not one row shifted."""
        results, length = matrix.shape
        stride, rest = divmod(length, results)
        if rest:
            return None
        middle = results // 2
        used = np.flatnonzero(matrix[middle])
        first = min(int(used[0]) - middle * stride, 0)
        taps = matrix[middle, middle * stride + first : int(used[-1]) + 1]
        after = max((results - 1) * stride + first + len(taps) - length, 0)
        shifted = np.zeros((results, -first + length + after))
        for row in range(results):
            shifted[row, row * stride : row * stride + len(taps)] = taps
        inside = shifted[:, -first : -first + length]
        gain = matrix.sum(axis=1) / inside.sum(axis=1)
        if not np.allclose(inside * gain[:, None], matrix, rtol=0, atol=1e-12):
            return None
        return cls(taps, stride, -first, after, gain)


def replace_by_convolution(
    model: Model, source: Value, end: Node, *, rows: Sliding, columns: Sliding
) -> None:
    """Put a depthwise convolution in the place of a node's result, and the gains behind it."""
    lib, name, dtype = ir(), end.outputs[0].name, source.dtype.numpy()
    channels = int((shape_of(source) or ())[1] or 1)
    kernel = np.tile(np.outer(rows.taps, columns.taps), (channels, 1, 1, 1))
    conv = lib.node(
        "Conv",
        inputs=[source, initializer(model, f"{name}_taps", kernel.astype(dtype))],
        attributes={
            "kernel_shape": list(kernel.shape[2:]),
            "strides": [rows.stride, columns.stride],
            "pads": [rows.before, columns.before, rows.after, columns.after],
            "group": channels,
        },
    )
    scaled(model, end, conv, np.outer(rows.gain, columns.gain))


def scaled(model: Model, end: Node, node: Node, gain: Matrix) -> None:
    """Put a node in the place of another's result, times a gain a place where it is not one."""
    if np.allclose(gain, 1.0, rtol=0, atol=1e-12):
        replace_node(end, [node], ["alike"])
        return
    dtype = end.outputs[0].dtype.numpy()
    factor = initializer(model, f"{end.outputs[0].name}_gain", gain[None, None].astype(dtype))
    product = ir().node("Mul", inputs=[node.outputs[0], factor])
    replace_node(end, [node, product], ["counted", "alike"])

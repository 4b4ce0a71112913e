"""Queries' classes and masks to one map of class scores, inside the graph.

What is appended is what `segedge.reference.masks` says, of operators that every backend takes:
Softmax, Slice, Sigmoid, MatMul, Reshape, Add and Log; a Resize where the masks are enlarged. It
stands at the masks' own resolution: the tail enlarges C sums instead of Q masks.
"""

from __future__ import annotations

import numpy as np

from segedge.convert.options import PassReport
from segedge.errors import ExportError
from segedge.graph.kit import (
    FLOAT,
    Formula,
    Model,
    Value,
    infer_shapes,
    opset_of,
    shape_of,
)
from segedge.reference.masks import SCORE_FLOOR

_RESIZE_SINCE = 13
"""Opset from which Slice, Softmax and Resize are written as here."""


def compose_masks(model: Model, *, scale: int) -> PassReport:
    """Make the two outputs of a graph, class logits and mask logits, one: logits a class."""
    if opset_of(model) < _RESIZE_SINCE:
        raise ExportError(
            "masks are composed in graphs of opset 13 and later",
            facts={"found": f"opset {opset_of(model)}"},
            fix="export the file again with a newer opset",
        )
    classes, masks = model.graph.outputs
    count = _known(classes, axis=2)
    queries, height, width = (_known(masks, axis=axis) for axis in (1, 2, 3))
    add = Formula(model, "masks")
    shares = add("Softmax", classes, dtype=FLOAT, axis=-1)
    shares = add("Slice", shares, [0], [-1], [2])
    if scale > 1:
        factors = np.array([1, 1, scale, scale], np.float32)
        masks = add("Resize", masks, None, factors, mode="linear")
    flat = add("Reshape", add("Sigmoid", masks, dtype=FLOAT), [0, queries, -1])
    summed = add("MatMul", add("Transpose", shares, perm=[0, 2, 1]), flat)
    grid = [0, count - 1, scale * height, scale * width]
    floored = add("Add", add("Reshape", summed, grid), np.array(SCORE_FLOOR, np.float32))
    model.graph.outputs[:] = [add("Log", floored, dtype=FLOAT)]
    model.graph.extend(add.take())
    infer_shapes(model)
    detail = f"{queries} queries x {count - 1} classes at {scale * height}x{scale * width}"
    return PassReport("compose masks and classes", changed=True, detail=detail)


def _known(value: Value, *, axis: int) -> int:
    """A length that must be fixed."""
    length = (shape_of(value) or (None,) * 4)[axis]
    if length is None:
        raise ExportError(
            "the sizes of class and mask logits are not known",
            facts={"found": f"{value.name}: {value.shape}"},
            fix="export the file again with fixed sizes",
        )
    return length

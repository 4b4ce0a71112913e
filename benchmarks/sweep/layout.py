"""What moves values and computes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import numpy as np
import torch
import torch.nn.functional as F
from onnx import helper

from sweep.case import IMAGE, RESULT, Case, one, weights


def cases() -> Iterator[Case]:
    """All of them."""
    for family in (_shapes, _joined, _parts, _picked, _written, _blocks, _sums):
        yield from family()


def _shapes() -> Iterator[Case]:
    for order in ([0, 2, 3, 1], [0, 1, 3, 2], [3, 2, 1, 0], None):
        yield one("Transpose", {"perm": order})
    for target in ([0, -1, 17], [2, 2, 12, 17], [-1], [1, 4, 0, -1]):
        yield one("Reshape", {}, np.array(target), words=f"to {target}")
    for axis in (0, 1, 2, -1):
        yield one("Flatten", {"axis": axis})
    yield one("Squeeze", {}, np.array([0]), words="axis 0")
    yield one("Squeeze", words="all")
    yield one("Unsqueeze", {}, np.array([0, -1]), words="axes 0 and -1")
    yield one("Expand", {}, np.array([3, 1, 1, 1]), words="by 3")
    yield one("Tile", {}, np.array([1, 2, 1, 3]), words="1x2x1x3")
    for start, end in ((None, None), (1, None), (-2, None), (1, -1)):
        shape = helper.make_node("Shape", [IMAGE], ["s"], name="s", **{
            k: v for k, v in (("start", start), ("end", end)) if v is not None
        })  # fmt: skip
        cast = helper.make_node("Cast", ["s"], [RESULT], to=1, name="cast")
        yield Case("Shape", f"{start} to {end}", (shape, cast))


def _joined() -> Iterator[Case]:
    for axis in (1, 2, -1, 0):
        twice = helper.make_node("Concat", [IMAGE, "n"], [RESULT], axis=axis, name="case")
        negative = helper.make_node("Neg", [IMAGE], ["n"], name="n")
        yield Case("Concat", f"axis {axis}", (negative, twice))
    for words, given in (("1, 3", np.array([1, 3])), ("even", None)):
        names = [IMAGE, "parts"] if given is not None else [IMAGE]
        extra = {} if given is not None else {"num_outputs": 2}
        split = helper.make_node("Split", names, ["a", "b"], axis=1, name="case", **extra)
        join = helper.make_node("Concat", ["b", "a"], [RESULT], axis=1, name="join")
        yield Case("Split", words, (split, join), {} if given is None else {"parts": given})
    split = helper.make_node("Split", [IMAGE], ["a", "b", "c"], axis=3, num_outputs=3, name="case")
    join = helper.make_node("Concat", ["c", "a"], [RESULT], axis=3, name="join")
    yield Case("Split", "uneven: 6, 6, 5", (split, join))


def _parts() -> Iterator[Case]:
    for words, (start, end, axis, step) in {
        "every second": (0, 99, 3, 2),
        "from behind": (-3, 99, 2, 1),
        "backwards": (-1, -99, 3, -1),
        "backwards, every second": (10, 1, 3, -2),
        "beyond the end": (5, 1 << 40, 2, 1),
        "negative axis": (1, -1, -1, 1),
    }.items():
        given = [np.array([v], np.int64) for v in (start, end, axis, step)]
        yield one("Slice", {}, *given, words=words)
    shape = {"axes": [2, 3]}
    yield one("CenterCropPad", shape, np.array([8, 21]), words="to 8x21")


def _picked() -> Iterator[Case]:
    for axis, places in product((1, 2, -1), ([0, 2], [-1, 0], [[0, 1], [2, 3]])):
        given = np.array(places, np.int64)
        yield one("Gather", {"axis": axis}, given, words=f"axis {axis}, {places}")
    yield one("Gather", {"axis": 1}, np.array(1, np.int64), words="axis 1, one")
    places = np.random.default_rng(0).integers(-12, 12, (1, 4, 5, 17))
    yield one("GatherElements", {"axis": 2}, places, words="axis 2, negative too")
    yield one("GatherND", {}, np.array([[0, 1], [0, 3]]), words="2 of 4 axes")
    yield one("GatherND", {"batch_dims": 1}, np.array([[[1, 2], [3, 4]]]), words="batch_dims 1")
    mask = np.zeros((12,), np.bool_)
    mask[::3] = True
    yield one("Compress", {"axis": 2}, mask, words="axis 2")


def _written() -> Iterator[Case]:
    for reduction in ("none", "add", "mul", "max", "min"):
        places = np.array([[0, 1], [0, 3]])
        values = weights(2, 12, 17, seed=3)
        yield one("ScatterND", {"reduction": reduction}, places, values)
        spots = np.random.default_rng(0).permuted(np.tile(np.arange(12), (1, 4, 17, 1)), axis=3)
        spots = np.ascontiguousarray(spots.transpose(0, 1, 3, 2)[:, :, :5])
        yield one(
            "ScatterElements", {"axis": 2, "reduction": reduction}, spots, weights(1, 4, 5, 17)
        )
    for upper, k in product((0, 1), (0, -2, 3)):
        way = torch.triu if upper else torch.tril
        yield one("Trilu", {"upper": upper}, np.array(k), words=f"upper {upper}, k {k}",
                  torch=lambda x, w=way, k=k: w(x, k))  # fmt: skip


def _blocks() -> Iterator[Case]:
    for mode in ("DCR", "CRD"):
        yield one("DepthToSpace", {"blocksize": 2, "mode": mode},
                  torch=(lambda x: F.pixel_shuffle(x, 2)) if mode == "CRD" else None)  # fmt: skip
    yield one("SpaceToDepth", {"blocksize": 2}, shape=(1, 4, 12, 16))
    columns = (1, 8, 12 * 17)
    yield one(
        "Col2Im", {"pads": [0, 0, 1, 1]}, np.array([12, 17]), np.array([2, 2]), shape=columns,
        words="2x2, pads 0x0x1x1",
    )  # fmt: skip
    theta = np.array([[[1.0, 0.2, 0.1], [-0.1, 0.9, 0]]], np.float32)
    for corners in (0, 1):
        grid = helper.make_node(
            "AffineGrid", ["theta", "size"], ["grid"], align_corners=corners, name="grid"
        )
        # Not GridSample, whose own differences would hide it: the grid itself, beside the image.
        product_ = helper.make_node("ReduceMean", [IMAGE], ["mean"], keepdims=0, name="mean")
        add = helper.make_node("Add", ["grid", "mean"], [RESULT], name="add")
        constants = {"theta": theta, "size": np.array([1, 4, 6, 7])}
        yield Case("AffineGrid", f"align_corners {corners}", (grid, product_, add), constants)


def _sums() -> Iterator[Case]:
    for exclusive, reverse in product((0, 1), (0, 1)):
        yield one("CumSum", {"exclusive": exclusive, "reverse": reverse}, np.array(3))
    hot = helper.make_node("ArgMax", [IMAGE], ["c"], axis=1, keepdims=0, name="c")
    one_hot = helper.make_node("OneHot", ["c", "depth", "values"], [RESULT], axis=1, name="case")
    constants = {"depth": np.array(4), "values": np.array([0, 1], np.float32)}
    yield Case("OneHot", "axis 1", (hot, one_hot), constants)
    yield one("Identity")
    yield one("Dropout")
    lengths = np.array([5, 9, 2, 12], np.int64)
    yield one("ReverseSequence", {"batch_axis": 1, "time_axis": 2}, lengths)

"""What kernels are handed, and what those that read logits are compiled for."""

from __future__ import annotations

import numpy as np
from numpy.typing import DTypeLike

from segedge.card.card import ModelCard
from segedge.card.geometry import AxisMap, PlaneMap, Size
from segedge.cuda.runtime.program import Argument, Plane

_FRACTION = 40


def fixed_point(axis: AxisMap, shift: float = 0.0) -> tuple[np.int64, np.int64]:
    """Scale and offset of an index map in the kernels' fixed point, 40 fractional bits."""
    one = 1 << _FRACTION
    return np.int64(round(axis.scale * one)), np.int64(round((axis.offset + shift) * one))


def maps_of(plane: PlaneMap, shift: float = 0.0) -> list[Argument]:
    """Index maps of rows and columns."""
    return [*fixed_point(plane.y, shift), *fixed_point(plane.x, shift)]


def size_of(size: Size) -> tuple[np.int32, np.int32]:
    """Height and width."""
    return np.int32(size.height), np.int32(size.width)


def plane_of(plane: Plane | None) -> tuple[int, np.int64]:
    """Address and pitch; zeros for none."""
    return (plane.pointer, np.int64(plane.pitch)) if plane else (0, np.int64(0))


def pieces(length: int, step: int) -> int:
    """How many pieces of a length cover another."""
    return -(-length // step)


def blocks_of(size: Size, block: tuple[int, int]) -> tuple[int, int]:
    """The grid of blocks (columns, rows) that covers a plane."""
    return pieces(size.width, block[0]), pieces(size.height, block[1])


def logit_defines(card: ModelCard, dtype: DTypeLike, *, sure: bool = False) -> dict[str, int]:
    """Constants of ``logits.cu`` for logits of a type.

    With ``sure``, of an output that holds probabilities their logarithms are read.
    """
    return {
        "logs": int(sure and card.probabilities),
        "classes": len(card.classes),
        "sigmoid": int(card.activation == "sigmoid"),
        "half": int(np.dtype(dtype) == np.float16),
        "nhwc": int(card.logits_layout == "nhwc"),
    }

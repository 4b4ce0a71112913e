"""Rows of planes that kernels get by their address."""

from __future__ import annotations

from segedge.cpu.kernels.compiled import carray, njit
from segedge.cpu.kernels.simd import pointer_f32, pointer_u8
from segedge.cpu.kernels.tables import INNER, Bytes, Floats, Rows


@njit(**INNER)
def byte_row(rows: Rows, y: int, size: int) -> Bytes:
    """``size`` bytes of row ``y`` of a plane."""
    row: Bytes = carray(pointer_u8(rows[0] + y * rows[1]), (size,))
    return row


@njit(**INNER)
def float_row(rows: Rows, y: int, size: int) -> Floats:
    """``size`` float32 of row ``y`` of a plane."""
    row: Floats = carray(pointer_f32(rows[0] + y * rows[1]), (size,))
    return row

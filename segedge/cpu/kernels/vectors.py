"""The few vector operations that the kernels are built from, as LLVM IR.

Numba cannot promise LLVM that two arrays do not overlap, so a loop over a short run is guarded by
overlap checks and finished byte by byte; in the tail, where runs are short, that costs more than
the work. These intrinsics handle a fixed block of `BLOCK` pixels without a branch. The vector
types are generic: LLVM turns them into AVX, SSE or NEON instructions, whatever the machine has.

Addresses are plain integers. Callers see to it that a whole block is inside the array.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from segedge.cpu.kernels.ir import (
    F16,
    F32,
    I8,
    I16,
    I32,
    I64,
    i64,
    load,
    multiply_add,
    splat,
    store,
)
from segedge.cpu.kernels.tables import BLOCK, LANES, TILE


@intrinsic
def pointer_u8(typing_context: Any, address: Any) -> Any:
    """Address to pointer, for ``numba.carray``."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.inttoptr(args[0], I8.as_pointer())

    return types.CPointer(types.uint8)(types.intp), codegen


@intrinsic
def pointer_f32(typing_context: Any, address: Any) -> Any:
    """Address to float32 pointer, for ``numba.carray``."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.inttoptr(args[0], F32.as_pointer())

    return types.CPointer(types.float32)(types.intp), codegen


@intrinsic
def float_of_bits(typing_context: Any, bits: Any) -> Any:
    """The float32 with these 32 bits."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], F32)

    return types.float32(types.int32), codegen


@intrinsic
def take_ticket(typing_context: Any, counter: Any) -> Any:
    """Old value of ``counter[0]``, which is raised by one: the next piece of work, once each."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, args[0])
        return builder.atomic_rmw("add", array.data, ir.Constant(I64, 1), "monotonic")

    return types.int64(counter), codegen


@intrinsic
def fill_u8(typing_context: Any, address: Any, value: Any) -> Any:
    """Write `BLOCK` equal bytes."""
    return types.void(types.intp, types.uint8), _fill_codegen(I8)


@intrinsic
def fill_u16(typing_context: Any, address: Any, value: Any) -> Any:
    """Write `BLOCK` equal 16-bit numbers."""
    return types.void(types.intp, types.uint16), _fill_codegen(I16)


@intrinsic
def blend_block(typing_context: Any, out: Any, frame: Any, colors: Any, weight: Any) -> Any:
    """``out = (frame * weight + colors) >> 8`` over the 48 bytes of `BLOCK` pixels.

    ``colors`` addresses 48 16-bit numbers; products stay below 65536 (see `overlay.Blend`).
    """
    return types.void(types.intp, types.intp, types.intp, types.uint16), _blend_codegen


def _fill_codegen(element: ir.IntType) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vector = ir.VectorType(element, BLOCK)
        address = builder.inttoptr(args[0], vector.as_pointer())
        builder.store(splat(builder, args[1], vector), address, align=1)
        return context.get_dummy_value()

    return codegen


def _blend_codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    out, frame, colors, weight = args
    narrow, wide = ir.VectorType(I8, BLOCK), ir.VectorType(I16, BLOCK)
    weights = splat(builder, weight, wide)
    for part in range(3):
        pixels = builder.zext(load(builder, frame, part * BLOCK, narrow), wide)
        tint = load(builder, colors, part * BLOCK * 2, wide)
        total = builder.add(builder.mul(pixels, weights), tint)
        mixed = builder.trunc(builder.lshr(total, ir.Constant(wide, [8] * BLOCK)), narrow)
        store(builder, mixed, out, part * BLOCK)
    return context.get_dummy_value()


@intrinsic
def narrow_block(typing_context: Any, out: Any, source: Any) -> Any:
    """`BLOCK` float32 to float16, rounded to nearest; see `cpu.HAS_HALF`."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        floats = load(builder, args[1], 0, ir.VectorType(F32, BLOCK))
        store(builder, builder.fptrunc(floats, ir.VectorType(F16, BLOCK)), args[0], 0)
        return context.get_dummy_value()

    return types.void(types.intp, types.intp), codegen


@intrinsic
def widen_block(typing_context: Any, out: Any, source: Any) -> Any:
    """`BLOCK` float16 to float32; see `cpu.HAS_HALF`."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        halves = load(builder, args[1], 0, ir.VectorType(F16, BLOCK))
        store(builder, builder.fpext(halves, ir.VectorType(F32, BLOCK)), args[0], 0)
        return context.get_dummy_value()

    return types.void(types.intp, types.intp), codegen


@intrinsic
def halve_block(
    typing_context: Any, upper: Any, lower: Any, out0: Any, out1: Any, out2: Any, affine: Any
) -> Any:
    """Sums of 2x2 pixels times a factor plus a bias, one plane a channel, for `BLOCK` results.

    ``upper`` and ``lower`` address 96 bytes each of two frame rows, ``out0..2`` 16 float32 in the
    planes of the frame's channels, ``affine`` six float32: three factors, three biases.
    """
    return types.void(*[types.intp] * 6), _halve_codegen


def _halve_codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    upper, lower, *outs, affine = args
    lanes = 6 * BLOCK
    narrow, wide = ir.VectorType(I8, lanes), ir.VectorType(I16, lanes)
    floats = ir.VectorType(F32, BLOCK)
    rows = [builder.zext(load(builder, row, 0, narrow), wide) for row in (upper, lower)]
    column_sums = builder.add(*rows)
    for channel, out in enumerate(outs):
        left = _every_sixth(builder, column_sums, channel)
        right = _every_sixth(builder, column_sums, channel + 3)
        value = builder.uitofp(builder.add(left, right), floats)
        factor, bias = (
            splat(builder, load(builder, affine, 4 * position, F32, align=4), floats)
            for position in (channel, channel + 3)
        )
        store(builder, builder.fadd(builder.fmul(value, factor), bias), out, 0)
    return context.get_dummy_value()


@intrinsic
def mix_two_taps(
    typing_context: Any, mixed: Any, first: Any, weights: Any, taps: Any, affine: Any, out: Any,
    plane: Any,
) -> Any:  # fmt: skip
    """`mix_taps` for windows of two pixels; ``taps`` is ignored."""
    return types.void(*[types.intp] * 7), _mix_codegen(2)


@intrinsic
def mix_taps(
    typing_context: Any, mixed: Any, first: Any, weights: Any, taps: Any, affine: Any, out: Any,
    plane: Any,
) -> Any:  # fmt: skip
    """Weighted sums of pixels times a factor plus a bias, one plane a channel, for `LANES` results.

    ``mixed`` addresses a row of float32 pixels, three values each and one more value at the very
    end; ``first`` the int32 first pixel of each window; ``weights`` float32, ``taps`` a result;
    ``affine`` six float32: three factors, three biases; ``out`` the results of the first channel,
    those of the others lie ``plane`` and twice ``plane`` bytes further.
    """
    return types.void(*[types.intp] * 7), _mix_codegen(None)


def _mix_codegen(constant_taps: int | None) -> Any:
    vector = ir.VectorType(F32, LANES)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        mixed, first, weights, taps, affine, out, plane = args
        if constant_taps is not None:
            taps = ir.Constant(I64, constant_taps)
        pixels = [
            _window_sum(builder, mixed, first, weights, taps, constant_taps, lane)
            for lane in range(LANES)
        ]
        for channel in range(3):
            value = _channel_of(builder, pixels, channel)
            factor, bias = (
                splat(builder, load(builder, affine, 4 * position, F32, align=4), vector)
                for position in (channel, channel + 3)
            )
            store(builder, multiply_add(builder, value, factor, bias), out, 0)
            out = builder.add(out, plane)
        return context.get_dummy_value()

    return codegen


def _window_sum(
    builder: Any, mixed: Any, first: Any, weights: Any, taps: Any, constant: int | None, lane: int
) -> Any:
    """Sum over one window; lanes of the vector are the channels, the last one is waste."""
    vector = ir.VectorType(F32, LANES)
    index = builder.sext(load(builder, first, 4 * lane, I32, align=4), I64)
    base = builder.add(mixed, builder.mul(index, ir.Constant(I64, 12)))
    row_bytes = builder.mul(taps, ir.Constant(I64, 4 * lane))
    shares = builder.add(weights, row_bytes)

    def term(tap: Any, total: Any) -> Any:
        pixel = load(builder, builder.add(base, builder.mul(tap, i64(12))), 0, vector)
        share = load(builder, builder.add(shares, builder.mul(tap, i64(4))), 0, F32, align=4)
        spread = splat(builder, share, vector)
        if total is None:
            return builder.fmul(pixel, spread)
        return multiply_add(builder, pixel, spread, total)

    total = term(i64(0), None)
    if constant is not None:
        for tap in range(1, constant):
            total = term(i64(tap), total)
        return total
    slot = cgutils.alloca_once_value(builder, total)
    with cgutils.for_range_slice(builder, i64(1), taps, i64(1), I64) as (tap, _):
        builder.store(term(tap, builder.load(slot)), slot)
    return builder.load(slot)


def _channel_of(builder: Any, pixels: list[Any], channel: int) -> Any:
    """One lane of each of four vectors, as a vector."""
    pair = ir.Constant(ir.VectorType(I32, 2), [channel, channel + LANES])
    quad = ir.Constant(ir.VectorType(I32, 4), [0, 1, 2, 3])
    front = builder.shuffle_vector(pixels[0], pixels[1], pair)
    back = builder.shuffle_vector(pixels[2], pixels[3], pair)
    return builder.shuffle_vector(front, back, quad)


def _every_sixth(builder: Any, values: Any, start: int) -> Any:
    mask = ir.Constant(ir.VectorType(I32, BLOCK), [6 * lane + start for lane in range(BLOCK)])
    return builder.shuffle_vector(values, ir.Constant(values.type, ir.Undefined), mask)


@intrinsic
def read_tile(
    typing_context: Any, key: Any, places: Any, stride: Any, out: Any, plane: Any, count: Any
) -> Any:
    """Bilinear reads of `TILE` points: `TILE` channels of them, the first ``count`` written.

    ``key`` addresses the first of these channels at the grid's first point, where the channels of
    a point lie side by side. ``places`` addresses five rows of 32-bit numbers, ``stride`` bytes
    apart: values from there to the point above left, from that to the one on its right, to the one
    below it, and the float32 weights of both. Channels are written as rows ``plane`` bytes apart.
    """
    return types.void(*[types.intp] * 6), _tile_codegen(is_pair=False)


@intrinsic
def mix_tiles(
    typing_context: Any, key: Any, places: Any, other: Any, its_places: Any, stride: Any,
    out: Any, plane: Any, count: Any,
) -> Any:  # fmt: skip
    """`read_tile` of two keys, mixed; a sixth row of ``its_places`` is the other's share."""
    return types.void(*[types.intp] * 8), _tile_codegen(is_pair=True)


def _tile_codegen(is_pair: bool) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        *keys, stride, out, plane, count = args
        points = []
        for lane in range(TILE):
            value = _read_point(builder, keys[0], keys[1], stride, lane)
            if is_pair:
                other = _read_point(builder, keys[2], keys[3], stride, lane)
                share = splat(builder, _entry(builder, keys[3], stride, 5, lane, F32), value.type)
                value = _between(builder, value, other, share)
            points.append(value)
        for channel, values in enumerate(_transposed(builder, points)):
            with builder.if_then(builder.icmp_signed(">", count, i64(channel)), likely=True):
                store(builder, values, out, 0)
            out = builder.add(out, plane)
        return context.get_dummy_value()

    return codegen


def _entry(builder: Any, places: Any, stride: Any, row: int, lane: int, kind: Any) -> Any:
    address = builder.add(places, builder.mul(stride, i64(row)))
    return load(builder, address, 4 * lane, kind, align=4)


def _read_point(builder: Any, key: Any, places: Any, stride: Any, lane: int) -> Any:
    """`TILE` channels at one point, bilinear."""
    vector = ir.VectorType(F32, TILE)
    above_left, right, below = (
        builder.shl(builder.zext(_entry(builder, places, stride, row, lane, I32), I64), i64(2))
        for row in range(3)
    )
    across, down = (
        splat(builder, _entry(builder, places, stride, row, lane, F32), vector) for row in (3, 4)
    )

    def line(start: Any) -> Any:
        left = load(builder, start, 0, vector, align=4)
        there = load(builder, builder.add(start, right), 0, vector, align=4)
        return _between(builder, left, there, across)

    above = builder.add(key, above_left)
    return _between(builder, line(above), line(builder.add(above, below)), down)


def _between(builder: Any, low: Any, high: Any, share: Any) -> Any:
    return multiply_add(builder, builder.fsub(high, low), share, low)


def _transposed(builder: Any, rows: list[Any]) -> list[Any]:
    """As many vectors as each has lanes, a power of two: in each round neighbours swap halves."""
    count, size = len(rows), 1
    while size < count:
        first = [lane + (count - size if lane & size else 0) for lane in range(count)]
        masks = [
            ir.Constant(ir.VectorType(I32, count), [lane + more for lane in first])
            for more in (0, size)
        ]
        swapped = list(rows)
        for low in range(count):
            if not low & size:
                pair = rows[low], rows[low + size]
                swapped[low], swapped[low + size] = (
                    builder.shuffle_vector(*pair, mask) for mask in masks
                )
        rows, size = swapped, 2 * size
    return rows


@intrinsic
def load_u64(typing_context: Any, address: Any) -> Any:
    """The eight bytes at an address, of any alignment."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return load(builder, args[0], 0, I64)

    return types.uint64(types.intp), codegen


@intrinsic
def first_one(typing_context: Any, bits: Any) -> Any:
    """Position of the lowest bit of a number that is not zero."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.uint64), codegen

"""Vector operations of a confidence, as LLVM IR; see `segedge.cpu.kernels.confidence`.

They work on `WIDE` pixels of a row at once. A class has a line of `LINE_BYTES` in a table: values
of these pixels at the grid row above, and behind them, `STEP_BYTES` further, how much is added on
the way to the grid row below. `begin_powers` makes powers of two of them: but for margins values
are logarithms to base two. Results are written as a row, and added to the one behind it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from segedge.cpu.kernels.ir import F32, I32, I64, i64, load, splat, store
from segedge.cpu.kernels.tables import BLOCK, LINE_BYTES, STEP_BYTES, WIDE

_FLOATS, _BITS = ir.VectorType(F32, WIDE), ir.VectorType(I32, WIDE)
_FUSED = ("contract", "nsz")
"""A product and a sum may be rounded once, where the machine has an instruction for it."""
_POWER_OF_TWO = (
    0.00015461444677438305, 0.0013400428177538421, 0.009618056678602289, 0.055503272266701466,
    0.24022650922288333, 0.6931472067028337, 1.0,
)  # fmt: skip
"""2**x for |x| <= 0.5, interpolated at Chebyshev's points: relative error below 3e-9."""
_LEAST_POWER = -125.0
_TO_WHOLE = 1.5 * 2.0**23
"""Added to a float32 of at most 22 bits: its last bits are the nearest whole number."""
_LOGARITHM = tuple(2.0 / (power * math.log(2.0)) for power in (9, 7, 5, 3, 1))
"""Of log2((1 + x) / (1 - x)) / x, by x**2."""
_ROOT_HALF_BITS = 0x3F3504F3


@intrinsic
def lay_line(
    typing_context: Any, line: Any, cells: Any, count: Any, points: Any, plane: Any, weights: Any
) -> Any:
    """A class in some cells, a `BLOCK` of pixels each, the later ones over the ends of the others.

    ``cells`` addresses two 64-bit numbers each: bytes from the line to its first pixel, and from a
    grid row to the point on the left. ``points`` addresses four grid rows, ``plane`` bytes apart,
    see `tables.Sureness`; ``weights`` the shares of the points on the right along the line.
    """
    vector = ir.VectorType(F32, BLOCK)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        line, cells, count, points, plane, weights = args
        end = builder.add(cells, builder.mul(count, i64(16)))
        with cgutils.for_range_slice(builder, cells, end, i64(16), I64) as (cell, _):
            start, column = load(builder, cell, 0, I64), load(builder, cell, 8, I64)
            share = load(builder, builder.add(weights, start), 0, vector)
            point, target = builder.add(points, column), builder.add(line, start)
            for offset in (0, STEP_BYTES):
                values = []
                for _ in range(2):
                    values.append(splat(builder, load(builder, point, 0, F32, align=4), vector))
                    point = builder.add(point, plane)
                store(builder, _add(builder, values[0], values[1], share), target, offset)
        return context.get_dummy_value()

    return types.void(*[types.intp] * 6), codegen


@intrinsic
def begin_powers(typing_context: Any, line: Any, weight: Any, step: Any) -> Any:
    """A line's values become powers of those at a row, its steps factors from row to row."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        line, weight, step = args
        above = load(builder, line, 0, _FLOATS)
        more = load(builder, line, STEP_BYTES, _FLOATS)
        value = _add(builder, above, more, splat(builder, weight, _FLOATS))
        store(builder, _power(builder, value), line, 0)
        growth = builder.fmul(more, splat(builder, step, _FLOATS))
        store(builder, _power(builder, growth), line, STEP_BYTES)
        return context.get_dummy_value()

    return types.void(types.intp, types.float32, types.float32), codegen


@intrinsic
def powers_row(typing_context: Any, lines: Any, count: Any, row: Any) -> Any:
    """Probabilities of the winners in a row, by the powers of the classes, which go on by a row."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        lines, count, row = args

        def step(line: Any, best: Any, total: Any) -> tuple[Any, ...]:
            power = load(builder, line, 0, _FLOATS)
            growth = load(builder, line, STEP_BYTES, _FLOATS)
            store(builder, builder.fmul(power, growth), line, 0)
            return _larger(builder, best, power), builder.fadd(total, power)

        best, total = _for_lines(builder, lines, count, step, (_all(0.0), _all(0.0)))
        _write(builder, builder.fdiv(best, total), row)
        return context.get_dummy_value()

    return types.void(types.intp, types.intp, types.intp), codegen


@intrinsic
def probability_row(typing_context: Any, lines: Any, count: Any, weight: Any, row: Any) -> Any:
    """Probabilities of the winners in a row that is so far from the grid row above."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        lines, count, weight, row = args
        shares = splat(builder, weight, _FLOATS)
        best = _best(builder, lines, count, shares)

        def step(line: Any, total: Any) -> tuple[Any, ...]:
            below = builder.fsub(_value(builder, line, shares), best)
            return (builder.fadd(total, _power(builder, below)),)

        (total,) = _for_lines(builder, lines, count, step, (_all(0.0),))
        _write(builder, builder.fdiv(_all(1.0), total), row)
        return context.get_dummy_value()

    return types.void(types.intp, types.intp, types.float32, types.intp), codegen


@intrinsic
def entropy_row(
    typing_context: Any, lines: Any, count: Any, weight: Any, scale: Any, row: Any
) -> Any:
    """Entropies in bits times a scale: log(sum) - mean logit, both relative to the best one."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        lines, count, weight, scale, row = args
        shares = splat(builder, weight, _FLOATS)
        best = _best(builder, lines, count, shares)

        def step(line: Any, total: Any, mean: Any) -> tuple[Any, ...]:
            below = builder.fsub(_value(builder, line, shares), best)
            below = _larger(builder, below, _all(_LEAST_POWER))
            power = _power(builder, below)
            return builder.fadd(total, power), _add(builder, mean, power, below)

        total, mean = _for_lines(builder, lines, count, step, (_all(0.0), _all(0.0)))
        entropy = builder.fsub(_log(builder, total), builder.fdiv(mean, total))
        _write(builder, builder.fmul(entropy, splat(builder, scale, _FLOATS)), row)
        return context.get_dummy_value()

    return types.void(*[types.intp] * 2, *[types.float32] * 2, types.intp), codegen


@intrinsic
def margin_row(typing_context: Any, lines: Any, count: Any, weight: Any, row: Any) -> Any:
    """How far the best value is above the second best in a row, of two lines at least."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        lines, count, weight, row = args
        shares = splat(builder, weight, _FLOATS)

        def step(line: Any, best: Any, second: Any) -> tuple[Any, ...]:
            value = _value(builder, line, shares)
            second = _larger(builder, second, _smaller(builder, best, value))
            return _larger(builder, best, value), second

        none = _all(-math.inf)
        best, second = _for_lines(builder, lines, count, step, (none, none))
        _write(builder, builder.fsub(best, second), row)
        return context.get_dummy_value()

    return types.void(types.intp, types.intp, types.float32, types.intp), codegen


def _for_lines(
    builder: Any, lines: Any, count: Any, step: Callable[..., tuple[Any, ...]],
    start: tuple[Any, ...],
) -> list[Any]:  # fmt: skip
    """What a step makes of values, line by line."""
    slots = [cgutils.alloca_once_value(builder, value) for value in start]
    end = builder.add(lines, builder.mul(count, i64(LINE_BYTES)))
    with cgutils.for_range_slice(builder, lines, end, i64(LINE_BYTES), I64) as (line, _):
        found = step(line, *map(builder.load, slots))
        for slot, value in zip(slots, found, strict=True):
            builder.store(value, slot)
    return [builder.load(slot) for slot in slots]


def _best(builder: Any, lines: Any, count: Any, shares: Any) -> Any:
    def step(line: Any, best: Any) -> tuple[Any, ...]:
        return (_larger(builder, best, _value(builder, line, shares)),)

    return _for_lines(builder, lines, count, step, (_all(-math.inf),))[0]


def _value(builder: Any, line: Any, shares: Any) -> Any:
    above = load(builder, line, 0, _FLOATS)
    return _add(builder, above, load(builder, line, STEP_BYTES, _FLOATS), shares)


def _write(builder: Any, value: Any, row: Any) -> None:
    store(builder, value, row, 0)
    sums = builder.fadd(load(builder, row, 4 * WIDE, _FLOATS), value)
    store(builder, sums, row, 4 * WIDE)


def _power(builder: Any, value: Any) -> Any:
    """2**value, of at most 127: by exponent bits, and of the rest; never below 2**-126."""
    value = _larger(builder, value, _all(_LEAST_POWER))
    shifted = builder.fadd(value, _all(_TO_WHOLE))
    rest = builder.fsub(value, builder.fsub(shifted, _all(_TO_WHOLE)))
    power = _polynomial(builder, rest, _POWER_OF_TWO)
    exponent = builder.shl(builder.bitcast(shifted, _BITS), _whole(23))
    return builder.bitcast(builder.add(builder.bitcast(power, _BITS), exponent), _FLOATS)


def _log(builder: Any, value: Any) -> Any:
    """To base two, of what is normal and positive: exponent bits, and a series near 1."""
    bits = builder.bitcast(value, _BITS)
    exponent = builder.ashr(builder.sub(bits, _whole(_ROOT_HALF_BITS)), _whole(23))
    near = builder.bitcast(builder.sub(bits, builder.shl(exponent, _whole(23))), _FLOATS)
    one = _all(1.0)
    ratio = builder.fdiv(builder.fsub(near, one), builder.fadd(near, one))
    series = _polynomial(builder, builder.fmul(ratio, ratio), _LOGARITHM)
    return _add(builder, builder.sitofp(exponent, _FLOATS), series, ratio)


def _polynomial(builder: Any, x: Any, coefficients: tuple[float, ...]) -> Any:
    """The highest power's first."""
    value = _all(coefficients[0])
    for coefficient in coefficients[1:]:
        value = _add(builder, _all(coefficient), value, x)
    return value


def _add(builder: Any, start: Any, value: Any, factor: Any) -> Any:
    return builder.fadd(builder.fmul(value, factor, flags=_FUSED), start, flags=_FUSED)


def _larger(builder: Any, one: Any, other: Any) -> Any:
    return builder.select(builder.fcmp_ordered(">", one, other), one, other)


def _smaller(builder: Any, one: Any, other: Any) -> Any:
    return builder.select(builder.fcmp_ordered("<", one, other), one, other)


def _all(value: float) -> Any:
    return ir.Constant(_FLOATS, [ir.Constant(F32, value)] * WIDE)


def _whole(value: int) -> Any:
    return ir.Constant(_BITS, [value] * WIDE)

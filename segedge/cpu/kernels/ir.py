"""What vector operations are written in: steps of LLVM IR on vectors at plain addresses."""

from __future__ import annotations

from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]

I8, I16, I32, I64 = map(ir.IntType, (8, 16, 32, 64))
F16, F32 = ir.HalfType(), ir.FloatType()


def i64(value: int) -> Any:
    """A constant number of 64 bits."""
    return ir.Constant(I64, value)


def splat(builder: Any, scalar: Any, vector: ir.VectorType) -> Any:
    """A vector of equal lanes."""
    nothing = ir.Constant(vector, ir.Undefined)
    first = builder.insert_element(nothing, scalar, ir.Constant(I32, 0))
    zeros = ir.Constant(ir.VectorType(I32, vector.count), [0] * vector.count)
    return builder.shuffle_vector(first, nothing, zeros)


def load(builder: Any, address: Any, offset: int, kind: Any, align: int = 1) -> Any:
    """What lies so many bytes behind an address."""
    pointer = builder.inttoptr(builder.add(address, i64(offset)), kind.as_pointer())
    return builder.load(pointer, align=align)


def store(builder: Any, value: Any, address: Any, offset: int) -> None:
    """Write it so many bytes behind an address."""
    pointer = builder.add(address, i64(offset))
    builder.store(value, builder.inttoptr(pointer, value.type.as_pointer()), align=1)


def multiply_add(builder: Any, value: Any, factor: Any, addend: Any) -> Any:
    """Rounded twice, on every machine alike."""
    return builder.fadd(builder.fmul(value, factor), addend)

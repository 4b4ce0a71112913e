"""The operations of `vectors` and `softmax`, without Numba until something is compiled."""

from __future__ import annotations

from typing import Any

from segedge.cpu.kernels.compiled import Deferred


def _deferred(name: str) -> Deferred:
    def make() -> Any:
        from segedge.cpu.kernels import vectors

        return getattr(vectors, name)

    return Deferred(make, name)


def _of_softmax(name: str) -> Deferred:
    def make() -> Any:
        from segedge.cpu.kernels import softmax

        return getattr(softmax, name)

    return Deferred(make, name)


blend_block = _deferred("blend_block")
fill_u16 = _deferred("fill_u16")
fill_u8 = _deferred("fill_u8")
first_one = _deferred("first_one")
float_of_bits = _deferred("float_of_bits")
halve_block = _deferred("halve_block")
load_u64 = _deferred("load_u64")
mix_taps = _deferred("mix_taps")
mix_two_taps = _deferred("mix_two_taps")
narrow_block = _deferred("narrow_block")
mix_tiles = _deferred("mix_tiles")
pointer_f32 = _deferred("pointer_f32")
pointer_u8 = _deferred("pointer_u8")
read_tile = _deferred("read_tile")
take_ticket = _deferred("take_ticket")
widen_block = _deferred("widen_block")

begin_powers = _of_softmax("begin_powers")
entropy_row = _of_softmax("entropy_row")
lay_line = _of_softmax("lay_line")
margin_row = _of_softmax("margin_row")
powers_row = _of_softmax("powers_row")
probability_row = _of_softmax("probability_row")

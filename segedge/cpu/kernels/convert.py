"""Kernel that converts between float16 and float32."""

from __future__ import annotations

from segedge.cpu.kernels.compiled import njit
from segedge.cpu.kernels.simd import narrow_block, take_ticket, widen_block
from segedge.cpu.kernels.tables import BLOCK, KERNEL, UNIT_BLOCKS, Longs


@njit(**KERNEL)
def convert_blocks(ticket: Longs, source: int, out: int, blocks: int, narrow: bool) -> None:
    """Blocks between two addresses until no ticket is left; ``narrow`` is to float16."""
    while True:
        first = take_ticket(ticket) * UNIT_BLOCKS
        if first >= blocks:
            return
        for block in range(first, min(first + UNIT_BLOCKS, blocks)):
            if narrow:
                narrow_block(out + 2 * BLOCK * block, source + 4 * BLOCK * block)
            else:
                widen_block(out + 4 * BLOCK * block, source + 2 * BLOCK * block)

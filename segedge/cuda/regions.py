"""Cleaning of label maps on the GPU; the twin of `segedge.cpu.regions.clean.Clean`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import DTypeLike, NDArray

from segedge.card.geometry import Size
from segedge.cuda.arguments import pieces, size_of
from segedge.cuda.runtime.program import Argument, Kernel, Launcher
from segedge.options.cleaning import Cleaning

_BLOCK = 256
_INTS_A_PIXEL = 8
"""Parents, areas, lowest, highest, edges, settled, list, starts of tables."""
_SIDES_A_PIXEL = 4
"""Of regions that are given away, at most: as many places have their tables."""
_FEW_BLOCKS = 256
_TILE = 32
"""Side of what a block unites in shared memory; as in the kernels."""


@dataclass(frozen=True)
class _Scratch:
    """Device addresses of what lies between the launches, int32 each."""

    parents: int
    areas: int
    lowest: int
    highest: int
    edges: int
    settled: int
    listed: int
    starts: int
    keys: int
    lengths: int
    totals: int

    @classmethod
    def at(cls, address: int, pixels: int) -> _Scratch:
        """One behind the other from an address on."""
        sizes = [pixels] * _INTS_A_PIXEL + [_SIDES_A_PIXEL * pixels] * 2
        starts = [address + 4 * sum(sizes[:k]) for k in range(len(sizes) + 1)]
        names = (field.name for field in fields(cls))
        return cls(**dict(zip(names, starts, strict=True)))


def tiles(size: Size) -> int:
    """Blocks that unite a map's tiles."""
    return pieces(size.height, _TILE) * pieces(size.width, _TILE)


def seam_pixels(size: Size) -> int:
    """Pixels right of an upright seam between tiles, and below a level one."""
    upright, level = (size.width - 1) // _TILE, (size.height - 1) // _TILE
    return upright * size.height + level * size.width


class Clean:
    """Launches the kernels for one size of label maps; holds no memory of the GPU.

    The result is that of `segedge.reference.regions.clean`, exactly; see ``kernels/regions.cu``.
    """

    def __init__(
        self, cleaning: Cleaning, classes: Sequence[str], size: Size, *, dtype: DTypeLike = "uint8"
    ) -> None:
        """Work out constants for maps of these classes, named in label order.

        Raises:
            UsageError: The cleaning names a class that there is not.
        """
        self._cleaning, self._size = cleaning, size
        self._dtype = np.dtype(dtype)
        self._pixels = size.height * size.width
        self.wanted: NDArray[np.int32] = np.array(cleaning.areas(classes), np.int32)
        """Least pixels of a region a class, to be uploaded."""

    @property
    def map_bytes(self) -> int:
        """Bytes of a label map, rounded up to 256."""
        return 256 * pieces(self._pixels * self._dtype.itemsize, 256)

    @property
    def scratch_bytes(self) -> int:
        """Device memory that `run` needs: 64 bytes a pixel, and less without regions."""
        if not self._cleaning.joins:
            return self.map_bytes
        ints = (_INTS_A_PIXEL + 2 * _SIDES_A_PIXEL) * self._pixels + 64
        return self.map_bytes + 4 * ints

    def run(self, launcher: Launcher, labels: int, out: int, scratch: int, *, wanted: int) -> None:
        """Clean one H x W map without padding into another one.

        Device addresses; ``scratch`` of `scratch_bytes`, aligned to 256, ``wanted`` of `wanted`.
        """
        size = size_of(self._size)
        if self._cleaning.majority > 1:
            filtered = scratch if self._cleaning.joins else out
            reach = np.int32(self._cleaning.majority // 2)
            self._run(launcher, "majority_labels", [labels, filtered, *size, reach])
            labels = filtered
        if self._cleaning.joins:
            self._join(
                launcher, labels, out, _Scratch.at(scratch + self.map_bytes, self._pixels), wanted
            )

    def _join(self, launcher: Launcher, labels: int, out: int, s: _Scratch, wanted: int) -> None:
        cleaning, run = self._cleaning, self._run
        size = size_of(self._size)
        pixels, classes = np.int32(self._pixels), np.int32(self.wanted.size)
        fill = np.uint32(cleaning.fill_holes)
        tables = [s.lowest, s.starts, s.keys, s.lengths]  # `lowest` counts sides by then
        connectivity = np.int32(cleaning.connectivity)
        run(
            launcher, "region_tiles",
            [labels, s.parents, s.areas, s.lowest, s.highest, s.edges, s.totals, *size,
             connectivity], blocks=tiles(self._size),
        )  # fmt: skip
        seams = seam_pixels(self._size)
        if seams:
            run(
                launcher, "region_seams", [labels, s.parents, *size, connectivity],
                blocks=pieces(seams, _BLOCK),
            )  # fmt: skip
        run(launcher, "region_measure", [labels, s.parents, s.areas, s.edges, *size])
        around: list[Argument] = [labels, s.parents, s.areas, wanted, s.lowest, s.highest]
        if cleaning.fill_holes > 1:
            run(launcher, "region_around", [*around, *size, classes, fill])
        run(
            launcher, "region_mark",
            [*around, s.edges, s.settled, s.listed, s.totals, pixels, classes, fill],
        )  # fmt: skip
        run(launcher, "region_sides", [s.parents, s.settled, s.lowest, *size])
        few = min(_FEW_BLOCKS, pieces(self._pixels, _BLOCK))
        run(launcher, "region_tables", [s.listed, *tables, s.totals], blocks=few)
        run(launcher, "region_borders", [s.parents, s.settled, *tables, *size])
        run(
            launcher, "region_join",
            [s.listed, *tables, s.settled, s.areas, s.totals, classes], blocks=1,
        )  # fmt: skip
        run(launcher, "region_write", [labels, out, s.parents, s.settled, pixels])

    def _run(
        self,
        launcher: Launcher,
        name: str,
        arguments: Sequence[Argument],
        *,
        blocks: int | None = None,
    ) -> None:
        grid = pieces(self._pixels, _BLOCK) if blocks is None else blocks
        launcher(self._kernel(name), (grid, 1), (_BLOCK, 1), arguments)

    def _kernel(self, name: str) -> Kernel:
        kind = "u8" if self._dtype == np.uint8 else "u16"
        return Kernel.of(name, ("common.cu", "regions.cu"), label=kind)

"""Regions of a label map on the CPU: finding them, and cleaning the map of small ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segedge.card.geometry import Size
from segedge.cpu.arrays import rows_of
from segedge.cpu.kernels.compiled import njit
from segedge.cpu.kernels.render import paint_row
from segedge.cpu.kernels.simd import take_ticket
from segedge.cpu.kernels.tables import KERNEL, Ints, Longs, Targets
from segedge.cpu.regions import runs as region_runs
from segedge.cpu.regions.join import join_regions
from segedge.cpu.regions.majority import filter_bands
from segedge.cpu.regions.runs import Runs, row_of_regions
from segedge.cpu.workers import Task, Workers, shared_workers
from segedge.options.cleaning import Cleaning
from segedge.reference.frame import label_dtype

_BAND_ROWS = 32
"""Rows in one piece of work."""
_NO_WEIGHTS = np.zeros(1, np.uint16)


@njit(**KERNEL)
def _paint_bands(
    ticket: Longs, bands: Ints, width: int, runs: Runs, row: Ints, targets: Targets, pixels: Longs
) -> None:
    """Write what is asked for from the runs, band by band."""
    while True:
        band = take_ticket(ticket)
        if band >= bands.shape[0]:
            return
        for y in range(bands[band, 0], bands[band, 1]):
            count = row_of_regions(y, runs, row)
            paint_row(row, count, width, y, targets, pixels)


class RegionFinder:
    """Finds the regions of label maps of one size. Used by one thread at a time."""

    def __init__(self, size: Size, *, connectivity: int = 4, workers: Workers | None = None):
        """Allocate scratch: 18 bytes a pixel, of which few are touched."""
        self.size = size
        self._workers = workers or shared_workers()
        self._reach = int(connectivity == 8)
        firsts = np.arange(0, size.height, _BAND_ROWS, dtype=np.int32)
        lasts = np.minimum(firsts + _BAND_ROWS, size.height)
        self.bands: NDArray[np.int32] = np.ascontiguousarray(np.stack([firsts, lasts], 1), np.int32)
        pixels = size.height * size.width
        ends, parents, areas = (np.empty(pixels, np.int32) for _ in range(3))
        row_starts, row_ends = (np.zeros(size.height, np.int32) for _ in range(2))
        labels = np.empty(pixels, np.uint16)
        self.runs = Runs(ends, labels, parents, areas, row_starts, row_ends)
        """Filled by `find`."""
        self._ticket = np.zeros(1, np.int64)

    def find(self, labels: NDArray[Any]) -> int:
        """Cut an H x W uint8 or uint16 map into runs and put them together; how many regions."""
        source = rows_of(labels)
        self.share(
            lambda _: region_runs.cut_bands(
                self._ticket, self.bands, source, labels.itemsize, self.size.width, self._reach,
                self.runs,
            )
        )  # fmt: skip
        region_runs.unite_bands(self.bands, self._reach, self.runs)
        count: int = region_runs.flatten(self.runs)
        return count

    def numbers(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Numbers of the runs that were found, and the row of each."""
        spans = list(zip(self.runs.row_starts.tolist(), self.runs.row_ends.tolist(), strict=True))
        numbers = np.concatenate([np.arange(start, end) for start, end in spans])
        return numbers, np.repeat(
            np.arange(self.size.height), [end - start for start, end in spans]
        )

    def count_by_label(self, labels: NDArray[Any], count: int) -> NDArray[np.int64]:
        """How many regions each of the labels 0..count-1 has in a map."""
        self.find(labels)
        numbers, _ = self.numbers()
        roots = numbers[self.runs.parents[numbers] == numbers]
        return np.bincount(self.runs.labels[roots], minlength=count)[:count]

    def share(self, task: Task) -> None:
        """Run a task that takes its bands by `ticket`."""
        self._ticket[0] = 0
        self._workers.run(task)

    @property
    def ticket(self) -> NDArray[np.int64]:
        """The counter that `share` resets."""
        return self._ticket


class Clean:
    """Cleans label maps of one size; `segedge.reference.regions` says how.

    Used by one thread at a time. The map is read by `prepare` and written by `paint`, so that
    labels, overlay and counts of the cleaned map cost one pass.
    """

    def __init__(
        self,
        cleaning: Cleaning,
        classes: Sequence[str],
        size: Size,
        *,
        workers: Workers | None = None,
    ) -> None:
        """Allocate scratch for maps of these classes, named in label order.

        Raises:
            UsageError: The cleaning names a class that is none of these.
        """
        self._cleaning = cleaning
        self._least = np.array(cleaning.areas(classes), np.int32)
        self._workers = workers or shared_workers()
        dtype = label_dtype(classes)
        self.map: NDArray[Any] = np.zeros((size.height, size.width), dtype)
        """Where the caller writes the labels to be cleaned."""
        connectivity = cleaning.connectivity
        self._finder = RegionFinder(size, connectivity=connectivity, workers=self._workers)
        pixels = size.height * size.width
        self._marks = np.empty(pixels if cleaning.joins else 0, np.int32)
        self._tally = np.zeros(pixels if cleaning.joins else 0, np.int32)
        self._filtered = np.empty_like(self.map) if cleaning.majority > 1 else self.map
        count = self._workers.count
        self._rows = [np.zeros((size.width, 2), np.int32) for _ in range(count)]
        self._is_even = [np.zeros(size.width, np.uint8) for _ in range(count)]
        labels = np.iinfo(dtype).max + 1
        self._counts = [np.zeros(labels, np.int32) for _ in range(count)]

    def prepare(self) -> int:
        """Clean what is in `map`, in the memory of this object; how many regions were joined."""
        finder, cleaning = self._finder, self._cleaning
        if cleaning.majority > 1:
            finder.share(self._filter)
        finder.find(self._filtered)
        if not cleaning.joins:
            return 0
        joined: int = join_regions(
            finder.runs, self._least, cleaning.fill_holes, self._marks, self._tally
        )
        return joined

    def paint(self, targets: Targets, pixels: NDArray[np.int64]) -> None:
        """Write the cleaned map, and its counts: a row a thread, a column a class and one more."""
        finder = self._finder
        finder.share(
            lambda participant: _paint_bands(
                finder.ticket, finder.bands, finder.size.width, finder.runs,
                self._rows[participant], targets, pixels[participant],
            )
        )  # fmt: skip

    def run(self, labels: NDArray[Any], out: NDArray[Any]) -> None:
        """Clean one map, H x W uint8 (or uint16 for more than 256 classes), into another."""
        self.map[...] = labels
        self.prepare()
        target = Targets(*rows_of(out), out.itemsize, 0, 0, 0, 0, 0, _NO_WEIGHTS)
        self.paint(target, np.zeros((self._workers.count, self._least.size + 1), np.int64))

    def _filter(self, participant: int) -> None:
        filter_bands(
            self._finder.ticket, self._finder.bands, self.map, self._filtered,
            self._cleaning.majority // 2, self._is_even[participant], self._counts[participant],
        )  # fmt: skip


def clean(labels: NDArray[Any], cleaning: Cleaning, classes: Sequence[str]) -> NDArray[Any]:
    """The cleaned map of one image; see `Clean.run`."""
    cleaner = Clean(cleaning, classes, Size(*labels.shape))
    result: NDArray[Any] = np.empty_like(cleaner.map)
    cleaner.run(labels, result)
    return result

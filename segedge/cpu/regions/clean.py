"""Regions of a label map on the CPU: finding them, and cleaning the map of small ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from segedge.card.geometry import Size
from segedge.cpu.arrays import address_of
from segedge.cpu.kernels.cells import KERNEL, Ints, Longs
from segedge.cpu.kernels.render import paint_row
from segedge.cpu.kernels.simd import take_ticket
from segedge.cpu.regions import join as region_join
from segedge.cpu.regions import majority
from segedge.cpu.regions import runs as region_runs
from segedge.cpu.regions.runs import Labels, row_of_regions
from segedge.cpu.workers import Task, Workers, shared_workers
from segedge.options.cleaning import Cleaning

_BAND_ROWS = 32
"""Rows in one piece of work."""


@njit(**KERNEL)
def _paint_bands(
    ticket: Longs,
    bands: Ints,
    width: int,
    row_starts: Ints,
    row_ends: Ints,
    ends: Ints,
    parents: Ints,
    region_labels: Labels,
    runs: Ints,
    labels: int,
    label_stride: int,
    label_bytes: int,
    overlay: int,
    overlay_stride: int,
    frame: int,
    frame_stride: int,
    tints: int,
    weights: NDArray[np.uint16],
    pixels: Longs,
) -> None:
    """Write what is asked for from the runs, band by band; outputs are those of `paint_row`."""
    while True:
        band = take_ticket(ticket)
        if band >= bands.shape[0]:
            return
        for y in range(bands[band, 0], bands[band, 1]):
            count = row_of_regions(row_starts[y], row_ends[y], ends, parents, region_labels, runs)
            paint_row(
                runs, count, width,
                labels + y * label_stride if labels != 0 else 0, label_bytes,
                overlay + y * overlay_stride if overlay != 0 else 0,
                frame + y * frame_stride, tints, weights, pixels,
            )  # fmt: skip


class RegionFinder:
    """Finds the regions of label maps of one size. Used by one thread at a time."""

    def __init__(self, size: Size, *, connectivity: int = 4, workers: Workers | None = None):
        """Allocate scratch: 18 bytes a pixel, of which few are touched.

        Args:
            size: Height and width of the maps.
            connectivity: 4 or 8.
            workers: Threads to share the work; the process-wide pool by default.
        """
        self.size = size
        self._workers = workers or shared_workers()
        self._reach = int(connectivity == 8)
        firsts = np.arange(0, size.height, _BAND_ROWS, dtype=np.int32)
        lasts = np.minimum(firsts + _BAND_ROWS, size.height)
        self.bands: NDArray[np.int32] = np.ascontiguousarray(np.stack([firsts, lasts], 1), np.int32)
        pixels = size.height * size.width
        self.ends, self.parents, self.areas = (np.empty(pixels, np.int32) for _ in range(3))
        self.labels = np.empty(pixels, np.uint16)
        self.row_starts, self.row_ends = (np.zeros(size.height, np.int32) for _ in range(2))
        self._ticket = np.zeros(1, np.int64)

    def find(self, labels: NDArray[Any]) -> int:
        """Cut the map into runs and put them together; the number of regions.

        Afterwards ``parents`` holds the first run of each run's region, ``areas`` its pixels
        there, and ``labels`` the label of each run.

        Args:
            labels: H x W uint8 or uint16; rows may lie apart.
        """
        width = self.size.width
        self.share(
            lambda participant: region_runs.cut_bands(
                self._ticket, self.bands, address_of(labels), labels.strides[0], labels.itemsize,
                width, self._reach, self.ends, self.labels, self.parents, self.row_starts,
                self.row_ends,
            )
        )  # fmt: skip
        region_runs.unite_bands(
            self.bands,
            self._reach,
            self.ends,
            self.labels,
            self.parents,
            self.row_starts,
            self.row_ends,
        )
        count: int = region_runs.flatten(
            self.row_starts, self.row_ends, self.ends, self.parents, self.areas
        )
        return count

    def count_by_label(self, labels: NDArray[Any], count: int) -> NDArray[np.int64]:
        """How many regions each of the labels 0..count-1 has.

        Args:
            labels: H x W uint8 or uint16.
            count: Length of what is returned.
        """
        self.find(labels)
        spans = zip(self.row_starts.tolist(), self.row_ends.tolist(), strict=True)
        runs = np.concatenate([np.arange(start, end) for start, end in spans])
        roots = runs[self.parents[runs] == runs]
        return np.bincount(self.labels[roots], minlength=count)[:count]

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
        """Allocate scratch.

        Args:
            cleaning: What to do.
            classes: Names of the classes, in label order.
            size: Height and width of the maps.
            workers: Threads to share the work; the process-wide pool by default.

        Raises:
            UsageError: The cleaning names a class that is none of these.
        """
        self._cleaning = cleaning
        self._least = np.array(cleaning.areas(classes), np.int32)
        self._workers = workers or shared_workers()
        dtype = np.uint8 if len(classes) <= 256 else np.uint16
        self.map: NDArray[Any] = np.zeros((size.height, size.width), dtype)
        """Where the caller writes the labels to be cleaned."""
        connectivity = cleaning.connectivity
        self._finder = RegionFinder(size, connectivity=connectivity, workers=self._workers)
        pixels = size.height * size.width
        self._marks = np.empty(pixels if cleaning.joins else 0, np.int32)
        self._tally = np.zeros(pixels if cleaning.joins else 0, np.int32)
        self._filtered = np.empty_like(self.map) if cleaning.majority > 1 else self.map
        count = self._workers.count
        self._runs = [np.zeros((size.width, 2), np.int32) for _ in range(count)]
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
        joined: int = region_join.join_regions(
            finder.row_starts, finder.row_ends, finder.ends, finder.parents, finder.labels,
            finder.areas, self._least, cleaning.fill_holes, self._marks, self._tally,
        )  # fmt: skip
        return joined

    def paint(self, targets: tuple[Any, ...], pixels: NDArray[np.int64]) -> None:
        """Write the cleaned map.

        Args:
            targets: The outputs' addresses, strides and tables, as `render.paint_row` takes them.
            pixels: Receives counts: one row a thread, one column a class and one for the rest.
        """
        finder = self._finder
        finder.share(
            lambda participant: _paint_bands(
                finder.ticket, finder.bands, finder.size.width, finder.row_starts,
                finder.row_ends, finder.ends,
                finder.parents, finder.labels, self._runs[participant], *targets,
                pixels[participant],
            )
        )  # fmt: skip

    def _filter(self, participant: int) -> None:
        majority.filter_bands(
            self._finder.ticket, self._finder.bands, self.map, self._filtered,
            self._cleaning.majority // 2, self._is_even[participant], self._counts[participant],
        )  # fmt: skip


def clean(
    labels: NDArray[Any], cleaning: Cleaning, classes: Sequence[str], *, out: Any = None
) -> NDArray[Any]:
    """The cleaned map of one image.

    Args:
        labels: H x W uint8, or uint16 for more than 256 classes.
        cleaning: What to do.
        classes: Names of the classes, in label order.
        out: Where to write it; by default a new array.

    Raises:
        UsageError: The cleaning names a class that is none of these.
    """
    cleaner = Clean(cleaning, classes, Size(*labels.shape))
    cleaner.map[...] = labels
    cleaner.prepare()
    result: NDArray[Any] = np.empty_like(cleaner.map) if out is None else out
    targets = (address_of(result), result.strides[0], result.itemsize, 0, 0, 0, 0, 0, _NO_WEIGHTS)
    counts = np.zeros((cleaner._workers.count, len(classes) + 1), np.int64)
    cleaner.paint(targets, counts)
    return result


_NO_WEIGHTS = np.zeros(1, np.uint16)

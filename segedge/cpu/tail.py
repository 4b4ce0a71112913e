"""Tail: raw network output to labels, overlay, confidence and pixel counts in one call."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from segedge.card.card import ModelCard
from segedge.card.geometry import Geometry, Size
from segedge.cpu import plan
from segedge.cpu.arrays import FlatOutput, address_of, check_image, check_plane, readable_image
from segedge.cpu.kernels import cells, confidence, render
from segedge.cpu.overlay import Blend
from segedge.cpu.regions.clean import Clean
from segedge.cpu.workers import Task, Workers, shared_workers
from segedge.errors import UsageError
from segedge.options.cleaning import Cleaning

ConfidenceKind = Literal["probability", "margin"]

_SMALL_GRID = 1 << 18
"""Logits below which one thread takes the grid's argmax: waking another costs as much."""

_NO_IMAGE = np.zeros((0, 0, 3), np.uint8)


class Tail:
    """Maps every frame pixel back to the logit grid and writes only what is asked for.

    Labels equal the argmax of bilinearly interpolated logits (`segedge.reference.frame`), but for
    ties. Made for one geometry; used by one thread at a time, different objects concurrently.
    """

    def __init__(
        self,
        card: ModelCard,
        geometry: Geometry,
        grid: Size,
        *,
        workers: Workers | None = None,
        cleaning: Cleaning | None = None,
        axes: tuple[plan.Axis, plan.Axis] | None = None,
    ) -> None:
        """Prepare tables and scratch.

        Args:
            card: What the network's output means.
            geometry: How the frame lies in the network's input.
            grid: Height and width of the network's output.
            workers: Threads to share the work; the process-wide pool by default.
            cleaning: What is done with the labels before they are written, painted and counted.
            axes: Tables of rows and columns for a grid that the geometry does not describe.

        Raises:
            UsageError: The cleaning names a class that the card lacks.
        """
        self._card = card
        self._frame = geometry.frame
        self._workers = workers or shared_workers()
        self._classes = len(card.classes)
        self._rows, self._columns = axes or _axes(card, geometry, grid)
        self._is_lookup = plan.is_lookup(self._rows, self._columns)
        self._units = plan.row_units(self._rows)
        self._output = FlatOutput(card, grid, self._workers)
        self._grid_labels = np.zeros((grid.height, grid.width), np.int32)
        self._ticket = np.zeros(1, np.int64)
        self._pixels = np.zeros((self._workers.count, self._classes + 1), np.int64)
        self._scratch = [
            _Scratch(self._columns, self._classes, grid) for _ in range(self._workers.count)
        ]
        self._column_map = np.array(
            [
                self._columns.map.scale,
                self._columns.map.offset,
                1.0 / (self._columns.map.scale or 1),
            ]
        )
        self._no_blend = Blend.of(card.palette_rgb, 0.0)
        self._cleaner: Clean | None = None
        if cleaning is not None and not cleaning.is_off:
            self._cleaner = Clean(cleaning, card.classes, self._frame, workers=self._workers)
        self._targets: tuple[Any, ...] = ()
        self._source = _NO_IMAGE

    @property
    def axes(self) -> tuple[plan.Axis, plan.Axis]:
        """Tables of rows and columns, for what else reads the grid."""
        return self._rows, self._columns

    @property
    def label_dtype(self) -> np.dtype[Any]:
        """uint8 for up to 256 classes, else uint16."""
        return np.dtype(np.uint8 if self._classes <= 256 else np.uint16)

    def run(
        self,
        logits: NDArray[Any],
        *,
        labels: NDArray[Any] | None = None,
        overlay: NDArray[np.uint8] | None = None,
        frame: NDArray[np.uint8] | None = None,
        blend: Blend | None = None,
        confidence: NDArray[np.float32] | None = None,
        confidence_kind: ConfidenceKind = "probability",
        class_pixels: NDArray[np.int64] | None = None,
    ) -> None:
        """Fill the arrays that are given. Rows may be strided, pixels inside a row not.

        Args:
            logits: The network's output: 1 x C x Gh x Gw (or NHWC as the card says), float32 or
                float16; for ``head="labels"`` 1 x Gh x Gw or 1 x 1 x Gh x Gw of integers. Labels
                that name no class become the highest label of `label_dtype`; they are neither
                painted nor counted.
            labels: H x W of `label_dtype` (uint16 always fits), receives the labels.
            overlay: H x W x 3 uint8 BGR, receives the frame with the classes' colours; it may not
                share memory with the frame.
            frame: H x W x 3 uint8 BGR, read for ``overlay``.
            blend: Colours and opacities for ``overlay``.
            confidence: H x W float32.
            confidence_kind: ``probability`` of the winner (softmax of the interpolated logits) or
                ``margin`` between the best two logits.
            class_pixels: One int64 a class, receives the number of pixels of each.

        Raises:
            ModelError: The output does not have the shape that the card and the grid say.
            UsageError: An array has a wrong shape, type or layout, or arguments do not go together.
        """
        wants_labels = not (labels is None and overlay is None and class_pixels is None)
        targets = (
            *self._label_target(labels),
            *self._overlay_target(overlay, frame, blend or self._no_blend),
        )
        self._check_rest(overlay, blend, confidence, confidence_kind, class_pixels)
        self._output.take(logits)
        if wants_labels:
            self._label_grid()
            self._write(targets)
        if class_pixels is not None:
            np.sum(self._pixels[:, :-1], axis=0, out=class_pixels)
        if confidence is not None:
            self._targets = (
                confidence_kind == "probability", address_of(confidence), confidence.strides[0]
            )  # fmt: skip
            self._share(self._confidence)
        self._release()

    def _write(self, targets: tuple[Any, ...]) -> None:
        """Labels, overlay and counts; where they are cleaned, from a map in between."""
        cleaner = self._cleaner
        self._targets = targets
        if cleaner is not None:
            whole = cleaner.map
            self._targets = (*self._label_target(whole), 0, 0, 0, 0, *targets[-2:])
        self._pixels[:] = 0
        self._share(self._lookup if self._is_lookup else self._cells)
        if cleaner is not None:
            cleaner.prepare()
            self._pixels[:] = 0
            cleaner.paint(targets, self._pixels)

    def _release(self) -> None:
        """Forget the caller's arrays, so that their memory can go back to its pool."""
        self._targets = ()
        self._source = _NO_IMAGE
        self._output.release()

    def _label_target(self, labels: NDArray[Any] | None) -> tuple[int, int, int]:
        """Address, bytes a row and bytes a label."""
        if labels is None:
            return 0, 0, 1
        check_plane("labels", labels, self._frame, self.label_dtype, np.uint16)
        return address_of(labels), labels.strides[0], labels.itemsize

    def _overlay_target(
        self, overlay: NDArray[np.uint8] | None, frame: NDArray[np.uint8] | None, blend: Blend
    ) -> tuple[Any, ...]:
        """Address and bytes a row of the overlay and the frame, and the blend's tables."""
        tables = (address_of(blend.colors), blend.weights)
        if overlay is None:
            return 0, 0, 0, 0, *tables
        if frame is None:
            raise UsageError("an overlay needs the frame that it is painted on")
        check_image("overlay", overlay, self._frame)
        source = readable_image("frame", frame, self._frame)
        if np.may_share_memory(overlay, source):
            raise UsageError(
                "overlay and frame share memory", fix="hand in another array for the overlay"
            )
        self._source = source  # kept alive: the kernels know only its address
        return (
            address_of(overlay), overlay.strides[0], address_of(source), source.strides[0], *tables
        )  # fmt: skip

    def _check_rest(
        self,
        overlay: NDArray[np.uint8] | None,
        blend: Blend | None,
        confidence: NDArray[np.float32] | None,
        kind: ConfidenceKind,
        class_pixels: NDArray[np.int64] | None,
    ) -> None:
        if overlay is not None and blend is None:
            raise UsageError("an overlay needs a blend", fix="blend=Blend.of(card.palette_rgb)")
        if confidence is not None:
            check_plane("confidence", confidence, self._frame, np.float32)
            if self._card.head == "labels":
                raise UsageError("a network that gives labels has no confidence")
            if kind not in ("probability", "margin"):
                raise UsageError(
                    f"no confidence {kind!r}", facts={"expected": "probability, margin"}
                )
        if class_pixels is not None and class_pixels.shape != (self._classes,):
            raise UsageError(
                "class_pixels has one entry a class",
                facts={"expected": f"({self._classes},)", "found": str(class_pixels.shape)},
            )

    def _label_grid(self) -> None:
        """Argmax of the logits at the grid points, or the labels as the network gives them."""
        if self._card.head == "labels":
            most = int(np.iinfo(self.label_dtype).max)
            render.clamp_labels(self._output.flat, most, self._grid_labels.reshape(-1))
        elif self._output.size <= _SMALL_GRID:
            self._ticket[0] = 0
            self._argmax(0)
        else:
            self._share(self._argmax)

    def _share(self, task: Task) -> None:
        self._ticket[0] = 0
        self._workers.run(task)

    def _argmax(self, participant: int) -> None:
        output = self._output
        cells.argmax_grid(
            self._ticket, output.flat, output.strides, output.channels, output.sigmoid,
            self._grid_labels, self._scratch[participant].best,
        )  # fmt: skip

    def _cells(self, participant: int) -> None:
        columns, output, scratch = self._columns, self._output, self._scratch[participant]
        render.render_cells(
            self._ticket, self._units, self._rows.weights,
            columns.ends, columns.low, columns.high, columns.weights, self._column_map,
            output.flat, output.strides, output.channels, output.sigmoid, self._grid_labels,
            scratch.segments, scratch.contender, scratch.values, scratch.corners, scratch.lines,
            scratch.runs, *self._targets, self._pixels[participant],
        )  # fmt: skip

    def _lookup(self, participant: int) -> None:
        columns = self._columns
        render.render_lookup(
            self._ticket, self._units, columns.ends, columns.low, self._grid_labels,
            self._scratch[participant].runs, *self._targets, self._pixels[participant],
        )  # fmt: skip

    def _confidence(self, participant: int) -> None:
        columns, output, scratch = self._columns, self._output, self._scratch[participant]
        confidence.render_confidence(
            self._ticket, self._units, self._rows.weights,
            columns.ends, columns.low, columns.high, scratch.column_weights,
            output.flat, output.strides, output.channels, output.sigmoid,
            scratch.contender, scratch.corners, scratch.float_lines, scratch.best, *self._targets,
        )  # fmt: skip


def _axes(card: ModelCard, geometry: Geometry, grid: Size) -> tuple[plan.Axis, plan.Axis]:
    """Tables of rows and columns of a regular grid."""
    plane = geometry.grid_from_frame(grid, align_corners=card.align_corners)
    axis = plan.nearest_axis if card.head == "labels" else plan.bilinear_axis
    rows = axis(geometry.frame.height, grid.height, plane.y)
    return rows, axis(geometry.frame.width, grid.width, plane.x)


class _Scratch:
    """What one participant writes while it works."""

    def __init__(self, columns: plan.Axis, classes: int, grid: Size) -> None:
        spans, pixels = columns.ends.size, columns.weights.size
        self.segments = np.zeros((spans, 5), np.int32)
        self.contender = np.zeros(spans * classes, np.int32)
        self.values = np.zeros((spans * classes, 4))
        self.corners = np.zeros((classes, 4))
        self.lines = np.zeros((classes, 2))
        self.float_lines = np.zeros((classes, 2), np.float32)
        self.runs = np.zeros((pixels, 2), np.int32)
        self.best = np.zeros(max(grid.width, pixels), np.float32)
        self.column_weights = columns.weights.astype(np.float32)

"""Tail: raw network output to labels, overlay, confidence and pixel counts in one call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from segedge.card.card import ModelCard
from segedge.card.geometry import Geometry, Size
from segedge.cpu import plan
from segedge.cpu.arrays import (
    FlatOutput,
    address_of,
    check_image,
    check_plane,
    readable_image,
    rows_of,
)
from segedge.cpu.code import Code, kernels
from segedge.cpu.kernels.tables import (
    BLOCK,
    ENTROPY,
    LINE_BYTES,
    LOGITS,
    MARGIN,
    PROBABILITIES,
    PROBABILITY,
    SHARES,
    WIDE,
    Rows,
    Scratch,
    Spans,
    Sureness,
    Targets,
)
from segedge.cpu.memory import ArrayPool
from segedge.cpu.overlay import Blend
from segedge.cpu.workers import Task, Workers, shared_workers
from segedge.errors import UsageError
from segedge.options.cleaning import Cleaning
from segedge.reference.frame import ConfidenceKind, label_dtype

if TYPE_CHECKING:
    from segedge.cpu.regions.clean import Clean

_SMALL_GRID = 1 << 18
"""Logits below which one thread takes the grid's argmax: waking another costs as much."""

_NO_IMAGE = np.zeros((0, 0, 3), np.uint8)
_NO_ROWS: Rows = (0, 0)
_HOLDS = {"softmax": PROBABILITIES, "sigmoid": SHARES}
"""What an output that holds probabilities does hold, by its activation."""
_KINDS = {"probability": PROBABILITY, "margin": MARGIN}


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
        code: Code = kernels,
    ) -> None:
        """Prepare tables and scratch for outputs on a grid.

        The cleaning is done with the labels before they are written, painted and counted. ``axes``
        are tables of rows and columns for a grid that the geometry does not describe.

        Raises:
            UsageError: The cleaning names a class that the card lacks.
        """
        self._card = card
        self._code = code
        self._frame = geometry.frame
        self.workers = workers or shared_workers()
        self._classes = len(card.classes)
        rows, columns = axes or _axes(card, geometry, grid)
        self.is_lookup = plan.is_lookup(rows, columns)
        """Whether each pixel reads one grid point."""
        self.spans: Spans = plan.spans_of(rows, columns)
        """Tables of rows and columns, for what else reads the grid."""
        top, left, bottom, right = geometry.seen()
        self._seen = (slice(top, bottom), slice(left, right))
        self._part = Size(bottom - top, right - left)
        self._part_spans = self.spans
        if self._part != self._frame:
            self._part_spans = plan.spans_of(
                plan.part_of(rows, top, bottom), plan.part_of(columns, left, right)
            )
        self._output = FlatOutput(card, grid, self.workers, code)
        self._grid_labels = np.zeros((grid.height, grid.width), np.int32)
        self._ticket = np.zeros(1, np.int64)
        self._pixels = np.zeros((self.workers.count, self._classes + 1), np.int64)
        self.scratch = [_scratch(columns, self._classes, grid) for _ in range(self.workers.count)]
        """A participant's each."""
        self._grid = grid
        self._holds = _HOLDS[card.activation] if card.probabilities else LOGITS
        self._sureness: list[Sureness] = []
        """A participant's each, made for the first confidence."""
        self._no_blend = Blend.of(card.palette_rgb, 0.0)
        self._cleaner: Clean | None = None
        if cleaning is not None and not cleaning.is_off:
            from segedge.cpu.regions.clean import Clean

            self._cleaner = Clean(cleaning, card.classes, self._part, workers=self.workers)
        self._source = _NO_IMAGE

    @property
    def label_dtype(self) -> np.dtype[Any]:
        """uint8 for up to 256 classes, else uint16."""
        return label_dtype(self._card.classes)

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
        mean_confidence: NDArray[np.float64] | None = None,
        class_pixels: NDArray[np.int64] | None = None,
    ) -> None:
        """Fill the arrays that are given. Rows may be strided, pixels inside a row not.

        Logits are 1 x C x Gh x Gw (or NHWC as the card says) in float32 or float16; for
        ``head="labels"`` 1 x Gh x Gw or 1 x 1 x Gh x Gw of integers: those that name no class
        become the highest label of `label_dtype`, and are neither painted nor counted.

        Labels are H x W of `label_dtype` (uint16 always fits). The overlay, H x W x 3 BGR, is the
        frame tinted by the blend, and may not share memory with it. Confidence is H x W float32,
        ``class_pixels`` one int64 a class, ``mean_confidence`` one float64. Where the network sees
        a part of the frame, the labels of the rest are the highest of their type, its confidence
        is 0, and it stays as it is.

        Raises:
            ModelError: The output does not have the shape that the card and the grid say.
            UsageError: An array has a wrong shape, type or layout, or arguments do not go together.
        """
        wants_labels = not (labels is None and overlay is None and class_pixels is None)
        self._check_maps(labels, overlay, frame, confidence)
        is_asked = confidence is not None or mean_confidence is not None
        self._check_rest(overlay, blend, confidence_kind if is_asked else None, class_pixels)
        if self._part != self._frame:
            self._fill_unseen(labels, overlay, frame, confidence)
            labels = None if labels is None else labels[self._seen]
            overlay = None if overlay is None else overlay[self._seen]
            frame = None if frame is None else frame[self._seen]
            confidence = None if confidence is None else confidence[self._seen]
        targets = Targets(
            *self._label_target(labels),
            *self._overlay_target(overlay, frame),
            *_tables(blend or self._no_blend),
        )
        self._output.take(logits)
        if wants_labels:
            self._label_grid()
            self._write(targets)
        if class_pixels is not None:
            np.sum(self._pixels[:, :-1], axis=0, out=class_pixels)
        if is_asked:
            total = self._be_sure(_KINDS[confidence_kind], confidence, self._part_spans)
            if mean_confidence is not None:
                mean_confidence[0] = total / (self._frame.height * self._frame.width)
        # The caller's arrays are forgotten, so that their memory can go back to its pool.
        self._source = _NO_IMAGE
        self._output.release()

    def entropy(self, logits: NDArray[Any], out: NDArray[np.float32]) -> None:
        """Entropy of all classes over that of equal ones, 0..1, H x W."""
        self._output.take(logits)
        self._be_sure(ENTROPY, out, self.spans)
        self._output.release()

    def _fill_unseen(
        self,
        labels: NDArray[Any] | None,
        overlay: NDArray[np.uint8] | None,
        frame: NDArray[np.uint8] | None,
        confidence: NDArray[np.float32] | None,
    ) -> None:
        """What is outside of the part that the network sees; the part is written over."""
        if labels is not None:
            labels[:] = np.iinfo(self.label_dtype).max
        if overlay is not None and frame is not None:
            np.copyto(overlay, frame)
        if confidence is not None:
            confidence[:] = 0.0

    def _be_sure(self, kind: int, out: NDArray[np.float32] | None, spans: Spans) -> float:
        """Fill a map, if there is one; its sum, whoever works on it."""
        logits, rows = self._output.logits, _NO_ROWS if out is None else rows_of(out)
        if not self._sureness:
            count, pixels = self.workers.count, self._frame.width
            self._sureness = [_room(self._classes, self._grid, pixels) for _ in range(count)]
        sums = np.empty(spans.units.shape[0])
        holds = LOGITS if kind == MARGIN else self._holds
        self._share(
            lambda participant: kernels().render_confidence(
                self._ticket, spans, logits, self._sureness[participant], kind, holds, rows, sums
            )
        )
        return float(sums.sum())

    def _write(self, targets: Targets) -> None:
        """Labels, overlay and counts; where they are cleaned, from a map in between."""
        cleaner = self._cleaner
        if cleaner is None:
            self._render(targets)
            return
        between = Targets(
            *self._label_target(cleaner.map), *_NO_ROWS, *_NO_ROWS, targets.tints, targets.weights
        )
        self._render(between)
        cleaner.prepare()
        self._pixels[:] = 0
        cleaner.paint(targets, self._pixels)

    def _render(self, targets: Targets) -> None:
        self._pixels[:] = 0
        spans, labels, logits = self._part_spans, self._grid_labels, self._output.logits
        if self.is_lookup:
            self._share(
                lambda participant: self._code().render_lookup(
                    self._ticket, spans, labels, self.scratch[participant].runs, targets,
                    self._pixels[participant],
                )
            )  # fmt: skip
            return
        self._share(
            lambda participant: self._code().render_cells(
                self._ticket, spans, logits, labels, self.scratch[participant], targets,
                self._pixels[participant],
            )
        )  # fmt: skip

    def _label_target(self, labels: NDArray[Any] | None) -> tuple[int, int, int]:
        """Address, bytes a row and bytes a label."""
        if labels is None:
            return 0, 0, 1
        return *rows_of(labels), labels.itemsize

    def _check_maps(
        self,
        labels: NDArray[Any] | None,
        overlay: NDArray[np.uint8] | None,
        frame: NDArray[np.uint8] | None,
        confidence: NDArray[np.float32] | None,
    ) -> None:
        if confidence is not None:
            check_plane("confidence", confidence, self._frame, np.float32)
        if labels is not None:
            check_plane("labels", labels, self._frame, self.label_dtype, np.uint16)
        if overlay is None:
            return
        if frame is None:
            raise UsageError("an overlay needs the frame that it is painted on")
        check_image("overlay", overlay, self._frame)
        if np.may_share_memory(overlay, readable_image("frame", frame, self._frame)):
            raise UsageError(
                "overlay and frame share memory", fix="hand in another array for the overlay"
            )

    def _overlay_target(
        self, overlay: NDArray[np.uint8] | None, frame: NDArray[np.uint8] | None
    ) -> tuple[int, int, int, int]:
        """Address and bytes a row of the overlay and the frame."""
        if overlay is None or frame is None:
            return *_NO_ROWS, *_NO_ROWS
        source = readable_image("frame", frame, self._part)
        self._source = source  # kept alive: the kernels know only its address
        return *rows_of(overlay), *rows_of(source)

    def _check_rest(
        self,
        overlay: NDArray[np.uint8] | None,
        blend: Blend | None,
        kind: ConfidenceKind | None,
        class_pixels: NDArray[np.int64] | None,
    ) -> None:
        if overlay is not None and blend is None:
            raise UsageError("an overlay needs a blend", fix="blend=Blend.of(card.palette_rgb)")
        if kind is not None:
            if self._card.head == "labels":
                raise UsageError("a network that gives labels has no confidence")
            if kind not in _KINDS:
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
            self._code().clamp_labels(self._output.flat, most, self._grid_labels.reshape(-1))
        elif self._output.size <= _SMALL_GRID:
            self._ticket[0] = 0
            self._argmax(0)
        else:
            self._share(self._argmax)

    def _share(self, task: Task) -> None:
        self._ticket[0] = 0
        self.workers.run(task)

    def _argmax(self, participant: int) -> None:
        best = self.scratch[participant].best[0]
        self._code().argmax_grid(self._ticket, self._output.logits, self._grid_labels, best)


def _tables(blend: Blend) -> tuple[int, NDArray[np.uint16]]:
    return address_of(blend.colors), blend.weights


def _axes(card: ModelCard, geometry: Geometry, grid: Size) -> tuple[plan.Axis, plan.Axis]:
    """Tables of rows and columns of a regular grid."""
    plane = geometry.grid_from_frame(grid, align_corners=card.align_corners)
    axis = plan.nearest_axis if card.head == "labels" else plan.bilinear_axis
    rows = axis(geometry.frame.height, grid.height, plane.y)
    return rows, axis(geometry.frame.width, grid.width, plane.x)


def _scratch(columns: plan.Axis, classes: int, grid: Size) -> Scratch:
    spans, pixels = columns.ends.size, columns.weights.size
    return Scratch(
        segments=np.zeros((spans, 5), np.int32),
        contender=np.zeros(spans * classes, np.int32),
        values=np.zeros((spans * classes, 4)),
        corners=np.zeros((classes, 4)),
        lines=np.zeros((classes, 2)),
        runs=np.zeros((pixels, 2), np.int32),
        best=np.zeros((3, max(grid.width, pixels)), np.float32),
    )


def _room(classes: int, grid: Size, pixels: int) -> Sureness:
    return Sureness(
        rows=np.zeros((4, classes, grid.width), np.float32),
        most=np.zeros((classes, grid.width), np.float32),
        least=np.zeros((classes, grid.width), np.float32),
        lead=np.zeros((2, grid.width), np.float32),
        lines=ArrayPool(0).take((classes, LINE_BYTES // 4), np.float32),
        cells=np.zeros((WIDE, 2), np.int64),
        weights=np.zeros(pixels + BLOCK, np.float32),
        results=ArrayPool(0).take((2, WIDE), np.float32),
    )

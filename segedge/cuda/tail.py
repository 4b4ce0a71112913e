"""Tail: the network's output in device memory to labels, overlay, confidence and pixel counts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from segedge.card.card import ModelCard
from segedge.card.geometry import AxisMap, Geometry, PlaneMap, Region, Size
from segedge.cuda.arguments import logit_defines, maps_of, pieces, plane_of, size_of
from segedge.cuda.runtime.program import Argument, Kernel, Launcher, Plane
from segedge.errors import UsageError
from segedge.reference.frame import ConfidenceKind, label_dtype
from segedge.reference.resize import UP_AT_BORDERS

MOST_CLASSES = 8192
"""The cell masks of a block must fit shared memory."""
_RAW_TYPES = {
    "int64": "long long",
    "int32": "int",
    "int16": "short",
    "int8": "signed char",
    "uint8": "unsigned char",
    "uint16": "unsigned short",
    "uint32": "unsigned int",
    "bool": "unsigned char",
}


@dataclass(frozen=True)
class Picture:
    """A BGR frame, or the two planes of an NV12 one."""

    plane: Plane
    """BGR pixels, or luma."""
    chroma: Plane | None = None
    """Interleaved U and V at half the height; None for BGR."""

    def at(self, row: int, column: int) -> Picture:
        """The same picture seen from another corner."""
        if self.chroma is None:
            return Picture(self.plane.at(row, 3 * column))
        return Picture(self.plane.at(row, column), self.chroma.at(row // 2, column))

    def is_aligned(self) -> bool:
        """Whether rows start where the kernels' vectors may."""
        if self.chroma is None:
            return self.plane.is_aligned(8)
        return self.plane.is_aligned(4) and self.chroma.is_aligned(4)


class Tail:
    """Maps every frame pixel back to the logit grid and writes only what is asked for.

    Two launches: one over the grid's cells, one over the frame's pixels (see
    ``kernels/tail_cells.cu`` and ``kernels/tail_fill.cu``). The results are those of
    `segedge.reference.frame`, ties apart.
    """

    def __init__(
        self,
        card: ModelCard,
        geometry: Geometry,
        grid: Size,
        *,
        dtype: DTypeLike = "float32",
        plane: PlaneMap | None = None,
    ) -> None:
        """Work out index maps for outputs on a grid.

        ``dtype`` is float32 or float16, or an integer type for ``head="labels"``; ``plane`` is the
        index map from frame pixels to the grid where that is not the network's.

        Raises:
            UsageError: A type that the kernels do not read, or too many classes.
        """
        self._card = card
        self._geometry = geometry
        self._grid = grid
        self._classes = len(card.classes)
        self._dtype = np.dtype(dtype)
        known = tuple(_RAW_TYPES) if card.head == "labels" else ("float32", "float16")
        if self._dtype.name not in known:
            raise UsageError(
                f"no {card.head} of type {self._dtype}", facts={"expected": ", ".join(known)}
            )
        if self._classes > MOST_CLASSES:
            raise UsageError(
                f"{self._classes} classes are too many for the CUDA tail",
                facts={"expected": f"at most {MOST_CLASSES}"},
                fix="use a host backend",
            )
        self._map = plane or geometry.grid_from_frame(grid, align_corners=card.align_corners)
        self._is_lookup = _is_identity(self._map) and grid == geometry.frame
        self._seen = geometry.seen()
        self._sees_a_part = self._seen != (0, 0, geometry.frame.height, geometry.frame.width)

    @property
    def label_dtype(self) -> np.dtype[Any]:
        """uint8 for up to 256 classes, else uint16."""
        return label_dtype(self._card.classes)

    @property
    def scratch_bytes(self) -> int:
        """Device memory that `run` needs: a code and a mask a cell (or a code a grid point)."""
        return self._code_bytes + 4 * self._mask_words * self._grid.height * self._grid.width

    @property
    def _code_bytes(self) -> int:
        return 16 * pieces(2 * self._grid.height * self._grid.width, 16)

    @property
    def _mask_words(self) -> int:
        return pieces(self._classes, 32)

    def run(
        self,
        launcher: Launcher,
        logits: int,
        scratch: int,
        *,
        labels: Plane | None = None,
        label_dtype: DTypeLike | None = None,
        overlay: Picture | None = None,
        frame: Picture | None = None,
        blend: int | None = None,
        confidence: Plane | None = None,
        confidence_kind: ConfidenceKind = "probability",
        class_pixels: int | None = None,
        region: Region | None = None,
    ) -> None:
        """Write what is given. With a region, outputs hold only that; ``frame`` is always whole.

        Device addresses: ``logits`` in the card's layout; ``scratch`` of `scratch_bytes`, aligned
        to 16, not shared with other tails in flight; ``blend`` of a `Blend.table`;
        ``class_pixels`` of one int64 a class, zeroed first. Labels are H x W of uint8 or uint16
        (`label_dtype` by default), confidence H x W float32. The overlay, H x W x 3 or NV12 like
        the frame, is the frame tinted by the blend; it may be the frame.

        Raises:
            UsageError: Arguments that do not go together.
        """
        size = self._geometry.frame
        part = region or Region(0, 0, size)
        part.check_inside(size)
        self._check(overlay, frame, blend, confidence, confidence_kind, part)
        if self._reads_logs(confidence, confidence_kind):
            if labels or overlay or class_pixels:  # by what the output holds, not by its logarithm
                self.run(
                    launcher, logits, scratch, labels=labels, label_dtype=label_dtype,
                    overlay=overlay, frame=frame, blend=blend, class_pixels=class_pixels,
                    region=region,
                )  # fmt: skip
            labels = overlay = frame = blend = class_pixels = None
        source = frame.at(part.top, part.left) if frame else None
        kind = self.label_dtype if label_dtype is None else np.dtype(label_dtype)
        rule = 0 if confidence is None else 1 if confidence_kind == "probability" else 2
        self._launch_first(launcher, logits, scratch, class_pixels, rule)
        kernel = self._fill_kernel(labels, kind, overlay, source, confidence, rule, class_pixels)
        arguments: list[Argument] = [
            *self._sources(logits, scratch, rule), *self._maps(part, rule),
            *size_of(part.size), *plane_of(labels), *_pictures(source, overlay), blend or 0,
            *plane_of(confidence),
            class_pixels or 0, *self._seen_of(part),
        ]  # fmt: skip
        blocks = (pieces(part.size.width, 128), pieces(part.size.height, 16))
        launcher(kernel, blocks, (256, 1), arguments)

    def _launch_first(
        self, launcher: Launcher, logits: int, scratch: int, class_pixels: int | None, rule: int
    ) -> None:
        """Codes and masks, or nothing but zeroed counts where the network gives labels."""
        counts = class_pixels or 0
        slices, cells = self._slices()
        if self._card.head == "labels":
            if class_pixels is not None:
                launcher(self._cells_kernel("tail_zero", 0), (1, 1), (256, 1), [counts])
        elif self._looks_up(rule):
            points = self._grid.height * self._grid.width
            launcher(
                self._cells_kernel("tail_points", 0), (pieces(points, 256), 1), (256, 1),
                [logits, np.int32(points), scratch, counts],
            )  # fmt: skip
        else:
            across, down = max(self._grid.width - 1, 1), max(self._grid.height - 1, 1)
            block = (slices, cells) if self._card.logits_layout == "nhwc" else (cells, slices)
            launcher(
                self._cells_kernel("tail_cells", rule), (pieces(across, cells), down), block,
                [logits, *size_of(self._grid), scratch, scratch + self._code_bytes, counts],
            )  # fmt: skip

    def _reads_logs(self, confidence: Plane | None, kind: ConfidenceKind) -> bool:
        """Whether a confidence is told by logarithms of what all else is told by."""
        return self._card.probabilities and confidence is not None and kind == "probability"

    def _looks_up(self, rule: int) -> bool:
        """Whether each pixel takes the label of one grid point and nothing else is asked for."""
        return self._card.head == "labels" or (self._is_lookup and rule == 0)

    def _slices(self) -> tuple[int, int]:
        """Threads that share a cell's classes, and cells a block."""
        slices = 1 if self._classes <= 4 else 2 if self._classes <= 8 else 4
        return (8, 32) if self._classes > 64 else (slices, 128 // slices)

    def _cells_kernel(self, name: str, rule: int) -> Kernel:
        slices, cells = self._slices()
        files = ("common.cu", "logits.cu", "tail_cells.cu")
        return Kernel.of(
            name,
            files,
            rule=rule,
            slices=slices,
            cells=cells,
            **logit_defines(self._card, self._dtype, sure=rule == 1),
        )

    def _fill_kernel(
        self,
        labels: Plane | None,
        label_dtype: np.dtype[Any],
        overlay: Picture | None,
        frame: Picture | None,
        confidence: Plane | None,
        rule: int,
        class_pixels: int | None,
    ) -> Kernel:
        aligned = (
            (labels is None or labels.is_aligned(8))
            and (confidence is None or confidence.is_aligned(16))
            and all(picture is None or picture.is_aligned() for picture in (overlay, frame))
        )
        raw = {"raw": _RAW_TYPES[self._dtype.name]} if self._card.head == "labels" else {}
        return Kernel.of(
            "tail_fill",
            ("common.cu", "logits.cu", "paint.cu", "tail_fill.cu"),
            type_labels=0 if labels is None else label_dtype.itemsize,
            overlay=0 if overlay is None else 1 if overlay.chroma is None else 2,
            confidence=rule,
            count=class_pixels is not None,
            aligned=aligned,
            source=2 if raw else int(self._looks_up(rule)),
            most=int(np.iinfo(self.label_dtype).max),
            seen=self._sees_a_part,
            **raw,
            **logit_defines(self._card, self._dtype, sure=rule == 1),
        )

    def _sources(self, logits: int, scratch: int, rule: int) -> list[Argument]:
        """Logits, masks, codes and the grid; a network's labels take the place of the codes."""
        codes = logits if self._card.head == "labels" else scratch
        return [logits, scratch + self._code_bytes, codes, *size_of(self._grid)]

    def _seen_of(self, region: Region) -> list[Argument]:
        """What the network sees of the frame, in the region's pixels; nothing where it sees all."""
        if not self._sees_a_part:
            return []
        return [
            np.int32(edge - start)
            for edge, start in zip(self._seen, 2 * (region.top, region.left), strict=True)
        ]

    def _maps(self, region: Region, rule: int) -> list[Argument]:
        shift = 0.5 + UP_AT_BORDERS if self._looks_up(rule) else 0.0
        y, x = _moved(self._map.y, region.top), _moved(self._map.x, region.left)
        return maps_of(PlaneMap(y, x), shift)

    def _check(
        self,
        overlay: Picture | None,
        frame: Picture | None,
        blend: int | None,
        confidence: Plane | None,
        kind: ConfidenceKind,
        region: Region,
    ) -> None:
        if overlay is not None and (frame is None or blend is None):
            raise UsageError("an overlay needs the frame that it is painted on, and a blend")
        if overlay and frame and (overlay.chroma is None) != (frame.chroma is None):
            raise UsageError("overlay and frame must both be BGR or both NV12")
        corner = (region.top, region.left, region.size.height, region.size.width)
        if overlay and overlay.chroma and any(length % 2 for length in corner):
            raise UsageError(
                "an NV12 overlay has even sizes and corners", facts={"found": str(region.size)}
            )
        if confidence is not None and self._card.head == "labels":
            raise UsageError("a network that gives labels has no confidence")
        if kind not in ("probability", "margin"):
            raise UsageError(f"no confidence {kind!r}", facts={"expected": "probability, margin"})


def _moved(axis: AxisMap, pixels: int) -> AxisMap:
    return AxisMap(axis.scale, axis.offset + axis.scale * pixels)


def _is_identity(plane: PlaneMap) -> bool:
    return all(abs(a.scale - 1.0) < 1e-9 and abs(a.offset) < 1e-9 for a in (plane.y, plane.x))


def _pictures(frame: Picture | None, overlay: Picture | None) -> list[Argument]:
    """Pixels or luma of both, then chroma of both."""
    pictures = (frame, overlay)
    planes = [picture.plane if picture else None for picture in pictures]
    planes += [picture.chroma if picture else None for picture in pictures]
    return [argument for plane in planes for argument in plane_of(plane)]

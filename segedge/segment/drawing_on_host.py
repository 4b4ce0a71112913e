"""HostDrawing: a frame's outputs drawn on the CPU."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from segedge.card.card import ModelCard
from segedge.card.geometry import Geometry, Region, Size
from segedge.cpu.memory import ArrayPool
from segedge.cpu.overlay import Blend
from segedge.cpu.tail import Tail
from segedge.errors import UsageError
from segedge.frames.frame import Frame
from segedge.options.style import OverlayStyle
from segedge.reference.look import Look
from segedge.segment.drawing import MARGIN, MEAN, Arrays

if TYPE_CHECKING:
    from segedge.cpu.effects import Effects


class Renderer:
    """Tables and scratch memory for the frames of one size and logit grid; one drawing at a time.

    What a style needs is made when it is first asked for, and kept.
    """

    def __init__(
        self,
        card: ModelCard,
        geometry: Geometry,
        grid: Size,
        tail: Tail,
        *,
        pool: ArrayPool,
    ) -> None:
        """Begin with the tail alone."""
        self.card, self.tail, self.pool = card, tail, pool
        self.lock = threading.Lock()
        self._geometry, self._grid = geometry, grid
        self._effects: Effects | None = None
        self._blends: dict[OverlayStyle, Blend] = {}
        self._looks: dict[OverlayStyle, Look] = {}

    @property
    def effects(self) -> Effects:
        """What draws more than a colour a class."""
        if self._effects is None:
            from segedge.cpu.effects import Effects

            self._effects = Effects(
                self.card, self._geometry, self._grid, self.tail, pool=self.pool
            )
        return self._effects

    def blend(self, style: OverlayStyle) -> Blend:
        """A style's colours; UsageError where it names a class that the card lacks."""
        if style not in self._blends:
            palette, classes = self.card.palette_rgb, style.labels(self.card)
            if style.effect.traits.hides_frame:
                self._blends[style] = Blend.mask(palette, classes=classes)
            else:
                self._blends[style] = Blend.of(palette, style.opacity, classes=classes)
        return self._blends[style]

    def look(self, style: OverlayStyle) -> Look:
        """A style's effect; UsageError or SourceError where the model cannot have it."""
        if style not in self._looks:
            style.check(self.card)
            self._looks[style] = Look.of(
                self.card, style.effect, self._geometry.frame,
                classes=style.classes, opacity=style.opacity,
            )  # fmt: skip
        return self._looks[style]


class HostDrawing:
    """Draws one frame, into fresh arrays."""

    def __init__(self, frame: Frame, logits: NDArray[Any], renderer: Renderer) -> None:
        """Nothing is drawn yet."""
        self._frame, self._logits, self._renderer = frame, logits, renderer

    def wait(self) -> Arrays:
        """Nothing to wait for: what is asked for is drawn at once."""
        return {}

    def logits(self) -> NDArray[Any]:
        """The network's raw output."""
        return self._logits

    def draw(
        self, outputs: tuple[str, ...], style: OverlayStyle, known: Mapping[str, NDArray[Any]]
    ) -> Arrays:
        """Outputs in one pass over the logits, then the effect; see `Drawing.draw`."""
        arrays = {name: self._empty(name, style) for name in outputs}
        overlay = arrays.get("overlay")
        if overlay is None:
            self._run_tail(arrays)
        elif style.effect.traits.drawn_by == "tail":
            self._paint(arrays, overlay, style)
        else:
            self._run_tail({name: arrays[name] for name in outputs if name != "overlay"})
            self._draw_effect(overlay, style, {**known, **arrays})
        return arrays

    def _paint(self, arrays: Arrays, overlay: NDArray[np.uint8], style: OverlayStyle) -> None:
        image, painted = self._frame.image_hwc, overlay
        blend = self._renderer.blend(style)
        if style.effect.traits.beside_frame:
            width = self._frame.size[1]
            painted = overlay[:, width:]
            np.copyto(overlay[:, :width], image)
        self._run_tail({**arrays, "overlay": painted}, frame=image, blend=blend)

    def _run_tail(self, arrays: Arrays, **extra: Any) -> None:
        if not arrays:
            return
        if MARGIN in arrays:
            arrays, extra = {"confidence": arrays[MARGIN]}, {"confidence_kind": MARGIN}
        given: dict[str, Any] = {**arrays, **extra}
        with self._frame.times.measure("tail"), self._renderer.lock:
            self._renderer.tail.run(self._logits, **given)

    def _draw_effect(
        self, overlay: NDArray[np.uint8], style: OverlayStyle, known: Mapping[str, NDArray[Any]]
    ) -> None:
        """What is more than a colour a class; labels and confidence that are there are used."""
        with self._frame.times.measure("effect"), self._renderer.lock:
            self._renderer.effects.run(
                self._renderer.look(style), self._logits, frame=self._frame.image_hwc, out=overlay,
                labels=known.get("labels"), confidence=known.get("confidence"),
            )  # fmt: skip

    def _empty(self, name: str, style: OverlayStyle) -> NDArray[Any]:
        height, width = self._frame.size
        kinds: dict[str, tuple[tuple[int, ...], DTypeLike]] = {
            "labels": ((height, width), self._renderer.tail.label_dtype),
            "overlay": (style.effect.shape(height, width), np.uint8),
            "confidence": ((height, width), np.float32),
            MEAN: ((1,), np.float64),
            MARGIN: ((height, width), np.float32),
            "class_pixels": ((len(self._renderer.card.classes),), np.int64),
        }
        return self._renderer.pool.take(*kinds[name])

    def labels_of(self, top: int, left: int, height: int, width: int) -> NDArray[Any]:
        """Labels of a rectangle, cut from all of them."""
        Region(top, left, Size(height, width)).check_inside(Size(*self._frame.size))
        labels = self._empty("labels", OverlayStyle())
        self._run_tail({"labels": labels})
        return labels[top : top + height, left : left + width]

    def on_device(self, name: str) -> tuple[Any, ...]:
        """Refused: nothing of it lies on a GPU."""
        raise UsageError(
            f"{name} is not on the GPU: the frame was segmented on the CPU",
            fix="segedge.load(model, backend='tensorrt')",
        )

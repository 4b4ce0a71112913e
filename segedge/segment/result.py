"""Result: what a segmented frame can tell. Nothing is computed before it is asked for."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segedge.analyse.road import Road, RoadOptions, find_road
from segedge.analyse.zones import Zone, zone_pixels
from segedge.card.card import ModelCard
from segedge.card.geometry import Size
from segedge.card.labels import Rgb
from segedge.cpu.effects import Effects, Look
from segedge.cpu.memory import ArrayPool
from segedge.cpu.overlay import Blend
from segedge.cpu.regions.components import Region, find_regions
from segedge.cpu.tail import Tail
from segedge.errors import unknown_name_error
from segedge.frames.frame import Frame
from segedge.frames.timing import StageTimes
from segedge.options.cleaning import Cleaning
from segedge.options.effect import PAINTED, WITH_LEGEND, Effect, EffectName
from segedge.options.style import OverlayStyle
from segedge.segment.legend import draw_heat_scale, draw_legend

OUTPUTS = ("labels", "overlay", "confidence", "class_pixels")
"""What `Result.compute` takes."""
WARMED = ("labels", "overlay", "class_pixels")
"""What `warm_up` prepares where it is not told."""


@dataclass(frozen=True)
class Rendering:
    """What a result draws with; shared by all results of one frame size."""

    tail: Tail
    lock: threading.Lock
    """The tail has scratch memory: one thread at a time."""
    pool: ArrayPool
    blends: dict[OverlayStyle, Blend] = field(default_factory=dict)
    """Blend tables by style, made once."""
    effects: Callable[[], Effects] | None = None
    """Makes what draws effects, or gives the one made before; None: there are none."""
    looks: dict[OverlayStyle, Look] = field(default_factory=dict)
    """Prepared effects by style, made once."""

    def blend(self, card: ModelCard, style: OverlayStyle) -> Blend:
        """The blend tables of a style.

        Raises:
            UsageError: The style names a class that the card lacks.
        """
        if style not in self.blends:
            style.check(card)
            classes = None
            if style.classes is not None:
                classes = tuple(card.classes.index(name) for name in style.classes)
            if style.effect.name == "mask":
                self.blends[style] = Blend.mask(card.palette_rgb, classes=classes)
            else:
                self.blends[style] = Blend.of(card.palette_rgb, style.opacity, classes=classes)
        return self.blends[style]

    def look(self, card: ModelCard, style: OverlayStyle, size: Size) -> Look:
        """The prepared effect of a style.

        Raises:
            UsageError: The style names a class that the card lacks, or an effect it cannot have.
            SourceError: The background cannot be read.
        """
        if style not in self.looks:
            style.check(card)
            self.looks[style] = Look.of(
                card, style.effect, size, classes=style.classes, opacity=style.opacity
            )
        return self.looks[style]


class Result:
    """Labels, overlay and numbers of one frame.

    Holds the low-resolution logits and the frame; every picture is made from them when first
    asked for, and kept. The arrays belong to the caller.
    """

    def __init__(
        self,
        frame: Frame,
        card: ModelCard,
        logits: NDArray[Any],
        rendering: Rendering,
        style: OverlayStyle,
    ) -> None:
        """Made by a segmenter; see `Segmenter.__call__`."""
        self.frame = frame
        self.card = card
        self._logits = logits
        self._rendering = rendering
        self._style = style
        self._made: dict[str, NDArray[Any]] = {}
        self._found: dict[Any, Any] = {}

    def wait(self) -> None:
        """Block until what was asked for is computed; here it is."""

    @property
    def logits(self) -> NDArray[Any]:
        """The network's raw output, at its own (low) resolution."""
        return self._logits

    @property
    def labels(self) -> NDArray[Any]:
        """H x W class labels, uint8 (uint16 above 256 classes)."""
        return self._get("labels")

    @property
    def confidence(self) -> NDArray[np.float32]:
        """H x W float32: probability of the winning class, 0..1."""
        return self._get("confidence")

    @property
    def margin(self) -> NDArray[np.float32]:
        """H x W float32: how far the best logit is above the second best."""
        if "margin" not in self._made:
            out = self._rendering.pool.take(self.frame.size, np.dtype(np.float32))
            self._render({"confidence": out}, confidence_kind="margin")
            self._made["margin"] = out
        return self._made["margin"]

    @property
    def class_pixels(self) -> dict[str, int]:
        """Pixels of the frame per class name, every class of the card."""
        counts = self._get("class_pixels")
        return dict(zip(self.card.classes, counts.tolist(), strict=True))

    @property
    def class_shares(self) -> dict[str, float]:
        """Share of the frame per class name, 0..1."""
        pixels = self.frame.size[0] * self.frame.size[1]
        return {name: count / pixels for name, count in self.class_pixels.items()}

    @property
    def road(self) -> Road:
        """The drivable area and the obstacles; see `find_road` for other classes.

        Raises:
            UsageError: No class of the model is known to be drivable.
        """
        return self.find_road()

    def find_road(self, options: RoadOptions | None = None) -> Road:
        """The drivable area and the obstacles, kept by options.

        Args:
            options: What counts as what; None: by the names of the classes.

        Raises:
            UsageError: The model lacks such classes.
        """
        options = options or RoadOptions()
        if options not in self._found:
            self._found[options] = find_road(self.labels, self.classes, options)
        road: Road = self._found[options]
        return road

    def zone_pixels(self, zone: Zone) -> dict[str, int]:
        """Pixels of each class in a zone, kept by zone; classes without one are left out.

        Raises:
            UsageError: The zone has no pixel in the frame.
        """
        if zone not in self._found:
            self._found[zone] = zone_pixels(self.labels, zone, self.classes)
        return dict(self._found[zone])

    def zones(self, *zones: Zone) -> dict[str, dict[str, float]]:
        """Share of each class in zones, 0..1, by zone; classes without a pixel are left out.

        Args:
            zones: The zones; `segedge.analyse.zones.parse_zone` reads them as they are typed.

        Raises:
            UsageError: A zone has no pixel in the frame.
        """
        shares = {}
        for zone in zones:
            pixels = self.zone_pixels(zone)
            total = sum(pixels.values())
            shares[zone.name] = {name: count / total for name, count in pixels.items()}
        return shares

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names, in label order."""
        return self.card.classes

    @property
    def palette_rgb(self) -> tuple[Rgb, ...]:
        """Class colours, in label order."""
        return self.card.palette_rgb

    @property
    def times(self) -> StageTimes:
        """What each stage took; grows as further outputs are computed."""
        return self.frame.times

    def overlay(self, style: OverlayStyle | None = None) -> NDArray[np.uint8]:
        """The frame with its classes coloured, or what else the style's effect makes of it.

        Args:
            style: Another look than the segmenter's; such an overlay is not kept.

        Returns:
            H x W x 3 uint8 BGR; for the effect ``cutout`` H x W x 4 with the opacity, for
            ``side-by-side`` H x 2W x 3.

        Raises:
            UsageError: The style names a class that the card lacks.
            SourceError: The effect's background cannot be read.
        """
        if style is None or style == self._style:
            return self._get("overlay")
        out = self._empty("overlay", style)
        self._draw({"overlay": out}, style)
        return out

    def regions(
        self, *, min_area: int = 1, classes: Iterable[str] | None = None, connectivity: int = 4
    ) -> tuple[Region, ...]:
        """Connected regions of `labels`, the largest first.

        Args:
            min_area: Smaller ones, in pixels, are left out.
            classes: Names of the classes that are listed; None: all.
            connectivity: 4: pixels of a region share a side; 8: or a corner.

        Raises:
            UsageError: A class that the card lacks, a negative area, another connectivity.
        """
        Cleaning(min_area, connectivity=connectivity)  # checks both
        wanted = None
        if classes is not None:
            names = tuple(classes)
            OverlayStyle(classes=names).check(self.card)
            wanted = frozenset(self.card.classes.index(name) for name in names)
        return find_regions(
            self.labels, self.classes, connectivity=connectivity, min_area=min_area, wanted=wanted
        )

    def picture(
        self, effect: Effect | EffectName, *, classes: tuple[str, ...] | None = None
    ) -> NDArray[np.uint8]:
        """Another effect than the segmenter's, once; the rest of the style is kept.

        Args:
            effect: One of `segedge.options.effect.EFFECTS`, or an `Effect`.
            classes: Names of the classes it is about; None: those of the style.

        Returns:
            As `overlay`.

        Raises:
            UsageError: No such effect or class, or one that the model cannot have.
            SourceError: The effect's background cannot be read.
        """
        wanted = effect if isinstance(effect, Effect) else Effect(effect)
        legend = self._style.legend and wanted.name in WITH_LEGEND
        style = replace(
            self._style, effect=wanted, classes=classes or self._style.classes, legend=legend
        )
        return self.overlay(style)

    def compute(self, outputs: Iterable[str]) -> None:
        """Compute several outputs in one fused pass.

        Raises:
            UsageError: A name that is none of `OUTPUTS`.
        """
        wanted = [name for name in dict.fromkeys(outputs) if name not in self._made]
        for name in wanted:
            if name not in OUTPUTS:
                raise unknown_name_error("output", name, OUTPUTS)
        if not wanted:
            return
        if "overlay" in wanted and self._counts_for_legend and "class_pixels" not in self._made:
            wanted.append("class_pixels")
        arrays = {name: self._empty(name) for name in dict.fromkeys(wanted)}
        self._draw(arrays, self._style)
        self._made.update(arrays)

    def _get(self, name: str) -> NDArray[Any]:
        if name not in self._made:
            self.compute((name,))
        return self._made[name]

    @property
    def _counts_for_legend(self) -> bool:
        return self._style.legend and self._style.effect.name != "heat"

    def _empty(self, name: str, style: OverlayStyle | None = None) -> NDArray[Any]:
        height, width = self.frame.size
        classes = len(self.card.classes)
        shape, dtype = {
            "labels": ((height, width), np.uint8 if classes <= 256 else np.uint16),
            "overlay": ((style or self._style).effect.shape(height, width), np.uint8),
            "confidence": ((height, width), np.float32),
            "class_pixels": ((classes,), np.int64),
        }[name]
        return self._rendering.pool.take(shape, np.dtype(dtype))

    def _draw(self, arrays: dict[str, NDArray[Any]], style: OverlayStyle) -> None:
        """One pass over the logits into the given arrays, then effect and legend."""
        painted = dict(arrays)
        extra: dict[str, Any] = {}
        if "overlay" in arrays and style.effect.name in PAINTED:
            image = self.frame.image_hwc
            blend = self._rendering.blend(self.card, style)
            extra = {"frame": image, "blend": blend}
            if style.effect.name == "side-by-side":
                painted["overlay"] = arrays["overlay"][:, self.frame.size[1] :]
                np.copyto(arrays["overlay"][:, : self.frame.size[1]], image)
        elif "overlay" in arrays:
            del painted["overlay"]
        if painted:
            with self.times.measure("tail"):
                self._render(painted, **extra)
        if "overlay" in arrays and not extra:
            with self.times.measure("effect"):
                self._draw_effect(arrays, style)
        if "overlay" in arrays and style.legend:
            with self.times.measure("legend"):
                self._draw_legend(arrays, style)

    def _draw_effect(self, arrays: dict[str, NDArray[Any]], style: OverlayStyle) -> None:
        """What is more than a colour a class; labels and confidence that are there are used."""
        known = {**self._made, **arrays}
        with self._rendering.lock:
            look = self._rendering.look(self.card, style, Size(*self.frame.size))
            assert self._rendering.effects is not None
            self._rendering.effects().run(
                self._logits, self.frame.image_hwc, arrays["overlay"], look,
                labels=known.get("labels"), confidence=known.get("confidence"),
            )  # fmt: skip

    def _draw_legend(
        self, arrays: dict[str, NDArray[Any]], style: OverlayStyle | None = None
    ) -> None:
        """Names and shares of the classes that the style colours, into the overlay."""
        effect = (style or self._style).effect
        if effect.name == "heat":
            draw_heat_scale(arrays["overlay"], effect.heat)
            return
        counts = arrays.get("class_pixels")
        if counts is None:
            counts = self._get("class_pixels")
        pixels = self.frame.size[0] * self.frame.size[1]
        shares = {n: c / pixels for n, c in zip(self.classes, counts.tolist(), strict=True)}
        coloured = (style or self._style).classes
        if coloured is not None:
            shares = {name: share for name, share in shares.items() if name in coloured}
        picture = arrays["overlay"]
        if effect.name == "side-by-side":  # into the coloured half
            picture = picture[:, self.frame.size[1] :]
        draw_legend(picture, self.classes, self.palette_rgb, shares)

    def _render(self, arrays: dict[str, Any], **extra: Any) -> None:
        arguments: dict[str, Any] = {**arrays, **extra}
        with self._rendering.lock:
            self._rendering.tail.run(self._logits, **arguments)

    def save(self, path: str | Path, *, content: str = "picture") -> Path:
        """Write the picture or the labels as a file.

        Args:
            path: Its ending is the format: ``.png``, ``.jpg``, ``.webp`` ... for a picture,
                ``.npy`` for the labels as NumPy writes them.
            content: For PNG also ``labels`` (raw indices), ``palette`` (indices with the class
                colours) or ``panoptic`` (COCO's, with a ``.json`` of its segments beside it).

        Returns:
            The path.

        Raises:
            UsageError: An unknown content, or one that the ending cannot hold.
            SinkError: It cannot be written.
        """
        from segedge.segment.pictures import save_result

        return save_result(self, Path(path), content)

    def show(self) -> str:
        """Show the picture: in a notebook, else in a window, else as a temporary file.

        Returns:
            Where: ``notebook``, ``window``, or the file's path, which is printed too.
        """
        from segedge.segment.pictures import show_picture

        return show_picture(self.overlay(), self._repr_png_)

    def _repr_png_(self) -> bytes:
        """The overlay as PNG, which notebooks show."""
        import cv2

        return bytes(cv2.imencode(".png", self.overlay())[1])

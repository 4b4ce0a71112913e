"""Result: what a segmented frame can tell. Nothing is computed before it is asked for."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from segedge.analyse.road import Road, RoadOptions, find_road
from segedge.analyse.zones import Zone, parse_zone, zone_pixels
from segedge.card.card import ModelCard
from segedge.card.labels import Rgb, names_in
from segedge.errors import UsageError
from segedge.frames.frame import Frame
from segedge.frames.timing import StageTimes
from segedge.options.cleaning import Cleaning
from segedge.options.effect import Effect, EffectName
from segedge.options.style import OverlayStyle
from segedge.segment.drawing import MARGIN, MEAN, Arrays, Drawing, checked_outputs, mean_of
from segedge.segment.legend import draw_heat_scale, draw_legend

if TYPE_CHECKING:
    from segedge.cpu.regions.components import Region


class Result:
    """Labels, overlay and numbers of one frame.

    Holds the low-resolution logits and the frame; every picture is made from them when first
    asked for, and kept. The arrays belong to the caller. On a GPU it waits for the frame when it
    is first looked at. Any thread may look.
    """

    def __init__(
        self, frame: Frame, card: ModelCard, drawing: Drawing, style: OverlayStyle
    ) -> None:
        """Made by a segmenter; see `Segmenter.__call__`."""
        self.frame = frame
        self.card = card
        self.drawing = drawing
        """Where and how the outputs are computed."""
        self._style = style
        self._made: Arrays = {}
        self._found: dict[Any, Any] = {}
        self._lock = threading.RLock()
        self._is_done = False

    def wait(self) -> None:
        """Block until what was asked for is computed.

        Raises:
            DeviceError: A GPU failed.
        """
        with self._lock:
            if not self._is_done:
                made = self.drawing.wait()
                self._is_done = True
                self._keep(made)

    @property
    def logits(self) -> NDArray[Any]:
        """The network's raw output, at its own (low) resolution; copied from a GPU."""
        self.wait()
        with self._lock:
            if "logits" not in self._made:
                self._made["logits"] = self.drawing.logits()
            return self._made["logits"]

    @property
    def labels(self) -> NDArray[Any]:
        """H x W class labels, uint8 (uint16 above 256 classes)."""
        return self._get("labels")

    @property
    def confidence(self) -> NDArray[np.float32]:
        """H x W float32: probability of the winning class, 0..1."""
        return self._get("confidence")

    @property
    def mean_confidence(self) -> float:
        """Mean of `confidence`; on a CPU quicker than the map, where that was not asked for."""
        return float(self._get(MEAN)[0])

    @property
    def margin(self) -> NDArray[np.float32]:
        """H x W float32: how far the best logit is above the second best."""
        self.wait()
        with self._lock:
            if MARGIN not in self._made:
                self._keep(self.drawing.draw((MARGIN,), self._style, self._made))
            return self._made[MARGIN]

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

    def zones(self, *zones: Zone | str) -> dict[str, dict[str, float]]:
        """Share of each class in zones, 0..1, by zone; classes without a pixel are left out.

        Args:
            zones: The zones, also as they are typed: ``gate=0.1,0.6 0.4,0.6 0.4,1``.

        Raises:
            UsageError: A zone has no pixel in the frame, or cannot be read.
        """
        shares = {}
        for zone in (parse_zone(one) if isinstance(one, str) else one for one in zones):
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
        self.wait()
        return self.frame.times

    def overlay(self, style: OverlayStyle | None = None) -> NDArray[np.uint8]:
        """The frame with its classes coloured, or what else the style's effect makes of it.

        Args:
            style: Another look than the segmenter's; such an overlay is not kept.

        Returns:
            H x W x 3 uint8 BGR (on a GPU: in the frame's channel order, and H * 3/2 x W for NV12);
            for the effect ``cutout`` H x W x 4 with the opacity, for ``side-by-side`` H x 2W x 3.

        Raises:
            UsageError: The style names a class that the card lacks, or frames of this format
                cannot have its effect.
            SourceError: The effect's background cannot be read.
        """
        if style is None or style == self._style:
            return self._get("overlay")
        if not isinstance(style, OverlayStyle):
            raise UsageError(
                f"no style {style!r:.60}", fix="OverlayStyle(opacity=0.7), or picture('outline')"
            )
        self.wait()
        with self._lock:
            overlay = self.drawing.draw(("overlay",), style, self._made)["overlay"]
            self._add_legend(overlay, style)
            return overlay

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
        from segedge.cpu.regions.components import find_regions

        Cleaning(min_area, connectivity=connectivity)  # checks both
        names = None if classes is None else names_in(classes)
        wanted = OverlayStyle(classes=names).labels(self.card)
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
        legend = self._style.legend and wanted.traits.legend
        style = replace(
            self._style, effect=wanted, classes=classes or self._style.classes, legend=legend
        )
        return self.overlay(style)

    def compute(self, outputs: Iterable[str]) -> None:
        """Compute several outputs in one fused pass, and on a GPU copy them to the CPU.

        Raises:
            UsageError: A name that is neither of `segedge.segment.drawing.OUTPUTS` nor
                ``mean_confidence``.
            DeviceError: A GPU failed.
        """
        names = checked_outputs(outputs, self._style)
        self.wait()
        with self._lock:
            if MEAN in names and "confidence" in self._made:
                self._made.setdefault(MEAN, mean_of(self._made["confidence"]))
            wanted = tuple(name for name in names if name not in self._made)
            if wanted:
                self._keep(self.drawing.draw(wanted, self._style, self._made))

    def _get(self, name: str) -> NDArray[Any]:
        self.wait()
        if name not in self._made:
            self.compute((name,))
        return self._made[name]

    def _keep(self, made: Arrays) -> None:
        self._made.update(made)
        if "overlay" in made:
            self._add_legend(made["overlay"], self._style)

    def _add_legend(self, overlay: NDArray[np.uint8], style: OverlayStyle) -> None:
        """What the style's colours stand for, in place; of classes those that it colours."""
        if not style.legend:
            return
        if overlay.ndim == 2:
            raise UsageError("no legend on NV12 frames", fix="leave --legend out")
        with self.frame.times.measure("legend"):
            if not style.counts_classes:
                draw_heat_scale(overlay, style.effect.heat)
                return
            shares, shown = self.class_shares, style.classes
            if shown is not None:
                shares = {name: share for name, share in shares.items() if name in shown}
            coloured = overlay[:, -self.frame.size[1] :]  # half of it, where the frame is beside
            draw_legend(coloured, self.classes, self.palette_rgb, shares)

    def labels_of(self, top: int, left: int, height: int, width: int) -> NDArray[Any]:
        """Labels of a rectangle of the frame; on a GPU nothing else is computed.

        Raises:
            UsageError: It leaves the frame.
        """
        self.wait()
        with self._lock:
            return self.drawing.labels_of(top, left, height, width)

    def on_device(self, name: str) -> tuple[Any, ...]:
        """An output's planes in GPU memory: one array, for an NV12 overlay luma and chroma.

        PyTorch, CuPy, Numba and others take them without a copy, and nothing is waited for here.
        DLPack (``torch.from_dlpack``) and libraries that heed the stream of the CUDA array
        interface wait for the frame on their own stream; for others, such as
        ``torch.as_tensor``, give ``stream=`` when the frame is segmented, or call `wait`. The
        memory is theirs as long as one of the arrays lives.

        Args:
            name: ``labels``, ``overlay``, ``confidence``, ``class_pixels`` or ``logits``.

        Raises:
            UsageError: It is none of them, was not asked for when the frame was segmented, or the
                frame was segmented on the CPU.
        """
        return self.drawing.on_device(name)

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

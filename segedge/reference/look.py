"""What pictures are painted with, as tables of whole numbers: the same for both twins."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from segedge.card.card import ModelCard
from segedge.card.geometry import Size
from segedge.card.labels import Rgb, class_opacities
from segedge.options.effect import Effect, background_rows, chosen_classes, heat_table_rgb


class Tints(NamedTuple):
    """Integer blending ``(frame * weight + colour) >> 8``, one weight and colour a class.

    With opacity q = round(256 * opacity): weight = 256 - q, colour = q * colour + 128, so the sum
    is rounded to nearest and at most 255 * 256 + 128, which fits 16 bits.
    """

    colors: NDArray[np.uint16]
    """(classes + 1) x 3: premultiplied, in the frame's channel order."""
    weights: NDArray[np.uint16]
    """(classes + 1): share of the frame, 0..256. The last entry leaves the frame as it is; labels
    that name no class use it."""

    @classmethod
    def of(
        cls,
        colors: Sequence[Rgb] | NDArray[np.integer],
        opacity: float | Sequence[float],
        classes: Collection[int] | None = None,
    ) -> Tints:
        """A colour a class in the frame's channel order, 0..255, and `class_opacities`' rest."""
        count = len(colors)
        quantised = np.append(np.rint(class_opacities(count, opacity, classes) * 256.0), 0)
        shares = quantised.astype(np.uint16)
        padded = np.zeros((count + 1, 3), np.uint16)
        padded[:count] = np.asarray(colors, np.uint16).reshape(count, 3)
        return cls(shares[:, None] * padded + np.uint16(128), 256 - shares)

    @classmethod
    def solid(cls, colors: Sequence[Rgb] | NDArray[np.integer]) -> Tints:
        """The colours alone; the last one serves labels that name no class."""
        whole = cls.of(colors, 1.0)
        return cls(whole.colors[:-1], whole.weights[:-1])


def masked(palette_rgb: Sequence[Rgb], classes: Collection[int] | None) -> tuple[Rgb, ...]:
    """A palette with black for what is not asked for, and for labels that name no class."""
    shown = class_opacities(len(palette_rgb), 1.0, classes) > 0.0
    black = (0, 0, 0)
    return (*(c if s else black for c, s in zip(palette_rgb, shown, strict=True)), black)


@dataclass(frozen=True)
class Look:
    """An effect prepared for frames of one size."""

    effect: Effect
    is_chosen: NDArray[np.bool_]
    """(classes + 1): which classes it is about; the last entry serves labels that are none."""
    is_about_some: bool
    """Whether the user named classes."""
    colors: NDArray[np.uint8]
    """(classes + 1) x 3, in the frame's channel order, like the rest."""
    heat: Tints
    """The 256 colours of the heat."""
    behind: NDArray[np.uint8]
    """H x W x 3 background, or one row of it; one black pixel without one."""

    @classmethod
    def of(
        cls,
        card: ModelCard,
        effect: Effect,
        size: Size,
        *,
        classes: tuple[str, ...] | None = None,
        opacity: float = 0.5,
        is_rgb: bool = False,
    ) -> Look:
        """Prepare an effect for BGR (or RGB) frames.

        ``classes``, all of them the card's, are what it is about; None: all, and for a foreground
        all but the background. ``opacity`` is the share of the colour in ``heat``.

        Raises:
            UsageError: The model cannot have this effect.
            SourceError: The background cannot be read.
        """
        step, count = 1 if is_rgb else -1, len(card.classes)
        colors = np.zeros((count + 1, 3), np.uint8)
        colors[:count] = np.asarray(card.palette_rgb, np.uint8).reshape(count, 3)[:, ::step]
        behind = np.zeros((1, 1, 3), np.uint8)
        chosen = chosen_classes(card, effect, classes)
        if effect.background:
            behind = np.ascontiguousarray(background_rows(effect.background, size)[..., ::-step])
        heat = Tints.of(heat_table_rgb()[:, ::step], opacity)
        return cls(effect, chosen, classes is not None, colors, heat, behind)

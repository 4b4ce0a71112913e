"""Effect: what is made of a frame and its labels besides the plain overlay."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from segedge.card.card import ModelCard
from segedge.card.geometry import Size
from segedge.card.labels import Rgb
from segedge.errors import SourceError, UsageError, unknown_name_error

EffectName = Literal[
    "overlay", "mask", "cutout", "blur", "replace", "outline", "side-by-side", "heat"
]
HeatOf = Literal["confidence", "entropy"]
DrawnBy = Literal["tail", "matte", "outline", "heat"]


@dataclass(frozen=True)
class Traits:
    """What sets an effect apart. Whoever draws or keeps its pictures asks here, not for a name."""

    drawn_by: DrawnBy = "tail"
    """The tail paints a colour a class in its one pass; the others come after it."""
    alpha: bool = False
    """Whether pictures have a fourth channel, their opacity."""
    blurs: bool = False
    """Whether the foreground stands before the frame itself, blurred."""
    takes_background: bool = False
    """Whether it stands before a colour or picture of the user's."""
    hides_frame: bool = False
    """Whether nothing is seen but colours."""
    beside_frame: bool = False
    """Whether the frame as it was stands to the left."""
    legend: bool = True
    """Whether its colours stand for something."""

    @property
    def parts_foreground(self) -> bool:
        """Whether classes are kept as a foreground, with a soft edge to the rest."""
        return self.drawn_by == "matte"

    @property
    def counts_classes(self) -> bool:
        """Whether its legend tells the share of each class; that of a heat shows its scale."""
        return self.legend and self.drawn_by != "heat"

    @property
    def suits_nv12(self) -> bool:
        """Whether it is nothing but other colours, which luma and chroma can show as well."""
        return self.drawn_by == "tail" and not self.beside_frame


TRAITS: dict[EffectName, Traits] = {
    "overlay": Traits(),
    "mask": Traits(hides_frame=True),
    "cutout": Traits("matte", alpha=True, legend=False),
    "blur": Traits("matte", blurs=True, legend=False),
    "replace": Traits("matte", takes_background=True, legend=False),
    "outline": Traits("outline"),
    "side-by-side": Traits(beside_frame=True),
    "heat": Traits("heat"),
}
"""A new effect is an entry here and, if `DrawnBy` has nothing for it, a drawing in `segedge.cpu`
and `segedge.cuda`."""
EFFECTS: tuple[EffectName, ...] = tuple(TRAITS)
HEAT_ENDS: dict[HeatOf, tuple[str, str]] = {
    "confidence": ("sure", "unsure"),
    "entropy": ("one class", "any class"),
}
"""What the two ends of a heat's colours mean."""
HEATS: tuple[HeatOf, ...] = tuple(HEAT_ENDS)
_BACKGROUNDS = ("background", "__background__", "_background_", "void", "unlabelled", "unlabeled")
_COLOR = re.compile(r"#[0-9a-fA-F]{6}")

_HEAT_STOPS = ((8, 10, 38), (70, 20, 122), (190, 38, 92), (250, 128, 28), (255, 244, 150))
"""RGB at 0, 1/4, 1/2, 3/4 and 1: from night blue through red to yellow, ever lighter."""


@dataclass(frozen=True)
class Effect:
    """What a picture shows. Which classes it is about says `OverlayStyle.classes`."""

    name: EffectName = "overlay"
    """One of `EFFECTS`."""
    background: str = ""
    """For ``replace``: a picture file, or a colour such as ``#00ff00``."""
    edge_logits: float = 1.0
    """Softness of the edge in ``cutout``, ``blur`` and ``replace``: opacity rises from 0 to 1 while
    the best foreground logit goes from this much below the best background logit to this much
    above. Half opacity is where the label changes."""
    blur: float = 0.02
    """Standard deviation of ``blur``, as a share of the frame's height."""
    heat: HeatOf = "confidence"
    """What ``heat`` shows: 1 - confidence, or the entropy of all classes, 1 for all equal."""

    def __post_init__(self) -> None:
        if self.name not in EFFECTS:
            raise unknown_name_error("effect", self.name, EFFECTS)
        if self.heat not in HEATS:
            raise unknown_name_error("heat", self.heat, HEATS)
        if not 0.01 <= self.edge_logits <= 1e4:
            raise UsageError(
                f"an edge is 0.01 to 10000 logits wide, found {self.edge_logits}", fix="--edge 1"
            )
        if not 0.0 < self.blur <= 0.25:
            raise UsageError(
                f"blur must be above 0 and at most 0.25, found {self.blur}", fix="--blur 0.02"
            )
        if self.traits.takes_background and not self.background:
            raise UsageError(
                f"{self.name} needs a background", fix="--background beach.jpg, or '#00ff00'"
            )
        if self.background and not self.traits.takes_background:
            raise UsageError(f"the effect {self.name} takes no background", fix="--effect replace")

    @property
    def traits(self) -> Traits:
        """What sets it apart."""
        return TRAITS[self.name]

    @property
    def is_entropy(self) -> bool:
        """Whether a heat is of all classes' probabilities, not of the best one's."""
        return self.heat == "entropy"

    def shape(self, height: int, width: int) -> tuple[int, int, int]:
        """Shape of its picture of a frame."""
        traits = self.traits
        return height, width * (2 if traits.beside_frame else 1), 4 if traits.alpha else 3

    def check(self, card: ModelCard, classes: tuple[str, ...] | None) -> None:
        """Raise UsageError where a model cannot have this effect."""
        if self.traits.parts_foreground:
            foreground(card, classes, effect=self.name)
        if self.traits.drawn_by == "heat" and card.head == "labels":
            raise UsageError(
                f"no heat of {self.heat}: the network gives labels, not logits",
                fix="another effect, or export the network without its argmax",
            )

    def check_files(self) -> None:
        """Raise before any work where the background cannot be read.

        Raises:
            SourceError: The file is missing or no picture.
            UsageError: The colour is none.
        """
        if self.background:
            background_of(self.background)


def foreground(
    card: ModelCard, classes: tuple[str, ...] | None, *, effect: EffectName
) -> tuple[int, ...]:
    """Labels of the foreground: the classes named, else all but the card's background.

    Raises UsageError, with the effect's name, where neither is there.
    """
    if classes is not None:
        return tuple(card.classes.index(name) for name in classes)
    behind = [k for k, name in enumerate(card.classes) if name.lower() in _BACKGROUNDS]
    if not behind:
        shown = ", ".join(card.classes[:12]) + (" ..." if len(card.classes) > 12 else "")
        raise UsageError(
            f"{effect} needs the classes to keep: none here is called background",
            facts={"classes": shown},
            fix=f"--classes {shlex.quote(card.classes[-1])}",
        )
    return tuple(k for k in range(len(card.classes)) if k not in behind)


def chosen_classes(
    card: ModelCard, effect: Effect, classes: tuple[str, ...] | None
) -> NDArray[np.bool_]:
    """Which classes an effect is about; one entry more, false, serves labels that are none."""
    effect.check(card, classes)
    chosen = np.zeros(len(card.classes) + 1, np.bool_)
    if effect.traits.parts_foreground:
        chosen[list(foreground(card, classes, effect=effect.name))] = True
    else:
        names = card.classes if classes is None else classes
        chosen[[card.classes.index(name) for name in names]] = True
    return chosen


def background_of(text: str) -> Rgb | NDArray[np.uint8]:
    """The colour ``#rrggbb``, or the picture in a file, H x W x 3 uint8 BGR."""
    if _COLOR.fullmatch(text):
        return int(text[1:3], 16), int(text[3:5], 16), int(text[5:7], 16)
    if text.startswith("#"):
        raise UsageError(f"no colour {text!r}", facts={"expected": "#rrggbb"}, fix="'#00ff00'")
    path = Path(text)
    if not path.is_file():
        found = "a folder" if path.is_dir() else "nothing"
        raise SourceError(
            f"cannot read the background {text}",
            facts={"found": f"{found} of that name"},
            fix="--background beach.jpg, or a colour such as '#00ff00'",
        )
    image = cv2.imdecode(np.frombuffer(path.read_bytes() or b"\0", np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        raise SourceError(
            f"cannot read the background {text}",
            facts={"found": f"{path.stat().st_size} bytes that are no picture OpenCV knows"},
            fix="--background beach.jpg, or a colour such as '#00ff00'",
        )
    return np.asarray(image, np.uint8)


def background_rows(text: str, size: Size) -> NDArray[np.uint8]:
    """A background for frames of this size, H x W x 3 uint8 BGR; of a colour one row, 1 x W x 3.

    A picture of another size is scaled until it covers the frame, and its middle is taken.
    """
    found = background_of(text)
    if isinstance(found, tuple):
        return np.full((1, size.width, 3), found[::-1], np.uint8)
    height, width = found.shape[:2]
    scale = max(size.height / height, size.width / width)
    if scale != 1.0:
        larger = (
            max(size.width, round(width * scale)),
            max(size.height, round(height * scale)),
        )
        how = cv2.INTER_AREA if scale < 1.0 else cv2.INTER_LINEAR
        found = np.asarray(cv2.resize(found, larger, interpolation=how), np.uint8)
    top, left = (found.shape[0] - size.height) // 2, (found.shape[1] - size.width) // 2
    return np.ascontiguousarray(found[top : top + size.height, left : left + size.width])


def heat_table_rgb() -> NDArray[np.uint8]:
    """The colours of ``heat``, 256 x 3: straight lines between a few stops."""
    stops = np.asarray(_HEAT_STOPS, np.float64)
    at = np.linspace(0.0, len(stops) - 1.0, 256)
    channels = [np.interp(at, np.arange(len(stops)), stops[:, k]) for k in range(3)]
    return np.asarray(np.rint(np.stack(channels, 1)), np.uint8)


def outline_radius(height: int) -> int:
    """Half-width in pixels of an outline: 1 up to 720 rows, 2 at 1080, 4 at 2160."""
    return max(1, round(height / 540))


def blur_steps(sigma_pixels: float) -> int:
    """Side of the blocks that the frame is reduced by before it is blurred: 1, 2, 4, 8 or 16.

    The blur left over has a standard deviation of at least 2.5 blocks, so that neither the blocks
    nor the lines between them show.
    """
    step = 1
    while step < 16 and sigma_pixels >= 5.0 * step:
        step *= 2
    return step

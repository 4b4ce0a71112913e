"""The two affine maps between a frame, the network's input and the logit grid.

Every map is, per axis, ``source_index = scale * destination_index + offset`` between *pixel
indices* (centres at integers). Half-pixel alignment, letterbox borders and align_corners are all
folded into scale and offset, so the kernels know nothing but this one line and a clamp.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from segedge.errors import UsageError

Fit = Literal["stretch", "letterbox", "crop"]
FITS: tuple[Fit, ...] = ("stretch", "letterbox", "crop")
_NEAR = 1e-6
"""Pixels that rounding may move an edge by."""


@dataclass(frozen=True)
class Size:
    """Height and width in pixels (or grid points)."""

    height: int
    width: int

    def __post_init__(self) -> None:
        if self.height < 1 or self.width < 1:
            raise UsageError(f"a size must be positive, found {self.height}x{self.width}")

    def __str__(self) -> str:
        return f"{self.height}x{self.width}"

    @classmethod
    def parse(cls, text: str) -> Size:
        """Read ``"512x1024"`` (height x width) or ``"512"`` (square)."""
        parts = text.lower().replace("×", "x").split("x")
        if len(parts) not in (1, 2) or not all(part.strip().isdigit() for part in parts):
            raise UsageError(
                f"{text!r} is no size",
                facts={"expected": "HEIGHTxWIDTH in pixels"},
                fix="write it like 512x1024, or 512 for a square",
            )
        return cls(int(parts[0]), int(parts[-1]))


@dataclass(frozen=True)
class Region:
    """A rectangle of the frame, in pixels."""

    top: int
    left: int
    size: Size

    def check_inside(self, frame: Size) -> None:
        """Raise UsageError where it leaves a frame of this size."""
        bottom, right = self.top + self.size.height, self.left + self.size.width
        if min(self.top, self.left) < 0 or bottom > frame.height or right > frame.width:
            raise UsageError(
                "the region of interest leaves the frame",
                facts={"region": f"{self.size} at {self.top}, {self.left}", "frame": str(frame)},
            )


@dataclass(frozen=True)
class Scaling:
    """What size frames are resized to before they are cut or padded to the network's input.

    Lengths are whole pixels; where the aspect ratio is kept they are rounded as Hugging Face's
    processors round them. Nothing given: frames stay as they are.
    """

    height: int = 0
    """With ``width``: exactly this size, whatever the frame's shape."""
    width: int = 0
    shortest: int = 0
    """Length of the shorter side; the aspect ratio is kept."""
    longest: int = 0
    """With ``shortest``: the longer side is at most this. Alone: it is exactly this."""

    def __post_init__(self) -> None:
        lengths = (self.height, self.width, self.shortest, self.longest)
        if min(lengths) < 0 or bool(self.height) != bool(self.width):
            raise UsageError("a frame cannot be scaled like that", facts={"found": str(lengths)})

    def resized(self, frame: Size) -> Size:
        """Size of a frame after resizing."""
        if self.height:
            return Size(self.height, self.width)
        short, long = sorted((frame.height, frame.width))
        if self.shortest:
            short, long = self._to_shortest(short, long)
        elif self.longest:
            short, long = max(1, int(self.longest * short / long)), self.longest
        return Size(short, long) if frame.height < frame.width else Size(long, short)

    def _to_shortest(self, short: int, long: int) -> tuple[int, int]:
        """As `get_size_with_aspect_ratio` of transformers: the limit decides, then it rounds."""
        wanted = self.shortest
        if self.longest and long / short * wanted > self.longest:
            limit = self.longest * short / long
            return round(limit), int(limit * long / short)
        return wanted, int(wanted * long / short)

    def __str__(self) -> str:
        if self.height:
            return f"to {self.height}x{self.width}"
        if self.shortest:
            return f"shorter side to {self.shortest}" + (
                f", longer at most {self.longest}" if self.longest else ""
            )
        return f"longer side to {self.longest}" if self.longest else "not resized"


@dataclass(frozen=True)
class AxisMap:
    """``source = scale * destination + offset`` between pixel indices of one axis."""

    scale: float
    offset: float

    def __call__(self, destination: float) -> float:
        """Source index of a destination index."""
        return self.scale * destination + self.offset

    def after(self, inner: AxisMap) -> AxisMap:
        """The composition ``self(inner(x))``."""
        return AxisMap(self.scale * inner.scale, self.scale * inner.offset + self.offset)

    def inverse(self) -> AxisMap:
        """The exact inverse map."""
        return AxisMap(1.0 / self.scale, -self.offset / self.scale)


@dataclass(frozen=True)
class PlaneMap:
    """An `AxisMap` for each axis of a plane."""

    y: AxisMap
    x: AxisMap

    def after(self, inner: PlaneMap) -> PlaneMap:
        """The composition ``self(inner(point))``."""
        return PlaneMap(self.y.after(inner.y), self.x.after(inner.x))


@dataclass(frozen=True)
class Geometry:
    """How a frame lies in the network's input."""

    frame: Size
    network: Size
    top: int
    """First network row of the resized frame; negative where the frame is cropped."""
    left: int
    """First network column of the resized frame; negative where the frame is cropped."""
    resized: Size
    """Size of the whole frame after resizing, before padding or cropping."""

    @classmethod
    def fit(
        cls,
        frame: Size,
        network: Size,
        fit: Fit,
        *,
        scaling: Scaling | None = None,
        at_start: bool = False,
    ) -> Geometry:
        """Place a frame in the network's input.

        ``stretch`` fills the input without keeping the aspect ratio; ``letterbox`` keeps it and
        pads, centred; ``crop`` keeps it and cuts the overhang, centred. ``scaling`` says what size
        the frame is resized to first: then each axis is cut or padded, whatever the fit.
        ``at_start`` puts its first pixel at the network's first.
        """
        if scaling is not None:
            resized = scaling.resized(frame)
            top = 0 if at_start else _centred(network.height, resized.height)
            left = 0 if at_start else _centred(network.width, resized.width)
            return cls(frame, network, top, left, resized)
        if fit == "stretch":
            return cls(frame, network, 0, 0, network)
        ratios = (network.height / frame.height, network.width / frame.width)
        ratio = min(ratios) if fit == "letterbox" else max(ratios)
        resized = Size(
            _resized_length(frame.height, network.height, ratio, fit),
            _resized_length(frame.width, network.width, ratio, fit),
        )
        if at_start:
            return cls(frame, network, 0, 0, resized)
        top = (network.height - resized.height) // 2
        left = (network.width - resized.width) // 2
        return cls(frame, network, top, left, resized)

    def frame_from_network(self) -> PlaneMap:
        """Index map that preprocessing reads through: network pixel to frame pixel."""
        return PlaneMap(
            _half_pixel(self.frame.height, self.resized.height, -self.top),
            _half_pixel(self.frame.width, self.resized.width, -self.left),
        )

    def network_from_frame(self) -> PlaneMap:
        """The exact inverse of `frame_from_network`: frame pixel to network pixel."""
        inverse = self.frame_from_network()
        return PlaneMap(inverse.y.inverse(), inverse.x.inverse())

    def grid_from_frame(self, grid: Size, *, align_corners: bool) -> PlaneMap:
        """Index map that the tail reads through: frame pixel to point of a grid of logits.

        ``align_corners``: the corner grid points lie on the corner pixels' centres (as in
        ``torch.nn.functional.interpolate(align_corners=True)``).
        """
        return grid_from_network(grid, self.network, align_corners=align_corners).after(
            self.network_from_frame()
        )

    def content(self) -> tuple[int, int, int, int]:
        """(top, left, bottom, right) of the frame inside the network's input, end exclusive."""
        return (
            max(self.top, 0),
            max(self.left, 0),
            min(self.top + self.resized.height, self.network.height),
            min(self.left + self.resized.width, self.network.width),
        )

    def seen(self) -> tuple[int, int, int, int]:
        """(top, left, bottom, right) of the frame's pixels that the network sees, end exclusive.

        A pixel is seen where its centre lies inside the network's input.
        """
        maps = self.network_from_frame()
        top, bottom = _inside(maps.y, self.network.height, self.frame.height)
        left, right = _inside(maps.x, self.network.width, self.frame.width)
        return top, left, bottom, right


def grid_from_network(grid: Size, network: Size, *, align_corners: bool) -> PlaneMap:
    """Index map from network pixels to logit grid points, as torch's interpolate defines it."""
    axis = _corner_aligned if align_corners else _half_pixel
    return PlaneMap(axis(grid.height, network.height), axis(grid.width, network.width))


def _half_pixel(source: int, destination: int, shift: int = 0) -> AxisMap:
    """Half-pixel centres: source = (destination + shift + 0.5) * ratio - 0.5."""
    ratio = source / destination
    return AxisMap(ratio, (shift + 0.5) * ratio - 0.5)


def _corner_aligned(source: int, destination: int) -> AxisMap:
    """Corner centres coincide; a one-pixel destination reads source 0, as torch does."""
    return AxisMap((source - 1) / (destination - 1) if destination > 1 else 0.0, 0.0)


def _centred(network: int, resized: int) -> int:
    """Where a length begins in another; what is over is cut as Hugging Face's processors cut it."""
    over = resized - network
    return -(over // 2) if over > 0 else -over // 2


def _inside(axis: AxisMap, network: int, frame: int) -> tuple[int, int]:
    """First pixel of the frame, and the one after the last, within -1/2 .. network - 1/2."""
    first = math.ceil((-0.5 - axis.offset) / axis.scale - _NEAR)
    end = math.ceil((network - 0.5 - axis.offset) / axis.scale - _NEAR)
    first = min(max(first, 0), frame - 1)
    return first, min(max(end, first + 1), frame)


def _resized_length(frame: int, network: int, ratio: float, fit: Fit) -> int:
    """Whole pixels nearest to ``frame * ratio``, within (letterbox) or covering (crop)."""
    length = max(1, int(frame * ratio + 0.5))
    return min(length, network) if fit == "letterbox" else max(length, network)

"""The two affine maps between a frame, the network's input and the logit grid.

Every map is, per axis, ``source_index = scale * destination_index + offset`` between *pixel
indices* (centres at integers). Half-pixel alignment, letterbox borders and align_corners are all
folded into scale and offset, so the kernels know nothing but this one line and a clamp.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from segedge.errors import UsageError

Fit = Literal["stretch", "letterbox", "crop"]
FITS: tuple[Fit, ...] = ("stretch", "letterbox", "crop")


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
                f"{text!r} is no size", facts={"expected": "HEIGHTxWIDTH, e.g. 512x1024"}
            )
        return cls(int(parts[0]), int(parts[-1]))


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
    def fit(cls, frame: Size, network: Size, fit: Fit) -> Geometry:
        """Place a frame in the network's input.

        ``stretch`` fills the input without keeping the aspect ratio; ``letterbox`` keeps it and
        pads, centred; ``crop`` keeps it and cuts the overhang, centred.
        """
        if fit == "stretch":
            return cls(frame, network, 0, 0, network)
        ratios = (network.height / frame.height, network.width / frame.width)
        ratio = min(ratios) if fit == "letterbox" else max(ratios)
        resized = Size(
            _resized_length(frame.height, network.height, ratio, fit),
            _resized_length(frame.width, network.width, ratio, fit),
        )
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


def _resized_length(frame: int, network: int, ratio: float, fit: Fit) -> int:
    """Whole pixels nearest to ``frame * ratio``, within (letterbox) or covering (crop)."""
    length = max(1, int(frame * ratio + 0.5))
    return min(length, network) if fit == "letterbox" else max(length, network)

"""A pinhole camera, the light of the day, and a canvas that paints image and labels at once.

World axes, in metres: x to the right, y up from the road, z along the street.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Colour = tuple[float, float, float]
_SHIFT = 4  # fillPoly takes fixed-point coordinates: objects then move by 1/16 pixel, not by 1
_NEAR_M = 0.3


@dataclass(frozen=True)
class Camera:
    """Where the picture is taken from; lengths in metres, the image in pixels."""

    position: tuple[float, float, float]
    yaw: float
    focal_px: float
    centre_px: tuple[float, float]

    def project(self, points: Floats) -> tuple[Floats, Floats]:
        """Project world points (N, 3); returns pixels (N, 2) and depths (N,) in metres."""
        offset = points - np.asarray(self.position)
        cos, sin = np.cos(self.yaw), np.sin(self.yaw)
        depth = np.maximum(offset[:, 0] * sin + offset[:, 2] * cos, _NEAR_M)
        side = offset[:, 0] * cos - offset[:, 2] * sin
        pixels = np.empty((len(points), 2))
        pixels[:, 0] = self.centre_px[0] + self.focal_px * side / depth
        pixels[:, 1] = self.centre_px[1] - self.focal_px * offset[:, 1] / depth
        return pixels, depth


@dataclass(frozen=True)
class Light:
    """The light of one scene; colours are BGR, intensities multiply an albedo of 0..255."""

    ambient: Colour
    sun: Colour
    sun_direction: tuple[float, float, float]
    haze: Colour
    haze_m: float
    sky_top: Colour
    sky_bottom: Colour
    shadow: float
    cloud: float
    lamps_on: bool

    def facing(self, normal: tuple[float, float, float]) -> float:
        """How much sun a surface with this unit normal gets, 0..1."""
        return max(0.0, float(np.dot(normal, self.sun_direction)))

    def haze_share(self, depth_m: float) -> float:
        """Share of haze in the colour of something at this depth."""
        return 1.0 - float(np.exp(-max(depth_m, 0.0) / self.haze_m))

    def shade(self, albedo: Colour, facing: float, depth_m: float) -> Colour:
        """Colour, as the camera sees it, of an albedo that gets ``facing`` of the sun."""
        share = self.haze_share(depth_m)
        lit = [a * (m + s * facing) for a, m, s in zip(albedo, self.ambient, self.sun, strict=True)]
        blue, green, red = (
            min(c, 255.0) * (1 - share) + h * share for c, h in zip(lit, self.haze, strict=True)
        )
        return blue, green, red


class Canvas:
    """Image and labels, painted together from far to near."""

    def __init__(self, camera: Camera, light: Light, height: int, width: int) -> None:
        """Start with an empty canvas of ``height`` x ``width`` pixels."""
        self.camera, self.light = camera, light
        self.image = np.zeros((height, width, 3), np.uint8)
        self.labels = np.zeros((height, width), np.uint8)

    def visible(self, pixels: Floats) -> bool:
        """Whether the bounding box of these pixels touches the canvas."""
        height, width = self.labels.shape
        low, high = pixels.min(0), pixels.max(0)
        return bool(high[0] >= 0 and high[1] >= 0 and low[0] < width and low[1] < height)

    def fill(self, pixels: Floats, colour: Colour, label: int | None) -> None:
        """Fill a polygon given in pixels (N, 2) with a final colour; label None keeps labels."""
        if not self.visible(pixels):
            return
        fixed = [np.clip(pixels * (1 << _SHIFT), -4e6, 4e6).astype(np.int32)]
        cv2.fillPoly(self.image, fixed, colour, shift=_SHIFT)
        if label is not None:
            cv2.fillPoly(self.labels, fixed, label, shift=_SHIFT)

    def polygon(
        self,
        points: Floats,
        albedo: Colour,
        label: int | None,
        facing: float = 0.5,
        glow: bool = False,
    ) -> None:
        """Fill a polygon given in metres (N, 3); ``glow`` means that it shines by itself."""
        pixels, depth = self.camera.project(points)
        colour = albedo if glow else self.light.shade(albedo, facing, float(depth.mean()))
        self.fill(pixels, colour, label)

    def prism(
        self, profile: Floats, x_range: tuple[float, float], albedo: Colour, label: int
    ) -> None:
        """Paint a convex prism: ``profile`` (N, 2) of (z, y), counter-clockwise seen from +x.

        Faces turned away from the camera are left out, so the rest needs no sorting.
        """
        eye = np.asarray(self.camera.position)
        ends = [np.column_stack([np.full(len(profile), x), profile[:, ::-1]]) for x in x_range]
        for index in range(len(profile)):
            after = (index + 1) % len(profile)
            along = profile[after] - profile[index]
            length = float(np.hypot(*along)) or 1.0
            normal = (0.0, float(-along[0] / length), float(along[1] / length))
            corner = ends[0][index]
            if np.dot(normal, eye - corner) > 0:
                quad = np.stack([corner, ends[0][after], ends[1][after], ends[1][index]])
                self.polygon(quad, albedo, label, self.light.facing(normal))
        if eye[0] < x_range[0]:
            self.polygon(ends[0], albedo, label, self.light.facing((-1.0, 0.0, 0.0)))
        if eye[0] > x_range[1]:
            self.polygon(ends[1], albedo, label, self.light.facing((1.0, 0.0, 0.0)))

    def disc(self, centre: Floats, radius_m: float, albedo: Colour, label: int | None) -> None:
        """Fill a disc that faces the camera."""
        angles = np.linspace(0, 2 * np.pi, 16, endpoint=False)
        ring = np.column_stack([np.cos(angles), np.sin(angles), np.zeros(16)]) * radius_m
        self.polygon(centre + ring, albedo, label)

    def limb(
        self, start: Floats, end: Floats, widths_m: tuple[float, float], albedo: Colour, label: int
    ) -> None:
        """Fill a tapered bar between two points, seen flat by the camera."""
        pixels, depth = self.camera.project(np.stack([start, end]))
        along = pixels[1] - pixels[0]
        normal = np.array([-along[1], along[0]]) / (float(np.hypot(*along)) + 1e-6)
        half = self.camera.focal_px * np.asarray(widths_m) / depth / 2
        quad = np.stack([
            pixels[0] + normal * half[0], pixels[1] + normal * half[1],
            pixels[1] - normal * half[1], pixels[0] - normal * half[0],
        ])  # fmt: skip
        self.fill(quad, self.light.shade(albedo, 0.5, float(depth.mean())), label)

    def sprite(self, image: NDArray[np.uint8], mask: NDArray[np.uint8], box: Floats,
               depth_m: float, label: int) -> None:  # fmt: skip
        """Paint a picture (h, w, 3) where its mask (h, w) is over 127, into a box (x, y, x, y)."""
        height, width = self.labels.shape
        x0, y0 = max(int(box[0]), 0), max(int(box[1]), 0)
        x1, y1 = min(int(box[2]) + 1, width), min(int(box[3]) + 1, height)
        if x1 - x0 < 1 or y1 - y0 < 1:
            return
        scale = (box[2:] - box[:2]) / np.array(mask.shape[::-1])
        matrix = np.array([[scale[0], 0, box[0] - x0], [0, scale[1], box[1] - y0]])
        stencil = cv2.warpAffine(mask, matrix, (x1 - x0, y1 - y0)) > 127
        paint = cv2.LUT(image, haze_table(self.light, depth_m))
        paint = cv2.warpAffine(paint, matrix, (x1 - x0, y1 - y0), borderMode=cv2.BORDER_REFLECT)
        cv2.copyTo(paint, stencil.astype(np.uint8), self.image[y0:y1, x0:x1])
        self.labels[y0:y1, x0:x1][stencil] = label

    def texture(self, image: NDArray[np.uint8], corners: Floats, label: int) -> None:
        """Paint a picture onto a quad in metres (4, 3): top left, top right, bottom right, left."""
        pixels, depth = self.camera.project(corners)
        if not self.visible(pixels):
            return
        height, width = self.labels.shape
        x0, y0 = np.maximum(np.floor(pixels.min(0)), 0).astype(int)
        x1, y1 = np.minimum(np.ceil(pixels.max(0)) + 1, (width, height)).astype(int)
        span = np.ptp(pixels, axis=0)
        size = np.clip(span, 2, image.shape[1::-1]).astype(int)
        small = cv2.resize(image, (int(size[0]), int(size[1])), interpolation=cv2.INTER_AREA)
        small = cv2.LUT(small, haze_table(self.light, float(depth.mean())))
        source = np.array([[0, 0], [size[0], 0], size, [0, size[1]]], np.float32) - 0.5
        target = (pixels - (x0, y0)).astype(np.float32)
        matrix = cv2.getPerspectiveTransform(source.astype(np.float32), target)
        paint = cv2.warpPerspective(
            small, matrix, (x1 - x0, y1 - y0), borderMode=cv2.BORDER_REPLICATE
        )
        stencil = np.zeros((y1 - y0, x1 - x0), np.uint8)
        fixed = [np.clip(target * (1 << _SHIFT), -4e6, 4e6).astype(np.int32)]
        cv2.fillPoly(stencil, fixed, 255, shift=_SHIFT)
        cv2.copyTo(paint, stencil, self.image[y0:y1, x0:x1])
        cv2.fillPoly(self.labels[y0:y1, x0:x1], fixed, label, shift=_SHIFT)


def haze_table(light: Light, depth_m: float) -> NDArray[np.uint8]:
    """Lookup table (1, 256, 3) that fades already lit colours into the haze."""
    share = light.haze_share(depth_m)
    ramp = np.arange(256.0)[None, :, None] * (1 - share) + np.asarray(light.haze) * share
    return ramp.astype(np.uint8)

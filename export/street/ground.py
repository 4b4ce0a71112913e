"""The ground: lawns, pavements, road and markings, its grain, and the shadows that fall on it."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np
from canvas import Canvas, Colour, Floats
from classes import GRASS, MARKING, PAVEMENT, ROAD
from layout import LANE_M, PERIOD_M, Actor, Building, Layout
from numpy.typing import NDArray

FAR_M, NEAR_M, _MARKINGS_M = 170.0, 1.5, 38.0


@dataclass(frozen=True)
class Tints:
    """Albedos, BGR, of what covers the ground."""

    asphalt: Colour
    paving: Colour
    lawn: Colour


def paint_ground(canvas: Canvas, street: Layout, tints: Tints) -> None:
    """Paint lawns, pavements, kerbs, the road, side streets and markings, without haze."""
    base = canvas.camera.position[2]
    _rectangle(canvas, -90, 90, base, base + FAR_M, tints.lawn, GRASS)
    kerb, edge = street.half_road, street.half_road + street.pavement
    light_kerb: Colour = (175, 178, 180)
    for start, end in _near(street.blocks, base):
        for side in (-1, 1):
            court = (side * (edge + street.verge), side * 90)
            _rectangle(canvas, side * kerb, side * edge, start, end, tints.paving, PAVEMENT)
            _rectangle(canvas, *court, start, start + 3, tints.paving, PAVEMENT)
            _rectangle(canvas, *court, end - 3, end, tints.paving, PAVEMENT)
            for joint in np.arange(start, end, 1.3):
                if base < joint < base + 30:
                    _rectangle(canvas, side * kerb, side * edge, joint, joint + 0.05,
                                 (125, 130, 136), None)  # fmt: skip
            _rectangle(canvas, side * kerb, side * (kerb + 0.22), start, end, light_kerb,
                         PAVEMENT)  # fmt: skip
    _rectangle(canvas, -kerb, kerb, base, base + FAR_M, tints.asphalt, ROAD)
    ends = sorted(_near(street.blocks, base))
    for (_, end), (start, _) in pairwise(ends):
        _rectangle(canvas, -90, 90, end, start, tints.asphalt, ROAD)
        _crossing(canvas, street, end)
    _lines(canvas, street, ends)


def _rectangle(canvas: Canvas, x0: float, x1: float, z0: float, z1: float, albedo: Colour,
            label: int | None) -> None:  # fmt: skip
    """Fill a rectangle on the ground, cut off behind the camera."""
    near = canvas.camera.position[2] + NEAR_M
    far = near + (_MARKINGS_M if label == MARKING else FAR_M)
    z0, z1 = max(z0, near), min(z1, far)
    if z1 > z0:
        points = np.array([[x0, 0, z0], [x1, 0, z0], [x1, 0, z1], [x0, 0, z1]])
        pixels, _ = canvas.camera.project(points)
        facing = canvas.light.facing((0, 1, 0))
        canvas.fill(pixels, canvas.light.shade(albedo, facing, 0.0), label)


def _crossing(canvas: Canvas, street: Layout, end: float) -> None:
    """Paint zebra stripes and a stop line before a side street."""
    paint: Colour = (215, 218, 220)
    kerb = street.half_road
    for x in np.arange(-kerb + 0.5, kerb - 0.5, 1.1):
        _rectangle(canvas, x, x + 0.55, end - 3.4, end - 0.6, paint, MARKING)
    _rectangle(canvas, 0.2, kerb - 0.3, end - 5.0, end - 4.4, paint, MARKING)


def _lines(canvas: Canvas, street: Layout, blocks: list[tuple[float, float]]) -> None:
    """Paint the middle line, lane dashes and edge lines of every block."""
    paint: Colour = (215, 218, 220)
    lanes = street.lanes
    for start, end in blocks:
        for side in (-1, 1):
            x = side * lanes * LANE_M
            _rectangle(canvas, x - 0.13, x + 0.13, start + 2, end - 6, paint, MARKING)
            if lanes == 2:
                middle = (side * 0.12, side * 0.36)
                _rectangle(canvas, *middle, start + 2, end - 6, paint, MARKING)
            for z in np.arange(start + 3, end - 8, 6.5):
                x = side * LANE_M if lanes == 2 else 0.0
                _rectangle(canvas, x - 0.15, x + 0.15, z, z + 3.2, paint, MARKING)


def _near(blocks: tuple[tuple[float, float], ...], base: float) -> list[tuple[float, float]]:
    """Repeat the blocks of the endless street around the camera."""
    turn = int(base // PERIOD_M)
    shifts = [PERIOD_M * (turn + k) for k in (-1, 0, 1)]
    return [(a + s, b + s) for s in shifts for a, b in blocks if a + s < base + FAR_M + 90]


def shadow_mask(
    canvas: Canvas, houses: list[tuple[Building, float]], actors: list[tuple[Actor, float, float]]
) -> NDArray[np.uint8]:
    """Draw what the sun does not reach on the ground, (2H, 2W): 255 is lit."""
    mask = np.full(canvas.labels.shape, 255, np.uint8)
    sun, level = canvas.light.sun_direction, int(255 * canvas.light.shadow)
    slope = np.array([-sun[0] / sun[1], -sun[2] / sun[1]])
    base = canvas.camera.position[2]
    for house, z in houses:
        if z < base + 120:
            back = house.x + house.side * 11
            corners = np.array([[house.x, z], [back, z], [house.x, z + house.z1 - house.z0],
                                [back, z + house.z1 - house.z0]])  # fmt: skip
            _shadow(canvas, mask, corners, slope * house.height, level)
    half = {"car": (0.9, 2.1), "tree": (1.6, 1.6), "lamp": (0.1, 0.1), "sign": (0.1, 0.1),
            "person": (0.25, 0.2), "bicycle": (0.5, 0.3)}  # fmt: skip
    tall = {"car": 1.0, "tree": 4.5, "lamp": 5.5, "sign": 2.8, "person": 1.5, "bicycle": 1.0}
    for actor, x, z in actors:
        if base < z < base + 60:
            wide = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * half[actor.kind]
            _shadow(canvas, mask, wide + np.array([x, z]), slope * tall[actor.kind], level)
    return cv2.blur(mask, (5, 5))


def _shadow(canvas: Canvas, mask: NDArray[np.uint8], corners: Floats, shift: Floats,
            level: int) -> None:  # fmt: skip
    """Fill the shadow of a box over ``corners`` (N, 2), whose top is moved by ``shift``."""
    flat = np.concatenate([corners, corners + shift])
    flat[:, 1] = np.maximum(flat[:, 1], canvas.camera.position[2] + NEAR_M)
    points = np.column_stack([flat[:, 0], np.zeros(len(flat)), flat[:, 1]])
    pixels = np.clip(canvas.camera.project(points)[0], -30000, 30000)
    cv2.fillConvexPoly(mask, cv2.convexHull(pixels.astype(np.int32)), level)


def light_ground(
    canvas: Canvas, horizon: int, grain: NDArray[np.uint8], shadows: NDArray[np.uint8]
) -> None:
    """Multiply the ground by grain and shadow, then fade it into the haze, row by row."""
    height, width = canvas.labels.shape
    camera, top = canvas.camera, horizon + 2
    rows = np.arange(top, height, dtype=np.float32)
    depth = camera.focal_px * camera.position[1] / (rows - camera.centre_px[1])
    columns = (np.arange(width, dtype=np.float32) - camera.centre_px[0]) / camera.focal_px
    side = depth[:, None] * columns[None] + np.float32(camera.position[0])
    along = (depth + np.float32(camera.position[2] % PERIOD_M))[:, None]
    ahead = np.ascontiguousarray(np.broadcast_to(along, side.shape))
    tile = cv2.remap(grain, side * 40, ahead * 40, cv2.INTER_LINEAR,
                     borderMode=cv2.BORDER_WRAP)  # fmt: skip
    calm = cv2.resize(np.minimum(255 * 8.0 / depth, 255.0).astype(np.uint8), (width, len(rows)))
    level = cv2.multiply(255 - calm, 128, scale=1 / 255)
    tile = cv2.add(cv2.multiply(tile, calm, scale=1 / 255), level)
    gain = cv2.cvtColor(cv2.multiply(tile, shadows[top:], scale=1 / 255), cv2.COLOR_GRAY2BGR)
    part = canvas.image[top:]
    cv2.multiply(part, gain, dst=part, scale=1 / 128)
    share = 1 - np.exp(-depth / canvas.light.haze_m)
    size = (width, height - top)
    haze = np.asarray(canvas.light.haze, np.float32)
    keep = np.repeat(255 * (1 - share)[:, None, None], 3, 2).astype(np.uint8)
    fade = (share[:, None] * haze)[:, None].astype(np.uint8)
    cv2.multiply(part, cv2.resize(keep, size), dst=part, scale=1 / 255)
    cv2.add(part, cv2.resize(fade, size), dst=part)

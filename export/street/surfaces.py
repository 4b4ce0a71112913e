"""Pictures that the street is papered with: facades, foliage, clouds and grain."""

from __future__ import annotations

import cv2
import numpy as np
from canvas import Colour, Light
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
_TEXELS_PER_M = 22
WALLS: tuple[Colour, ...] = (
    (150, 185, 210), (120, 140, 190), (185, 195, 200), (90, 105, 165), (170, 175, 160),
    (140, 190, 225), (110, 120, 130), (190, 200, 215), (95, 125, 150), (165, 150, 140),
    (150, 160, 205), (130, 170, 170),
)  # fmt: skip
LEAVES: tuple[Colour, ...] = ((50, 120, 70), (40, 105, 60), (60, 135, 95), (45, 110, 105))


def fractal(
    rng: np.random.Generator, height: int, width: int, first: int = 4
) -> NDArray[np.float32]:
    """Smooth noise (height, width) in about 0..1: octaves of upsampled random grids."""
    total = np.zeros((height, width), np.float32)
    weight, cells = 1.0, first
    while cells < min(height, width):
        grid = rng.random((cells, cells * max(width // height, 1))).astype(np.float32)
        total += weight * cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)
        weight, cells = weight * 0.55, cells * 2
    low, high = float(total.min()), float(total.max())
    return (total - low) / (high - low)


def facade(
    rng: np.random.Generator, size_m: tuple[float, float], light: Light, facing: float, front: bool
) -> Pixels:
    """Draw a lit wall (h, w, 3) of ``size_m`` (width, height) with windows, doors and shops."""
    width, height = (int(side * _TEXELS_PER_M) for side in size_m)
    wall = np.array(WALLS[rng.integers(len(WALLS))]) * rng.uniform(0.8, 1.05)
    grain = 1 + 0.1 * (fractal(rng, 128, 128, 8) - 0.5)
    grain = cv2.resize(grain, (width, height))[..., None]
    picture = np.clip(wall * grain, 0, 255).astype(np.uint8)
    if rng.random() < 0.4:
        for row in range(0, height, 8):
            cv2.line(picture, (0, row), (width, row), (wall * 0.88).tolist(), 1)
    floor_px = int(rng.uniform(2.9, 3.4) * _TEXELS_PER_M)
    bay_px = int(rng.uniform(1.9, 3.2) * _TEXELS_PER_M)
    glow = np.zeros((height, width), np.uint8)
    if front:
        _ground_floor(rng, picture, glow, wall, floor_px, light)
    if front or rng.random() < 0.7:
        _windows(rng, picture, glow, wall, floor_px, bay_px, light)
    cv2.rectangle(picture, (0, 0), (width, 9), (wall * 0.7).tolist(), -1)
    cv2.rectangle(picture, (0, 9), (width, 13), (wall * 0.55).tolist(), -1)
    gain = np.asarray(light.ambient) + np.asarray(light.sun) * facing
    lit = np.clip(picture * gain, 0, 255).astype(np.uint8)
    return np.where(glow[..., None] > 0, picture, lit).astype(np.uint8)


def _windows(rng: np.random.Generator, picture: Pixels, glow: Pixels, wall: NDArray[np.float64],
             floor_px: int, bay_px: int, light: Light) -> None:  # fmt: skip
    """Draw rows of windows on all upper floors."""
    height, width = glow.shape
    wide, high = int(bay_px * rng.uniform(0.42, 0.66)), int(floor_px * rng.uniform(0.5, 0.66))
    frame = (wall * 0.6 if rng.random() < 0.5 else np.array([225, 228, 230])).tolist()
    bays = max(int((width - 8) // bay_px), 1)
    margin = (width - bays * bay_px) // 2
    balcony = rng.random() < 0.3
    for bottom in range(height - floor_px - int(0.3 * floor_px), floor_px // 2, -floor_px):
        for bay in range(bays):
            x0 = margin + bay * bay_px + (bay_px - wide) // 2
            box = ((x0, bottom - high), (x0 + wide, bottom))
            _window(rng, picture, glow, box, frame, light)
        if balcony:
            cv2.rectangle(picture, (margin, bottom - 6), (width - margin, bottom), (70, 70, 72), 2)
            cv2.rectangle(picture, (margin, bottom), (width - margin, bottom + 6), frame, -1)


def _window(rng: np.random.Generator, picture: Pixels, glow: Pixels,
            box: tuple[tuple[int, int], tuple[int, int]], frame: list[float],
            light: Light) -> None:  # fmt: skip
    """Draw one window: frame, glass that mirrors the sky, a cross bar and a sill."""
    (x0, y0), (x1, y1) = box
    cv2.rectangle(picture, (x0 - 3, y0 - 3), (x1 + 3, y1 + 3), frame, -1)
    shining = light.lamps_on and rng.random() < 0.45
    base = np.array([95, 200, 250]) if shining else np.array([120, 98, 80]) * rng.uniform(0.6, 1.3)
    cv2.rectangle(picture, (x0, y0), (x1, y1), base.tolist(), -1)
    if shining:
        cv2.rectangle(glow, (x0, y0), (x1, y1), 255, -1)
    else:
        corner = np.array([[x0, y0], [x0 + (x1 - x0) * 2 // 3, y0], [x0, y0 + (y1 - y0) * 2 // 3]])
        cv2.fillPoly(picture, [corner], np.minimum(base * 1.35, 255).tolist())
    middle = (x0 + x1) // 2
    cv2.line(picture, (middle, y0), (middle, y1), frame, 2)
    cv2.rectangle(picture, (x0 - 5, y1 + 3), (x1 + 5, y1 + 6), frame, -1)


def _ground_floor(rng: np.random.Generator, picture: Pixels, glow: Pixels,
                  wall: NDArray[np.float64], floor_px: int, light: Light) -> None:  # fmt: skip
    """Draw either shop windows with an awning, or a plinth with a door."""
    height, width = glow.shape
    top = height - floor_px
    if rng.random() < 0.5:
        sign = rng.uniform(40, 200, 3)
        cv2.rectangle(picture, (0, top), (width, height), (wall * 0.45).tolist(), -1)
        for x0 in range(12, width - 50, 72):
            glass = (110, 205, 245) if light.lamps_on else (112, 98, 84)
            cv2.rectangle(picture, (x0, top + 24), (x0 + 60, height - 12), glass, -1)
            if light.lamps_on:
                cv2.rectangle(glow, (x0, top + 24), (x0 + 60, height - 12), 255, -1)
            cv2.line(picture, (x0 + 8, height - 16), (x0 + 34, top + 28), (165, 150, 135), 3)
        stripes = range(0, width, 14)
        for index, x0 in enumerate(stripes):
            colour = sign.tolist() if index % 2 else (225, 228, 230)
            cv2.rectangle(picture, (x0, top), (x0 + 14, top + 20), colour, -1)
    else:
        cv2.rectangle(picture, (0, height - 18), (width, height), (wall * 0.6).tolist(), -1)
        door = int(rng.uniform(0.2, 0.8) * max(width - 40, 1))
        paint = rng.uniform(30, 130, 3).tolist()
        frame = (wall * 0.55).tolist()
        cv2.rectangle(picture, (door - 4, height - 52), (door + 30, height), frame, -1)
        cv2.rectangle(picture, (door, height - 48), (door + 26, height), paint, -1)


def foliage(rng: np.random.Generator, light: Light) -> tuple[Pixels, Pixels]:
    """Draw a tree crown (192, 192, 3) lit from the sun's side, and its mask (192, 192)."""
    size = 192
    mask = np.zeros((size, size), np.uint8)
    tone = np.full((size, size), 0.5, np.float32)
    blobs = rng.uniform(0.25, 0.75, (26, 2)) * size
    order = np.argsort(-blobs[:, 1])
    for x, y in blobs[order]:
        radius = int(rng.uniform(0.1, 0.2) * size)
        centre = (int(x), int(y))
        cv2.circle(mask, centre, radius, 255, -1)
        level = 0.62 + 0.45 * (0.5 - y / size) + rng.uniform(-0.1, 0.1)
        cv2.circle(tone, centre, radius, level, -1)
        offset = int(np.sign(light.sun_direction[0] or 1.0) * radius * 0.3)
        spot = (centre[0] + offset, centre[1] - radius // 4)
        cv2.circle(tone, spot, radius * 2 // 3, level + 0.12, -1)
    edge = (fractal(rng, size, size, 16) - 0.5) * 130
    mask = np.where(cv2.GaussianBlur(mask, (0, 0), 5) + edge > 128, 255, 0).astype(np.uint8)
    tone = cv2.GaussianBlur(tone, (0, 0), 2.5) * (0.72 + 0.6 * fractal(rng, size, size, 24))
    leaf = np.array(LEAVES[rng.integers(len(LEAVES))]) * rng.uniform(0.85, 1.2)
    gain = np.asarray(light.ambient) + 0.6 * np.asarray(light.sun)
    picture = np.clip(leaf * gain * tone[..., None] * 1.7, 0, 255).astype(np.uint8)
    return picture, mask


def sky(rng: np.random.Generator, light: Light) -> Pixels:
    """Draw the sky (256, 768, 3) from the horizon (last row) upwards, wider than any view."""
    height, width = 256, 768
    up = np.linspace(1, 0, height)[:, None, None] ** 0.8
    gradient = np.asarray(light.sky_top) * up + np.asarray(light.sky_bottom) * (1 - up)
    noise = fractal(rng, height, width, 4)
    cover = np.clip((noise - (1 - light.cloud)) * 4, 0, 1)[..., None]
    cover = cover * np.linspace(1, 0.25, height)[:, None, None]
    tint = np.asarray(light.haze) * 0.55 + 115.0 * (0.7 if light.lamps_on else 1.0)
    bright = tint * (0.86 + 0.22 * np.roll(noise, 6, 0)[..., None])
    return np.clip(gradient * (1 - cover) + bright * cover, 0, 255).astype(np.uint8)


def grain(rng: np.random.Generator) -> Pixels:
    """Draw a tile (512, 512) of asphalt grain and stains around 128; 1 texel is 2.5 cm."""
    fine = rng.normal(0, 9, (512, 512))
    coarse = (fractal(rng, 512, 512, 4) - 0.5) * 34
    tile = 128 + cv2.GaussianBlur(fine, (3, 3), 0) + (coarse + np.flip(coarse)) / 2
    return np.clip(tile, 0, 255).astype(np.uint8)

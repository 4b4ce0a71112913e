"""Street scenes from a seed, as a moving camera sees them, with exact labels.

``Scene(seed).render(time_seconds, height, width)`` gives an image (H, W, 3), uint8, BGR, and its
labels (H, W), uint8. The same arguments give the same bytes; successive times give a video.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from actors import (
    paint_bicycle,
    paint_car,
    paint_lamp,
    paint_person,
    paint_sign,
    paint_tree,
)
from canvas import Camera, Canvas
from classes import BUILDING, CLASSES, PALETTE_RGB, SKY, TREE
from ground import FAR_M, NEAR_M, Tints, light_ground, paint_ground, shadow_mask
from layout import PERIOD_M, Actor, Building, Mood, make_layout, make_light
from numpy.typing import NDArray
from surfaces import foliage, fractal, grain, sky

__all__ = ["CLASSES", "PALETTE_RGB", "Scene"]

Thing = Any  # (house, z) or (actor, x, z): what its painter expects
Painter = Callable[[Canvas, Thing, float], None]
NATIVE_SIZE = (384, 768)  # height, width
_OVERSAMPLING = 2
_EYE_M = 1.55
_REACH_M = {
    "car": 110.0, "person": 45.0, "bicycle": 40.0, "tree": 130.0, "lamp": 45.0, "sign": 42.0,
}  # fmt: skip
_MOODS: tuple[Mood, ...] = ("day", "day", "overcast", "evening", "dusk")


class Scene:
    """One street, its light and its traffic."""

    def __init__(self, seed: int, *, mood: Mood | None = None, noise: float | None = None) -> None:
        """Draw the scene of this seed.

        Args:
            seed: Any non-negative integer.
            mood: The light, instead of what the seed would give.
            noise: Standard deviation of the sensor noise in grey levels, instead of the seed's.
        """
        rng = np.random.default_rng(seed)
        drawn = _MOODS[rng.integers(len(_MOODS))]
        self.seed = seed
        self.light = make_light(rng, mood or drawn)
        self.street = make_layout(rng, self.light)
        self._foliage = [foliage(rng, self.light) for _ in range(4)]
        self._sky = sky(rng, self.light)
        self._grain = grain(rng)
        self._skyline = fractal(rng, 64, 64, 16)[0]
        self._yaw, self._horizon = rng.normal(0, 0.012), rng.uniform(0.41, 0.49)
        self._balance = rng.normal(1, 0.035, 3) * rng.uniform(0.9, 1.1)
        self._noise, self._blur = rng.uniform(1.0, 4.5), rng.uniform(0.0, 0.55)
        self._noise = self._noise if noise is None else noise
        tone = rng.uniform(0.97, 1.05)
        blue, green, red = rng.uniform(0.9, 1.1, 3) * (152, 160, 168)
        self._tints = Tints(
            asphalt=(104 * tone, 102 * tone, 100 * tone),
            paving=(blue, green, red),
            lawn=(62 * tone, 135 * tone, 88 * tone),
        )

    def render(
        self, time_seconds: float, height: int = NATIVE_SIZE[0], width: int = NATIVE_SIZE[1]
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Render the scene at a time; returns image (H, W, 3) BGR and labels (H, W), uint8."""
        canvas = self._canvas(time_seconds, height * _OVERSAMPLING, width * _OVERSAMPLING)
        horizon = int(canvas.camera.centre_px[1])
        self._paint_sky(canvas, horizon)
        base = canvas.camera.position[2]
        houses = [(house, self._wrap(house.z0, base, 40)) for house in self.street.buildings]
        actors = [(actor, *self._place(actor, time_seconds, base)) for actor in self.street.actors]
        paint_ground(canvas, self.street, self._tints)
        light_ground(canvas, horizon, self._grain, shadow_mask(canvas, houses, actors))
        self._paint_skyline(canvas, horizon)
        for _, painter, thing in self._far_to_near(base, houses, actors):
            painter(canvas, thing, time_seconds)
        labels = np.ascontiguousarray(canvas.labels[::_OVERSAMPLING, ::_OVERSAMPLING])
        image = cv2.resize(canvas.image, (width, height), interpolation=cv2.INTER_AREA)
        return self._sensor(image, time_seconds), labels

    def _canvas(self, time: float, height: int, width: int) -> Canvas:
        """Place the camera: it drives at a constant speed and sways a little."""
        position = (
            self.street.camera_x + 0.15 * float(np.sin(time * 0.5)),
            _EYE_M + 0.012 * float(np.sin(time * 7.1)),
            self.street.speed * time,
        )
        yaw = float(self._yaw + 0.01 * np.sin(time * 0.6))
        sway = 0.002 * float(np.sin(time * 5.3))
        centre = (width / 2, height * (self._horizon + sway))
        return Canvas(Camera(position, yaw, 0.9 * width, centre), self.light, height, width)

    def _paint_sky(self, canvas: Canvas, horizon: int) -> None:
        """Stretch the sky over everything above the horizon."""
        width = canvas.labels.shape[1]
        scale = width / 512  # 512 of the 768 columns fill the view
        turn = canvas.camera.focal_px * canvas.camera.yaw
        matrix = np.array([[scale, 0, -128 * scale - turn], [0, (horizon + 1) / 256, 0]])
        canvas.image[: horizon + 1] = cv2.warpAffine(
            self._sky, matrix, (width, horizon + 1), borderMode=cv2.BORDER_REFLECT
        )
        canvas.labels[: horizon + 1] = SKY

    def _paint_skyline(self, canvas: Canvas, horizon: int) -> None:
        """Close the street with far houses and trees, pale in the haze."""
        width = canvas.labels.shape[1]
        focal = canvas.camera.focal_px
        for label, albedo, rise, count in ((BUILDING, (140, 150, 165), 16, 22),
                                           (TREE, (55, 110, 70), 7.5, 60)):  # fmt: skip
            xs = np.linspace(-0.25, 1.25, count + 1) * width - canvas.camera.yaw * focal
            colour = canvas.light.shade(albedo, 0.3, 120.0)
            for index in range(count):
                level = float(self._skyline[(index * 7 + label) % 64])
                top = horizon - focal * rise * (0.5 + 0.5 * level) / FAR_M
                left, right = xs[index] - 0.4, xs[index + 1] + 0.4
                if label == TREE:
                    left, right = left - 20, right + 20
                box = [
                    [left, horizon + 3],
                    [left, top + 6],
                    [left * 0.7 + right * 0.3, top],
                    [left * 0.3 + right * 0.7, top],
                    [right, top + 6],
                    [right, horizon + 3],
                ]
                canvas.fill(np.array(box), colour, label)

    @staticmethod
    def _wrap(z: float, base: float, behind: float) -> float:
        """Move z by whole periods into the window that starts ``behind`` the camera."""
        return (z - base + behind) % PERIOD_M + base - behind

    def _place(self, actor: Actor, time: float, base: float) -> tuple[float, float]:
        """Where an actor is at a time, (x, z) in metres."""
        x = actor.x + actor.speed_x * time
        return x, self._wrap(actor.z + actor.speed_z * time, base, 8.0)

    def _far_to_near(
        self,
        base: float,
        houses: list[tuple[Building, float]],
        actors: list[tuple[Actor, float, float]],
    ) -> list[tuple[float, Painter, Thing]]:
        """Everything within reach, the farthest first, with the function that paints it."""
        queue: list[tuple[float, Painter, Thing]] = []
        for house, z in houses:
            if z < base + FAR_M - 10:
                queue.append((z + house.z1 - house.z0, _paint_house, (house, z)))
        for actor, x, z in actors:
            if base + 2.2 < z < base + _REACH_M[actor.kind]:
                queue.append((z, self._paint_actor, (actor, x, z)))
        return sorted(queue, key=lambda entry: -entry[0])

    def _paint_actor(self, canvas: Canvas, thing: Thing, time: float) -> None:
        """Paint one actor with the painter of its kind."""
        actor, x, z = thing
        style = actor.style
        if actor.kind == "car":
            paint_car(canvas, x, z, style, 1 if actor.turn > 0 else -1)
        elif actor.kind == "person":
            stride = style.phase + 6.0 * time * (1 if actor.speed_z or actor.speed_x else 0)
            paint_person(canvas, x, z, style, stride)
        elif actor.kind == "bicycle":
            stride = style.phase + 7.0 * time if actor.speed_z else None
            paint_bicycle(canvas, x, z, style, actor.turn, stride)
        elif actor.kind == "tree":
            paint_tree(canvas, x, z, style, self._foliage[style.kind % 4])
        elif actor.kind == "lamp":
            paint_lamp(canvas, x, z, style, actor.turn)
        else:
            paint_sign(canvas, x, z, style)

    def _sensor(self, image: NDArray[np.uint8], time: float) -> NDArray[np.uint8]:
        """Add what a camera adds: slight blur, vignette, colour balance and noise."""
        height, width = image.shape[:2]
        if self._blur > 0.25:
            image = cv2.GaussianBlur(image, (3, 3), self._blur)
        across = np.linspace(-1, 1, width, dtype=np.float32)[None] ** 2
        down = np.linspace(-1, 1, height, dtype=np.float32)[:, None] ** 2
        vignette = 1 - 0.09 * (across + down)
        picture = image * (vignette[..., None] * self._balance.astype(np.float32))
        noise = np.empty((height, width), np.int8)
        cv2.setRNGSeed((self.seed * 1009 + round(time * 1000)) % (1 << 31))
        cv2.randn(noise, 0, self._noise)
        picture += noise[..., None]
        return np.clip(picture, 0, 255).astype(np.uint8)


def _paint_house(canvas: Canvas, thing: Thing, _: float) -> None:
    """Paint the end wall, the roof and the front of a house."""
    house, z = thing
    long = house.z1 - house.z0
    x, back, top = house.x, house.x + house.side * 11.0, house.height
    if z > canvas.camera.position[2] + NEAR_M:
        near = np.array([[x, top, z], [back, top, z], [back, 0, z], [x, 0, z]])
        if house.side < 0:
            near = near[[1, 0, 3, 2]]
        if house.roof:
            ridge = np.array([[x, top, z], [(x + back) / 2, top + house.roof, z], [back, top, z]])
            canvas.polygon(ridge, (120, 125, 135), BUILDING, 0.3)
        canvas.texture(house.end, near, BUILDING)
    start = max(z, canvas.camera.position[2] + NEAR_M)
    if start >= z + long:
        return
    if house.roof:
        middle = x + house.side * 5.5
        slope = np.array(
            [
                [x, top, start],
                [x, top, z + long],
                [middle, top + house.roof, z + long],
                [middle, top + house.roof, start],
            ]
        )
        canvas.polygon(slope, (62, 72, 118), BUILDING, 0.5)
    cut = int((start - z) / long * house.front.shape[1])
    wall = house.front[:, cut:]
    if wall.shape[1] < 2:
        return
    ends = (start, z + long) if house.side > 0 else (z + long, start)
    quad = np.array([[x, top, ends[0]], [x, top, ends[1]], [x, 0, ends[1]], [x, 0, ends[0]]])
    canvas.texture(wall if house.side > 0 else wall[:, ::-1], quad, BUILDING)

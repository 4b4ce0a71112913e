"""What stands where: a street of 320 m, drawn at random from one seed, that repeats for ever."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from actors import CAR_KINDS, CAR_PAINTS, CLOTHES, Style
from canvas import Light
from numpy.typing import NDArray
from surfaces import facade

PERIOD_M = 320.0
LANE_M = 3.4
Kind = Literal["car", "person", "bicycle", "tree", "lamp", "sign"]
Mood = Literal["day", "overcast", "evening", "dusk"]
_METAL = (95, 98, 92)


@dataclass(frozen=True)
class Actor:
    """One thing in the street; metres and metres per second, ``turn`` in radians."""

    kind: Kind
    x: float
    z: float
    style: Style
    speed_x: float = 0.0
    speed_z: float = 0.0
    turn: float = 0.0


@dataclass(frozen=True)
class Building:
    """A house: its walls in metres, and the pictures (h, w, 3) on the street and the end wall."""

    side: int
    x: float
    z0: float
    z1: float
    height: float
    roof: float
    front: NDArray[np.uint8]
    end: NDArray[np.uint8]


@dataclass(frozen=True)
class Layout:
    """The whole street: road measures in metres, then everything that stands on it."""

    lanes: int
    half_road: float
    pavement: float
    verge: float
    blocks: tuple[tuple[float, float], ...]
    speed: float
    buildings: list[Building] = field(default_factory=list)
    actors: list[Actor] = field(default_factory=list)

    @property
    def wall(self) -> float:
        """Distance of the house fronts from the middle of the road."""
        return self.half_road + self.pavement + self.verge

    @property
    def camera_x(self) -> float:
        """Where the camera drives: the middle of its lane (traffic keeps right)."""
        return LANE_M * (self.lanes - 0.5)


def make_light(rng: np.random.Generator, mood: Mood) -> Light:
    """Draw a light that fits the mood."""
    height = rng.uniform(0.5, 0.85)
    angle = rng.uniform(0, 2 * np.pi)
    flat = float(np.sqrt(1 - height**2))
    sun_at = (flat * float(np.cos(angle)), float(height), flat * float(np.sin(angle)))
    jitter = rng.uniform(0.92, 1.08)
    values: dict[str, tuple[object, ...]] = {
        "day": ((0.6, 0.56, 0.52), (0.5, 0.56, 0.58), (225, 205, 188), 190.0,
                (205, 140, 75), (235, 215, 190), 0.56, rng.uniform(0.25, 0.5), False),
        "overcast": ((0.74, 0.72, 0.7), (0.16, 0.16, 0.16), (205, 200, 194), 110.0,
                     (185, 172, 160), (215, 210, 204), 0.86, 0.75, False),
        "evening": ((0.52, 0.5, 0.52), (0.3, 0.48, 0.66), (150, 190, 235), 130.0,
                    (190, 135, 95), (130, 190, 245), 0.62, rng.uniform(0.3, 0.5), False),
        "dusk": ((0.62, 0.5, 0.46), (0.14, 0.12, 0.12), (130, 100, 105), 120.0,
                 (110, 62, 42), (150, 120, 150), 0.8, 0.45, True),
    }  # fmt: skip
    ambient, sun, haze, haze_m, top, bottom, shadow, cloud, lamps = values[mood]
    dimmed = tuple(float(level) * jitter for level in ambient)  # type: ignore[attr-defined]
    return Light(
        dimmed, sun, sun_at, haze, haze_m * rng.uniform(0.8, 1.4), top, bottom,  # type: ignore
        shadow, cloud, lamps,  # type: ignore
    )  # fmt: skip


def make_layout(rng: np.random.Generator, light: Light) -> Layout:
    """Draw a street."""
    lanes = int(rng.integers(1, 3))
    parking = 2.3 if rng.random() < 0.7 else 0.6
    blocks, start = [], rng.uniform(0, 30)
    first = start
    while start < first + PERIOD_M - 40:
        end = min(start + rng.uniform(45, 85), first + PERIOD_M - 10)
        blocks.append((start, end))
        start = end + rng.uniform(8, 12)
    street = Layout(
        lanes=lanes, half_road=lanes * LANE_M + parking, pavement=rng.uniform(3.0, 5.0),
        verge=rng.uniform(1.5, 5.0) if rng.random() < 0.65 else 0.0, blocks=tuple(blocks),
        speed=rng.uniform(6, 9),
    )  # fmt: skip
    for side in (-1, 1):
        for block in blocks:
            park = rng.random() < 0.2
            if not park:
                street.buildings.extend(_row_of_houses(rng, street, light, side, block))
            street.actors.extend(_furniture(rng, street, side, block, park, parking > 1))
            street.actors.extend(_walkers(rng, street, side, block))
    street.actors.extend(_traffic(rng, street))
    return street


def _row_of_houses(rng: np.random.Generator, street: Layout, light: Light, side: int,
                   block: tuple[float, float]) -> Iterator[Building]:  # fmt: skip
    """Fill one side of a block with houses."""
    position = block[0] + street.pavement
    last = block[1] - street.pavement
    while position < last - 7:
        end = min(position + rng.uniform(9, 19), last)
        height = rng.uniform(6.5, 16)
        roof = rng.uniform(2, 4) if rng.random() < 0.5 else 0.0
        front = facade(rng, (end - position, height), light, light.facing((-side, 0, 0)), True)
        back = facade(rng, (11.0, height), light, light.facing((0, 0, -1)), False)
        yield Building(side, side * street.wall, position, end, height, roof, front, back)
        position = end + (rng.uniform(2, 6) if rng.random() < 0.25 else 0.0)


def _style(rng: np.random.Generator, kinds: int, colours: tuple[tuple[float, float, float], ...],
           size: float) -> Style:  # fmt: skip
    """Draw what an actor looks like."""
    main, second = (colours[rng.integers(len(colours))] for _ in range(2))
    return Style(int(rng.integers(kinds)), main, second, size, rng.uniform(0, 6.28))


def _furniture(rng: np.random.Generator, street: Layout, side: int, block: tuple[float, float],
               park: bool, parking: bool) -> Iterator[Actor]:  # fmt: skip
    """Lamps, signs, trees, parked cars and parked bicycles of one side of a block."""
    kerb = street.half_road
    trunk = ((70, 95, 120), (55, 75, 95))
    for z in np.arange(block[0] + 3, block[1], 22):
        metal = Style(0, _METAL, (140, 142, 138), rng.uniform(5.2, 6.4), 0)
        yield Actor("lamp", side * (kerb + 0.5), float(z), metal, turn=-side)
    for z in np.arange(block[0] + 9, block[1] - 6, rng.uniform(13, 24)):
        style = _style(rng, 5, ((0, 0, 0),), 1.0)
        yield Actor("sign", side * (kerb + 0.7), float(z), style)
    corner = Style(5, (0, 0, 0), (0, 0, 0), 1.0, rng.uniform(0, 3))
    yield Actor("sign", side * (kerb + 0.6), block[1] - 1.0, corner)
    step = rng.uniform(8, 13)
    row = kerb + (street.pavement + street.verge / 2 if street.verge else 1.0)
    if park or street.verge or rng.random() < 0.5:
        for z in np.arange(block[0] + 6, block[1] - 5, step):
            tree = Style(int(rng.integers(4)), *trunk, rng.uniform(5.0, 8.5), 0)
            yield Actor("tree", side * (row + rng.uniform(-0.2, 0.2)), float(z), tree)
    if park:
        for _ in range(14):
            tree = Style(int(rng.integers(4)), *trunk, rng.uniform(6, 10), 0)
            x = side * (street.wall + rng.uniform(2, 25))
            yield Actor("tree", x, rng.uniform(block[0] + 4, block[1] - 4), tree)
    for z in np.arange(block[0] + 8, block[1] - 12, 6.0):
        if parking and rng.random() < 0.3:
            car = _style(rng, len(CAR_KINDS), CAR_PAINTS, rng.uniform(0.95, 1.06))
            yield Actor("car", side * (kerb - 1.15), float(z), car, turn=side)
    for z in np.arange(block[0] + 7, block[1] - 5, rng.uniform(9, 16)):
        if rng.random() < 0.8:
            for index in range(int(rng.integers(1, 4))):
                bicycle = _style(rng, 4, CLOTHES, 1.0)
                turn = rng.uniform(0.1, 0.9) * (1 if rng.random() < 0.5 else -1)
                x = side * (kerb + rng.choice([0.9, street.pavement - 0.7]))
                yield Actor("bicycle", x, float(z) + 0.9 * index, bicycle, turn=turn)


def _walkers(rng: np.random.Generator, street: Layout, side: int,
             block: tuple[float, float]) -> Iterator[Actor]:  # fmt: skip
    """People on the pavement, and some who cross at the end of the block."""
    for _ in range(int(rng.integers(5, 11))):
        style = _style(rng, 4, CLOTHES, rng.uniform(0.9, 1.12))
        x = side * (street.half_road + rng.uniform(1.0, street.pavement - 0.5))
        speed = rng.uniform(0.7, 1.6) * (1 if rng.random() < 0.5 else -1)
        yield Actor("person", x, rng.uniform(*block), style, speed_z=speed)
    for _ in range(int(rng.integers(0, 3))):
        style = _style(rng, 4, CLOTHES, rng.uniform(0.9, 1.12))
        x = side * rng.uniform(2.2, street.half_road + 4)
        yield Actor("person", x, block[1] - rng.uniform(0.5, 3), style, speed_x=0.25 * side)


def _traffic(rng: np.random.Generator, street: Layout) -> Iterator[Actor]:
    """Cars in all lanes and cyclists at the edge of the road."""
    ahead = rng.uniform(12, 30)
    for lane in range(street.lanes):
        for side in (-1, 1):
            x = side * LANE_M * (lane + 0.5)
            own = side > 0 and lane == street.lanes - 1
            speed = street.speed if side > 0 else -rng.uniform(6, 10)
            z = ahead if own else rng.uniform(10, 40)
            while z < PERIOD_M - 25:
                car = _style(rng, len(CAR_KINDS), CAR_PAINTS, rng.uniform(0.95, 1.06))
                yield Actor("car", x, z, car, speed_z=speed, turn=side)
                z += rng.uniform(12, 60)
    for _ in range(10):
        side = 1 if rng.random() < 0.6 else -1
        rider = _style(rng, 4, CLOTHES, 1.0)
        x = side * (street.lanes * LANE_M + 0.1)
        turn = np.pi / 2 - side * rng.uniform(-0.2, 0.5)
        yield Actor("bicycle", x, rng.uniform(0, PERIOD_M), rider, speed_z=side * 4.5, turn=turn)

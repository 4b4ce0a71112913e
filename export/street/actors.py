"""Things that stand or move in the street: cars, people, bicycles, trees, lamps and signs.

Every painter takes the canvas, the spot on the ground (x, z) in metres and what varies.
Shapes are stylised and a little stout, so that they keep some pixels at a distance.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from canvas import Canvas, Colour, Floats
from classes import BICYCLE, CAR, PERSON, POLE, SIGN, TREE
from numpy.typing import NDArray

CAR_PAINTS: tuple[Colour, ...] = (
    (190, 195, 198), (235, 235, 235), (60, 58, 56), (40, 40, 170), (150, 80, 30), (80, 110, 60),
    (40, 150, 210), (120, 125, 130), (90, 50, 90), (170, 150, 60),
)  # fmt: skip
CLOTHES: tuple[Colour, ...] = (
    (50, 50, 160), (150, 90, 40), (70, 130, 70), (40, 150, 220), (150, 60, 130), (200, 200, 205),
    (60, 60, 65), (120, 170, 200), (40, 90, 190), (170, 160, 60),
)  # fmt: skip
SKINS: tuple[Colour, ...] = ((150, 185, 225), (110, 150, 200), (70, 105, 160), (45, 70, 110))
_BODIES = {  # (z, y) of the lower body and of the cabin, rear to front, in metres
    "sedan": ([(-2.2, 0.32), (2.2, 0.32), (2.25, 0.7), (1.2, 0.92), (-2.2, 0.98), (-2.28, 0.6)],
              [(-1.7, 0.95), (1.25, 0.92), (0.45, 1.46), (-1.1, 1.48)]),
    "hatch": ([(-1.95, 0.32), (1.95, 0.32), (2.0, 0.72), (1.1, 0.95), (-1.95, 1.0), (-2.0, 0.6)],
              [(-1.92, 0.98), (1.15, 0.94), (0.4, 1.52), (-1.6, 1.54)]),
    "suv": ([(-2.2, 0.42), (2.2, 0.42), (2.25, 0.9), (1.2, 1.1), (-2.2, 1.14), (-2.25, 0.7)],
            [(-2.18, 1.12), (1.3, 1.08), (0.7, 1.74), (-1.95, 1.78)]),
    "van": ([(-2.5, 0.4), (2.5, 0.4), (2.55, 0.9), (2.1, 1.2), (-2.5, 1.2), (-2.55, 0.7)],
            [(-2.5, 1.18), (2.15, 1.18), (1.4, 2.1), (-2.45, 2.15)]),
}  # fmt: skip
CAR_KINDS = tuple(_BODIES)
_GLASS: Colour = (88, 74, 62)
_DARK: Colour = (34, 33, 32)


@dataclass(frozen=True)
class Style:
    """What one actor looks like; the meaning of ``kind`` is up to its painter."""

    kind: int
    main: Colour
    second: Colour
    size: float
    phase: float


def _moved(point: Floats, *offset: float) -> Floats:
    """The point, or the points (N, D), moved by an offset of D numbers."""
    return point + np.array(offset)


def paint_car(canvas: Canvas, x: float, z: float, style: Style, heading: int) -> None:
    """Paint a car; ``heading`` +1 drives away from the camera, -1 towards it."""
    body, cabin = (np.array(part) for part in _BODIES[CAR_KINDS[style.kind]])
    if heading < 0:  # mirror along z, and keep the winding
        body, cabin = body[::-1] * (-1, 1), cabin[::-1] * (-1, 1)
    half = 0.92 * style.size
    shade = np.array([[x - half, 0.02, z - 2.3], [x + half, 0.02, z - 2.3],
                      [x + half, 0.02, z + 2.3], [x - half, 0.02, z + 2.3]])  # fmt: skip
    canvas.polygon(shade, (20, 20, 20), None, 0.0)
    _wheels(canvas, x, z, half, float(body[:, 0].max()) * 0.62)
    canvas.prism(_moved(body, z, 0), (x - half, x + half), style.main, CAR)
    canvas.prism(_moved(cabin, z, 0), (x - half * 0.86, x + half * 0.86), style.main, CAR)
    _side_glass(canvas, x, z, half * 0.865, cabin)
    near = z - float(np.abs(body[:, 0]).max()) - 0.02
    _wheels(canvas, x, z, half + 0.01, float(body[:, 0].max()) * 0.62, outer=True)
    _end_details(canvas, x, near, half, cabin, z, heading, body)


def _wheels(canvas: Canvas, x: float, z: float, half: float, base: float,
            outer: bool = False) -> None:  # fmt: skip
    """Paint tyres under the car, or (outer) the wheels on the side that the camera sees."""
    eye_x = canvas.camera.position[0]
    for end in (base, -base):
        if not outer:
            for side in (-1, 1):
                left, right = x + side * half * 0.98, x + side * half * 0.72
                box = np.array([[left, 0, z + end], [right, 0, z + end],
                                [right, 0.5, z + end], [left, 0.5, z + end]])  # fmt: skip
                canvas.polygon(box, _DARK, CAR, 0.0)
        elif abs(eye_x - x) > half:
            plane = x + half * np.sign(eye_x - x)
            for radius, colour in ((0.36, _DARK), (0.2, (150, 150, 150))):
                canvas.polygon(_wheel_ring(plane, 0.36, z + end, radius), colour, CAR, 0.2)


def _wheel_ring(x: float, y: float, z: float, radius: float) -> Floats:
    """Circle (14, 3) in the plane x = const."""
    angles = np.linspace(0, 2 * np.pi, 14, endpoint=False)
    return np.column_stack([
        np.full(14, x), y + radius * np.sin(angles), z + radius * np.cos(angles)
    ])  # fmt: skip


def _side_glass(canvas: Canvas, x: float, z: float, half: float, cabin: Floats) -> None:
    """Paint two windows on the side of the cabin that the camera sees."""
    eye_x = canvas.camera.position[0]
    if abs(eye_x - x) < half:
        return
    plane = x + half * np.sign(eye_x - x)
    middle = cabin.mean(0)
    inner = middle + (cabin - middle) * (0.84, 0.72)
    outline = np.column_stack([np.full(4, plane), inner[:, 1], inner[:, 0] + z])
    canvas.polygon(outline, _GLASS, CAR, 0.15)
    post = np.array([[plane, inner[:, 1].min(), z + middle[0] - 0.05],
                     [plane, inner[:, 1].min(), z + middle[0] + 0.05],
                     [plane, inner[:, 1].max(), z + middle[0] + 0.05],
                     [plane, inner[:, 1].max(), z + middle[0] - 0.05]])  # fmt: skip
    canvas.polygon(post, _DARK, CAR, 0.1)


def _end_details(canvas: Canvas, x: float, near: float, half: float, cabin: Floats, z: float,
                 heading: int, body: Floats) -> None:  # fmt: skip
    """Paint window, lights, bumper and plate on the end that the camera sees."""
    order = np.argsort(cabin[:, 0])
    low, high = sorted(cabin[order[:2]], key=lambda corner: corner[1])
    edge = np.array([low + (high - low) * 0.16, low + (high - low) * 0.88])
    width = half * 0.74
    quad = np.array([[x - width, edge[0, 1], edge[0, 0] + z - 0.02],
                     [x + width, edge[0, 1], edge[0, 0] + z - 0.02],
                     [x + width * 0.93, edge[1, 1], edge[1, 0] + z - 0.02],
                     [x - width * 0.93, edge[1, 1], edge[1, 0] + z - 0.02]])  # fmt: skip
    canvas.polygon(quad, _GLASS, CAR, 0.45)
    bottom = float(body[:, 1].min())

    def plate(left: float, right: float, y0: float, y1: float, colour: Colour, glow: bool) -> None:
        corners = np.array([[left, y0, near], [right, y0, near], [right, y1, near],
                            [left, y1, near]])  # fmt: skip
        canvas.polygon(corners, colour, CAR, 0.3, glow)

    plate(x - half, x + half, bottom, bottom + 0.16, _DARK, False)
    lamps: Colour = (40, 30, 190) if heading > 0 else (225, 235, 240)
    shine: Colour = (60, 60, 255) if heading > 0 else (225, 250, 255)
    lit = canvas.light.lamps_on
    for side in (-1, 1):
        inner, outer = sorted((x + side * half * 0.55, x + side * half * 0.95))
        plate(inner, outer, bottom + 0.24, bottom + 0.42, shine if lit else lamps, lit)
    if heading < 0:
        plate(x - half * 0.45, x + half * 0.45, bottom + 0.2, bottom + 0.36, _DARK, False)
    plate(x - 0.26, x + 0.26, bottom + 0.06, bottom + 0.18, (215, 220, 220), False)


def paint_person(canvas: Canvas, x: float, z: float, style: Style, stride: float,
                 seat: float = 0.0) -> None:  # fmt: skip
    """Paint someone walking: ``stride`` is the phase of the steps, ``seat`` lifts a rider."""
    tall = style.size
    swing = 0.24 * np.sin(stride)
    hip = np.array([x, 0.86 * tall + seat, z])
    neck = np.array([x, 1.44 * tall + seat, z])
    skin = SKINS[style.kind % len(SKINS)]
    dark = (style.main[0] * 0.8, style.main[1] * 0.8, style.main[2] * 0.8)
    for side in (-1.0, 1.0):
        foot = np.array([x + side * (0.11 + swing * side), 0.03 + seat * 0.9, z])
        canvas.limb(_moved(hip, side * 0.09, 0.05, 0), foot, (0.24, 0.17), style.second, PERSON)
        ankle, sole = _moved(foot, 0, 0.08, 0), _moved(foot, 0, -0.03, 0)
        canvas.limb(ankle, sole, (0.2, 0.26), (40, 40, 45), PERSON)
    for side in (-1.0, 1.0):
        shoulder = _moved(neck, side * 0.24, -0.06, 0)
        hand = _moved(shoulder, side * 0.1 - swing * 0.7, -0.58 * tall, 0)
        canvas.limb(shoulder, hand, (0.17, 0.13), dark, PERSON)
        canvas.disc(hand, 0.07, skin, PERSON)
    canvas.limb(neck, hip, (0.56, 0.42), style.main, PERSON)
    canvas.disc(_moved(neck, 0, -0.03, 0), 0.22, style.main, PERSON)
    head = _moved(neck, 0, 0.21 * tall, 0)
    hair: Colour = (30, 40, 55) if style.kind % 3 else (60, 110, 150)
    canvas.disc(_moved(head, 0, 0.035, 0), 0.17, hair, PERSON)
    canvas.disc(_moved(head, 0, -0.03, 0), 0.14, skin, PERSON)


def paint_bicycle(canvas: Canvas, x: float, z: float, style: Style, angle: float,
                  stride: float | None) -> None:  # fmt: skip
    """Paint a bicycle at ``angle`` to the street, ridden when ``stride`` is given."""
    along = np.array([np.cos(angle), 0.0, np.sin(angle)])
    across = np.array([-np.sin(angle), 0.0, np.cos(angle)]) * 0.06
    centre = np.array([x, 0.0, z])
    wheels = [centre + along * reach + (0, 0.37, 0) for reach in (-0.55, 0.55)]
    wheels.sort(key=lambda wheel: -float(wheel[2]))
    for wheel in wheels:
        _bicycle_wheel(canvas, wheel, along, across)
    seat, bar = centre - along * 0.2 + (0, 0.95, 0), centre + along * 0.42 + (0, 1.08, 0)
    crank = _moved(centre, 0, 0.38, 0)
    rear, front = centre - along * 0.55 + (0, 0.37, 0), centre + along * 0.55 + (0, 0.37, 0)
    for start, end in (
        (seat, crank),
        (crank, rear),
        (seat, rear),
        (bar, front),
        (seat - (0, 0.12, 0), bar - (0, 0.2, 0)),
        (crank, bar - (0, 0.2, 0)),
    ):
        canvas.limb(start, end, (0.09, 0.09), style.main, BICYCLE)
    canvas.limb(bar + across * 5, bar - across * 5, (0.1, 0.1), _DARK, BICYCLE)
    canvas.limb(seat - along * 0.16, seat + along * 0.16, (0.13, 0.1), _DARK, BICYCLE)
    if stride is not None:
        paint_person(canvas, seat[0], seat[2] - 0.05, style, stride, seat=0.28)


def _bicycle_wheel(canvas: Canvas, hub: Floats, along: Floats, across: Floats) -> None:
    """Paint one wheel, as thick as its tyre, so that it does not vanish when seen from behind."""
    angles = np.linspace(0, 2 * np.pi, 16, endpoint=False)[:, None]
    for radius, colour in ((0.37, _DARK), (0.29, (135, 135, 135))):
        ring = hub + radius * (np.cos(angles) * along + np.sin(angles) * (0.0, 1.0, 0.0))
        pixels, depth = canvas.camera.project(np.concatenate([ring + across, ring - across]))
        if radius < 0.3:
            pixels = pixels[:16] / 2 + pixels[16:] / 2
        hull = cv2.convexHull(pixels.astype(np.float32))[:, 0].astype(np.float64)
        canvas.fill(hull, canvas.light.shade(colour, 0.3, float(depth.mean())), BICYCLE)


def paint_tree(canvas: Canvas, x: float, z: float, style: Style,
               foliage: tuple[NDArray[np.uint8], NDArray[np.uint8]]) -> None:  # fmt: skip
    """Paint trunk and crown; ``foliage`` is a picture (h, w, 3) with its mask (h, w)."""
    tall, crown = style.size, style.size * 0.36
    foot, top = np.array([x, 0.0, z]), np.array([x, tall * 0.6, z])
    canvas.limb(top, foot, (0.3, 0.42), style.second, TREE)
    canvas.limb(top - (0.06, 0, 0), foot - (0.1, 0, 0), (0.1, 0.14), style.main, TREE)
    pixels, depth = canvas.camera.project(np.array([[x, tall * 0.66, z]]))
    radius = canvas.camera.focal_px * crown / depth[0]
    box = np.concatenate([pixels[0] - (radius, radius * 1.1), pixels[0] + (radius, radius * 1.1)])
    canvas.sprite(*foliage, box, float(depth[0]), TREE)


def paint_lamp(canvas: Canvas, x: float, z: float, style: Style, towards: float) -> None:
    """Paint a street lamp whose arm reaches ``towards`` the road (sign of x)."""
    foot, top = np.array([x, 0.0, z]), np.array([x, style.size, z])
    canvas.limb(top, foot, (0.22, 0.28), style.main, POLE)
    canvas.limb(_moved(top, 0.05, 0, 0), _moved(foot, 0.06, 0, 0), (0.06, 0.08), style.second, POLE)
    canvas.limb(_moved(foot, 0, 0.8, 0), foot, (0.4, 0.44), style.main, POLE)
    tip = _moved(top, towards * 1.5, 0.35, 0)
    canvas.limb(top - (0, 0.05, 0), tip, (0.22, 0.2), style.main, POLE)
    head = (_moved(tip, -towards * 0.2, 0, 0), _moved(tip, towards * 0.6, -0.02, 0))
    canvas.limb(*head, (0.3, 0.3), style.main, POLE)
    if canvas.light.lamps_on:
        pixels, depth = canvas.camera.project(_moved(tip, towards * 0.2, -0.08, 0)[None])
        reach = canvas.camera.focal_px * 0.18 / depth[0]
        glow = pixels + reach * np.array([[-1.6, -0.4], [1.6, -0.4], [1.6, 0.4], [-1.6, 0.4]])
        canvas.fill(glow, (170, 235, 255), None)


def paint_sign(canvas: Canvas, x: float, z: float, style: Style) -> None:
    """Paint a traffic sign (kinds 0..4) or a traffic light (kind 5) on its pole."""
    tall = 2.7 if style.kind < 5 else 3.0
    canvas.limb(np.array([x, tall, z]), np.array([x, 0.0, z]), (0.2, 0.22), (135, 135, 138), POLE)
    middle = np.array([x, tall, z - 0.06])
    turns = np.arange(16) * np.pi / 8
    disc = np.column_stack([np.cos(turns), np.sin(turns), np.zeros(16)])
    triangle = disc[[4, 9, 15]] * 1.15
    octagon = np.column_stack([np.cos(turns[1::2]), np.sin(turns[1::2]), np.zeros(8)])
    square = np.array([[-1.0, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]]) * 0.88
    red: Colour = (40, 30, 205)
    white: Colour = (235, 235, 235)
    blue: Colour = (190, 90, 20)
    boards: list[list[tuple[Floats, float, Colour]]] = [
        [(disc, 0.55, red), (disc, 0.4, white), (square * (0.5, 0.9, 1), 0.2, (40, 40, 40))],
        [(triangle, 0.62, red), (triangle, 0.4, white), (square * (0.3, 1, 1), 0.16, (40, 40, 40))],
        [(square, 0.58, white), (square, 0.52, blue), (square * (0.4, 1, 1), 0.36, white)],
        [(octagon, 0.57, white), (octagon, 0.51, red), (square * (1, 0.24, 1), 0.42, white)],
        [(square * (0.66, 1, 1), 0.6, (45, 190, 235)), (square * (0.4, 0.7, 1), 0.6, (50, 50, 50))],
        [(square * (0.42, 1.15, 1), 0.72, (40, 42, 40))],
    ]
    for shape, scale, colour in boards[style.kind]:
        canvas.polygon(middle + shape * scale, colour, SIGN, 0.5)
    if style.kind == 5:
        lit = int(style.phase) % 3
        for index, colour in enumerate(((40, 40, 250), (30, 190, 250), (90, 220, 60))):
            on = index == lit
            level = 1.0 if on else 0.25
            lamp = (colour[0] * level, colour[1] * level, colour[2] * level)
            ring = _moved(middle + disc * 0.2, 0, 0.5 - 0.5 * index, 0)
            canvas.polygon(ring, lamp, SIGN, 0.5, on)

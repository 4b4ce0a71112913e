"""The classes of the street scenes, in label order."""

from __future__ import annotations

CLASSES: tuple[str, ...] = (
    "road", "lane marking", "pavement", "building", "tree", "sky",
    "pole", "sign", "car", "person", "bicycle", "grass",
)  # fmt: skip

PALETTE_RGB: tuple[tuple[int, int, int], ...] = (
    (128, 64, 128), (255, 255, 255), (244, 35, 232), (70, 70, 70), (34, 120, 50), (70, 130, 180),
    (190, 153, 90), (250, 220, 0), (0, 0, 200), (220, 20, 60), (0, 200, 200), (152, 251, 152),
)  # fmt: skip

ROAD, MARKING, PAVEMENT, BUILDING, TREE, SKY, POLE, SIGN, CAR, PERSON, BICYCLE, GRASS = range(12)

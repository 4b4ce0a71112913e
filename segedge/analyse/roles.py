"""Which classes play which part on the road, where the user does not say."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from segedge.errors import UsageError, unknown_name_error

DRIVABLE = (
    "road", "drivable", "drivable area", "lane", "lane marking", "road marking", "crosswalk",
    "street", "floor",
)  # fmt: skip
"""Class names that are drivable by default."""

FLAT = (
    *DRIVABLE, "sidewalk", "pavement", "parking", "terrain", "grass", "earth", "path", "field",
    "sand", "land", "dirt track", "runway", "ground", "rug", "sky", "ceiling", "background",
    "void", "unlabeled", "ignore",
)  # fmt: skip
"""Class names that nobody runs into: by default every other class is an obstacle."""

MOVING = (
    "person", "pedestrian", "rider", "bicyclist", "cyclist", "motorcyclist", "car", "van", "truck",
    "bus", "train", "tram", "motorcycle", "motorbike", "minibike", "bicycle", "bike", "vehicle",
    "trailer", "caravan", "animal", "bird", "cat", "cow", "dog", "horse", "sheep", "boat",
    "forklift", "robot",
)  # fmt: skip
"""Class names that come and go: what occupies a zone by default."""


def drivable_names(classes: Sequence[str], wanted: Sequence[str] = ()) -> tuple[str, ...]:
    """The drivable classes of a model; none wanted stands for those of `DRIVABLE`."""
    names = _named(classes, wanted) or _matching(classes, DRIVABLE)
    if not names:
        raise UsageError(
            "the model has no class that is known to be drivable",
            facts={"classes": ", ".join(classes), "known": ", ".join(DRIVABLE)},
            fix="name it: --drivable CLASS",
        )
    return names


def obstacle_names(
    classes: Sequence[str], wanted: Sequence[str] = (), *, drivable: Sequence[str] = ()
) -> tuple[str, ...]:
    """The classes of a model that are obstacles; none wanted stands for all but those of `FLAT`.

    ``drivable`` ones never are, unless they are named.
    """
    flat = {name.lower() for name in (*FLAT, *drivable)}
    return _named(classes, wanted) or tuple(name for name in classes if name.lower() not in flat)


def moving_names(classes: Sequence[str], wanted: Sequence[str] = ()) -> tuple[str, ...]:
    """The classes of a model that occupy a zone: those wanted, else those of `MOVING`.

    None wanted stands for those of `MOVING`, and where the model has none of these for all
    obstacles.
    """
    named = _named(classes, wanted) or _matching(classes, MOVING)
    return named or obstacle_names(classes) or tuple(classes)


def label_table(classes: Sequence[str], names: Sequence[str]) -> NDArray[np.uint8]:
    """1 for every label that has one of the names, 0 for every other of 65536."""
    table = np.zeros(1 << 16, np.uint8)
    table[[classes.index(name) for name in names]] = 1
    return table


def _named(classes: Sequence[str], wanted: Sequence[str]) -> tuple[str, ...]:
    for name in wanted:
        if name not in classes:
            raise unknown_name_error("class", name, tuple(classes))
    return tuple(wanted)


def _matching(classes: Sequence[str], known: Sequence[str]) -> tuple[str, ...]:
    return tuple(name for name in classes if name.lower() in known)

"""Road, obstacles and zones of a 1024x2048 label map, beside the usual way in OpenCV.

The map is that of a trained Fast-SCNN on an enlarged CamVid frame. The OpenCV way finds the same
drivable area by `connectedComponentsWithStats` of the mask and its limits and obstacles by
`argmax` along the axes; both are checked to agree before they are timed.

    python benchmarks/road.py [--rounds 3] [--seconds 1] [--save]
"""

from __future__ import annotations

import json
from collections.abc import Callable

import cv2
import harness
import numpy as np
from harness import Stopwatch
from tail_cpu import FRAME, label_map

from segedge.analyse.facts import RoadAnalysis, ZoneAnalysis
from segedge.analyse.road import RoadOptions, find_road
from segedge.analyse.roles import drivable_names, obstacle_names
from segedge.analyse.zones import parse_zone, zone_pixels
from segedge.card.labels import label_set
from segedge.frames.frame import Frame

CAMVID = label_set("camvid")
WAYS = ("segedge", "opencv")
INCLUDES = {
    "road": "a label map to the drivable area, its limits and the obstacle of each column",
    "outline": "the area to its polygon and those of its holes",
    "zone": "a label map to the pixels of each class in one zone",
    "lines": "a label map to the text of a JSON line's road and zones, all of the above included",
}
ZONE = parse_zone("ahead=0.35,0.55 0.65,0.55 0.8,0.95 0.2,0.95")


def opencv_road(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Mask, left, right and obstacle rows by whole-image operations."""
    names = drivable_names(CAMVID.names)
    table = np.zeros(256, np.uint8)
    table[[CAMVID.names.index(name) for name in names]] = 1
    _, component, stats, _ = cv2.connectedComponentsWithStats(
        cv2.LUT(labels, table), connectivity=4
    )
    candidates = np.unique(component[-1])
    candidates = candidates[candidates > 0]
    best = candidates[np.argmax(stats[candidates, cv2.CC_STAT_AREA])]
    mask = component == best
    some = mask.any(axis=1)
    left = np.where(some, mask.argmax(axis=1), -1)
    right = np.where(some, mask.shape[1] - 1 - mask[:, ::-1].argmax(axis=1), -1)
    table[:] = 0
    table[[CAMVID.names.index(n) for n in obstacle_names(CAMVID.names, drivable=names)]] = 1
    obstacle = cv2.LUT(labels, table)[::-1]
    rows = np.where(obstacle.any(axis=0), labels.shape[0] - 1 - obstacle.argmax(axis=0), -1)
    return mask, left, right, rows


class View:
    """The least of a result that the analyses read."""

    classes = CAMVID.names

    def __init__(self, labels: np.ndarray) -> None:
        self.labels = labels


def segedge_step(labels: np.ndarray) -> Callable[[], dict[str, float]]:
    """One frame: the road; its outline; a zone; and what JSON lines cost, all included."""
    lines, zones = RoadAnalysis(), ZoneAnalysis([ZONE])
    image = np.zeros((*labels.shape, 3), np.uint8)

    def step() -> dict[str, float]:
        watch = Stopwatch()
        road = find_road(labels, CAMVID.names)
        found = watch.lap()
        assert len(road.polygon)
        outline = watch.lap()
        zone_pixels(labels, ZONE, CAMVID.names)
        zone = watch.lap()
        frame = Frame(image)
        json.dumps(lines(frame, View(labels)))  # type: ignore[arg-type]
        json.dumps(zones(frame, View(labels)))  # type: ignore[arg-type]
        written = watch.lap()
        return {"road": found, "outline": outline, "zone": zone, "lines": written}

    return step


def opencv_step(labels: np.ndarray) -> Callable[[], dict[str, float]]:
    """One frame: the road."""

    def step() -> dict[str, float]:
        watch = Stopwatch()
        opencv_road(labels)
        return {"road": watch.lap()}

    return step


def check(labels: np.ndarray) -> None:
    """Both ways agree."""
    road = find_road(labels, CAMVID.names, RoadOptions())
    ours = (road.mask, road.left_x, road.right_x, road.obstacle_y)
    for name, a, b in zip(("mask", "left", "right", "row"), ours, opencv_road(labels), strict=True):
        assert np.array_equal(a, b), name


def main() -> None:
    """Measure both ways, print a table, write the file if asked."""
    options = harness.parsed(harness.parser_of(__doc__, rounds=3, seconds=1.0))
    if options.variant:
        labels = label_map()
        check(labels)
        step = {"segedge": segedge_step, "opencv": opencv_step}[options.variant](labels)
        print(json.dumps(harness.measure(step, seconds=options.seconds)))
        return
    run = harness.Run.begin(options)
    turns = run.in_turn(__file__, WAYS, carry=("seconds",))
    print(f"{FRAME}\n\n{'medians, ms':14}" + "".join(f"{name:>10}" for name in INCLUDES))
    for way in turns.samples:
        cells = (turns.median(way, stage) for stage in INCLUDES)
        print(f"{way:14}" + "".join(f"{'' if c is None else f'{c:.2f}':>10}" for c in cells))
    run.write("road", INCLUDES, turns.figures({}), {"size": str(FRAME)}, skipped=turns.skipped)


if __name__ == "__main__":
    main()

"""Label maps as COCO's panoptic format has them: a PNG of segment ids and a JSON of segments.

A pixel's id is R + 256 G + 65536 B (https://cocodataset.org/#format-data). Each class that a
picture shows is one segment with the id label + 1; 0 is what belongs to none. ``category_id`` is
the label itself.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from segedge.frames.protocols import ResultView

Json = dict[str, Any]


def segment_ids(labels: NDArray[Any], classes: int) -> NDArray[np.int32]:
    """Segment id of every pixel: label + 1, and 0 for labels that name no class."""
    ids = labels.astype(np.int32) + 1
    ids[labels >= classes] = 0
    return ids


def encode_panoptic_png(labels: NDArray[Any], classes: int) -> bytes:
    """The PNG of the segment ids of H x W labels; those from ``classes`` on are no segment."""
    ids = segment_ids(labels, classes)
    bgr = np.stack([ids >> 16, ids >> 8 & 255, ids & 255], axis=2).astype(np.uint8)
    return bytes(cv2.imencode(".png", bgr)[1])


def annotation(result: ResultView, file_name: str, image_id: int) -> Json:
    """What the JSON says of one picture: its segments with area and box (x, y, width, height)."""
    ids = segment_ids(result.labels, len(result.classes))
    areas = np.bincount(ids.reshape(-1), minlength=len(result.classes) + 1)
    segments = []
    for segment in np.flatnonzero(areas[1:]) + 1:
        x, y, width, height = cv2.boundingRect((ids == segment).astype(np.uint8))
        segments.append(
            {
                "id": int(segment),
                "category_id": int(segment) - 1,
                "area": int(areas[segment]),
                "bbox": [x, y, width, height],
                "iscrowd": 0,
            }
        )
    return {
        "image_id": image_id,
        "file_name": file_name,
        "height": int(ids.shape[0]),
        "width": int(ids.shape[1]),
        "segments_info": segments,
    }


def categories(result: ResultView) -> list[Json]:
    """The classes: all of them "stuff", as there are no instances."""
    pairs = zip(result.classes, result.palette_rgb, strict=True)
    return [
        {"id": label, "name": name, "isthing": 0, "color": list(color)}
        for label, (name, color) in enumerate(pairs)
    ]


def panoptic_json(annotations: Sequence[Json], known: Sequence[Json]) -> bytes:
    """The file beside the PNGs, of `annotation` of each and `categories`."""
    images = [
        {
            "id": one["image_id"],
            "file_name": one["file_name"],
            "height": one["height"],
            "width": one["width"],
        }
        for one in annotations
    ]
    kept = [
        {key: one[key] for key in ("image_id", "file_name", "segments_info")} for one in annotations
    ]
    document = {"images": images, "annotations": kept, "categories": list(known)}
    return json.dumps(document).encode()

"""RegionsAnalysis: the regions of every frame as GeoJSON, for JSON lines."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, cast

from segedge.cpu.regions.components import Region
from segedge.frames.frame import Frame
from segedge.frames.protocols import ResultView


class RegionsAnalysis:
    """The regions of the label map as a GeoJSON-like feature collection, the largest first.

    Coordinates are pixels of the image, y downwards, along the pixels' sides. Each feature has
    ``class``, ``label``, ``area``, ``box`` (left, top, width, height) and ``centroid``.
    """

    name = "regions"
    needs = frozenset({"labels"})

    def __init__(self, *, min_area: int = 1, classes: Iterable[str] | None = None) -> None:
        """Regions below ``min_area`` pixels are left out; ``classes`` None: all are listed."""
        self._min_area = min_area
        self._classes = None if classes is None else tuple(classes)

    def __call__(self, frame: Frame, result: ResultView) -> dict[str, Any]:
        """The features of one frame."""
        # Of a `segedge.segment.result.Result`; what other sinks are handed need not know regions.
        list_regions = cast("Callable[..., Any]", result.regions)  # type: ignore[attr-defined]
        found = list_regions(min_area=self._min_area, classes=self._classes)
        return {"type": "FeatureCollection", "features": [as_feature(region) for region in found]}


def as_feature(region: Region) -> dict[str, Any]:
    """A region as a GeoJSON-like feature; coordinates are pixels of the image, y downwards."""
    rings = [[[list(corner) for corner in ring] for ring in p] for p in region.polygons]
    geometry = (
        {"type": "Polygon", "coordinates": rings[0]}
        if len(rings) == 1
        else {"type": "MultiPolygon", "coordinates": rings}
    )
    x, y = region.centroid
    properties = {
        "class": region.class_name, "label": region.label, "area": region.area,
        "box": list(region.box), "centroid": [round(x, 2), round(y, 2)],
    }  # fmt: skip
    return {"type": "Feature", "properties": properties, "geometry": geometry}

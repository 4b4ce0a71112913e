"""The archive that CVAT takes as "Segmentation mask 1.1": the labels of all frames."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path

from segedge.card.labels import Rgb, distinct_palette
from segedge.machine.files import staged

ARCHIVE = "cvat.zip"
ENTRY_BYTES = 300
"""What an archive takes for each frame beside its labels, at most."""


def unique_palette(palette_rgb: Sequence[Rgb]) -> tuple[Rgb, ...]:
    """A palette in which no colour comes twice: CVAT tells classes by their colours.

    The first class of a colour keeps it; the others get free ones.
    """
    taken: set[Rgb] = set(palette_rgb)
    spare = (color for color in distinct_palette(1024) if color not in taken)
    seen: set[Rgb] = set()
    colors = []
    for color in palette_rgb:
        colors.append(next(spare) if color in seen else color)
        seen.add(color)
    return tuple(colors)


def label_map(classes: Sequence[str], palette_rgb: Sequence[Rgb]) -> str:
    """``labelmap.txt``: a line a class in the order of the labels, so that index and colour agree.

    CVAT reads grey masks by the line and coloured ones by the colour; indexed PNGs are both. It
    knows no escape for the colon between the fields: a colon in a name becomes a space.
    """
    rows = ["# label:color_rgb:parts:actions"]
    for name, (red, green, blue) in zip(classes, palette_rgb, strict=True):
        rows.append(f"{name.replace(':', ' ')}:{red},{green},{blue}::")
    return "\n".join(rows) + "\n"


def write_archive(
    path: Path, labels: Sequence[Path], classes: Sequence[str], palette_rgb: Sequence[Rgb]
) -> None:
    """Write the archive; its name stands for a whole one only."""
    names = "".join(f"{label.stem}\n" for label in labels)
    with staged(path) as part, zipfile.ZipFile(part, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("labelmap.txt", label_map(classes, palette_rgb))
        archive.writestr("ImageSets/Segmentation/default.txt", names)
        for label in labels:
            archive.write(label, f"SegmentationClass/{label.name}")

"""CVAT's "Segmentation mask 1.1": `labelmap.txt` names the classes and their colours."""

from __future__ import annotations

import re
from pathlib import Path

from segedge.card.labels import LabelSet, Rgb
from segedge.errors import SourceError, UsageError
from segedge.machine.files import refused
from segedge.machine.text_file import Line, read_lines

LABEL_MAP = "labelmap.txt"
BACKGROUND = "background"
"""CVAT adds this class to every export."""
_SPLITS = Path("ImageSets/Segmentation")


def read_label_map(path: Path) -> LabelSet:
    """The classes of a line each, ``name:red,green,blue:parts:actions``, in their order."""
    with refused(f"cannot read {path}", SourceError):
        lines = read_lines(path)
    if not lines:
        raise SourceError(f"{path} names no classes", facts={"expected": "road:128,64,128::"})
    entries = [_entry(line, path) for line in lines]
    return LabelSet(
        "labelmap.txt", tuple(name for name, _ in entries), tuple(rgb for _, rgb in entries), None
    )


def _entry(line: Line, path: Path) -> tuple[str, Rgb]:
    match = re.fullmatch(r"([^:]+):\s*(\d+)\s*,\s*(\d+)\s*,\s*(\d+)\s*(?::.*)?", line.text)
    rgb = tuple(map(int, match.groups()[1:])) if match else (256,)
    if match is None or max(rgb) > 255:
        raise UsageError(
            f"{path}, line {line.number}: no class with its colour",
            facts={"found": line.text[:60], "expected": "road:128,64,128::"},
        )
    return match[1].strip(), (rgb[0], rgb[1], rgb[2])


def split_list(folder: Path, split: str) -> Path | None:
    """The list of a split; where only one was exported, under whatever name, that one."""
    named = folder / _SPLITS / f"{split}.txt"
    if named.is_file():
        return named
    lists = sorted((folder / _SPLITS).glob("*.txt"))
    return lists[0] if len(lists) == 1 else None

"""Label sets: the names, colours and ids of a dataset's classes."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from segedge.errors import CardError, UsageError, unknown_name_error
from segedge.machine.files import refused
from segedge.machine.text_file import Line, read_lines

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Rgb = tuple[int, int, int]
_AKIN = 0.9
"""Share of names that must be the same at the same place."""


@dataclass(frozen=True)
class LabelSet:
    """The classes of a dataset, in the order of the network's channels."""

    name: str
    """Short name, as used on the command line, e.g. ``cityscapes``."""
    names: tuple[str, ...]
    """Class names; the index is the label."""
    palette_rgb: tuple[Rgb, ...]
    """One RGB colour a class, 0..255."""
    ignore_index: int | None = 255
    """Label value in ground truth that counts for nothing, or None."""
    label_of_id: Mapping[int, int] = field(default_factory=dict)
    """Raw id in the dataset's label files to label, where they differ (Cityscapes)."""
    things: range = range(0)
    """Labels of countable things, where the dataset tells them from stuff."""

    def __post_init__(self) -> None:
        if len(self.names) != len(self.palette_rgb):
            raise UsageError(
                f"label set {self.name!r} has {len(self.names)} names "
                f"and {len(self.palette_rgb)} colours"
            )

    def __len__(self) -> int:
        return len(self.names)


def label_set(name: str) -> LabelSet:
    """A built-in label set by name."""
    sets = built_in_sets()
    if name.lower() not in sets:
        raise unknown_name_error("class set", name, tuple(sets))
    return sets[name.lower()]


def known_set(names: Sequence[str]) -> LabelSet | None:
    """The built-in label set that has exactly these class names, letter case aside, or None."""
    wanted = tuple(name.strip().lower() for name in names)
    matches = (s for s in built_in_sets().values() if wanted == tuple(n.lower() for n in s.names))
    return next(matches, None)


def sets_of(count: int) -> list[str]:
    """The built-in label sets with so many classes, by name."""
    return [name for name, entry in built_in_sets().items() if len(entry) == count]


def akin_set(names: Sequence[str]) -> LabelSet | None:
    """The built-in label set whose classes these are in other words, or None.

    ADE20K's are written ``road`` or ``road, route``, ``windowpane`` or ``window``.
    """
    wanted = [_first_word(name) for name in names]
    for entry in built_in_sets().values():
        same = sum(a == _first_word(b) for a, b in zip(wanted, entry.names, strict=False))
        if len(entry) == len(wanted) and same >= _AKIN * len(wanted):
            return entry
    return None


def _first_word(name: str) -> str:
    """A name up to its first synonym."""
    return re.split("[,;]", name)[0].strip().lower()


def things_only(names: Sequence[str]) -> str:
    """The built-in set whose things alone these are: classes of an instance segmentation."""
    wanted = [_first_word(name) for name in names]
    for name, entry in built_in_sets().items():
        if entry.things and wanted == [entry.names[label] for label in entry.things]:
            return name
    return ""


def named_set(names: tuple[str, ...]) -> LabelSet:
    """Bare names, with the standard palette where they are a known set's."""
    known, akin = known_set(names), akin_set(names)
    if known or akin is None:
        return known or LabelSet("", names, distinct_palette(len(names)))
    return replace(akin, names=names)


def names_in(given: str | Iterable[str]) -> tuple[str, ...]:
    """Names that were given; one alone is one name, not a row of letters."""
    return (given,) if isinstance(given, str) else tuple(given)


def read_classes(path: Path) -> LabelSet:
    """A text file with a class a line: its name, and three numbers 0..255 where it has a colour.

    Where every line begins with its own number (``0 road``, ``1: car``), that is no part of a name.
    """
    with refused(f"{path.name} cannot be read", CardError):
        lines = read_lines(path)
    if not lines:
        raise CardError(f"{path.name} names no classes", fix="one name a line")
    colors = [_color(line, path) for line in lines]
    names = _unnumbered([
        line.text if color is None else " ".join(line.text.split()[:-3])
        for line, color in zip(lines, colors, strict=True)
    ])  # fmt: skip
    _check_distinct(names, lines, path)
    plain = named_set(names)
    palette = tuple(color or given for color, given in zip(colors, plain.palette_rgb, strict=True))
    return LabelSet(plain.name, names, palette, plain.ignore_index)


def _color(line: Line, path: Path) -> Rgb | None:
    """Red, green and blue at the end of a line, or None where it is a name alone."""
    words = line.text.split()[-3:]
    if len(line.text.split()) < 4 or not all(word.isdecimal() for word in words):
        return None
    red, green, blue = map(int, words)
    if max(red, green, blue) > 255:
        raise CardError(
            f"{path.name}, line {line.number}: no colour",
            facts={"found": " ".join(words), "expected": "red, green and blue, 0..255 each"},
        )
    return red, green, blue


def _unnumbered(names: Sequence[str]) -> tuple[str, ...]:
    matches = [re.fullmatch(r"(\d+)(?:\s*[:,.)]\s*|\s+)(\S.*)", name) for name in names]
    numbers = [int(match[1]) for match in matches if match]
    texts = [match[2] for match in matches if match]
    return tuple(texts if numbers == list(range(len(names))) else names)


def _check_distinct(names: Sequence[str], lines: Sequence[Line], path: Path) -> None:
    first: dict[str, int] = {}
    for name, line in zip(names, lines, strict=True):
        if name in first:
            raise CardError(
                f"{path.name}, line {line.number}: class {name!r} is there twice",
                facts={"first": f"line {first[name]}"},
            )
        first[name] = line.number


@cache
def built_in_sets() -> dict[str, LabelSet]:
    """All label sets that come with segedge, by name."""
    text = resources.files("segedge.card").joinpath("label_sets.json").read_text(encoding="utf-8")
    return {name: _from_json(name, entry) for name, entry in json.loads(text).items()}


def _from_json(name: str, entry: dict[str, object]) -> LabelSet:
    classes = entry["classes"]
    assert isinstance(classes, list)
    ids = entry.get("label_of_id", {})
    assert isinstance(ids, dict)
    ignore = entry.get("ignore_index", 255)
    assert ignore is None or isinstance(ignore, int)
    things = entry.get("things", [0, 0])
    assert isinstance(things, list)
    return LabelSet(
        things=range(*things),
        name=name,
        names=tuple(str(row[0]) for row in classes),
        palette_rgb=tuple((row[1], row[2], row[3]) for row in classes),
        ignore_index=ignore,
        label_of_id={int(key): int(value) for key, value in ids.items()},
    )


def distinct_palette(count: int) -> tuple[Rgb, ...]:
    """Colours for classes without a standard palette: Pascal VOC's bit-interleaved map, from 1 on.

    Bit k of the label's base-8 digits goes to the high bits of red, green and blue in turn, so
    neighbouring labels differ much; the formula is the one of the VOC development kit.
    """
    return tuple(_voc_color(label + 1) for label in range(count))


def _voc_color(label: int) -> Rgb:
    red = green = blue = 0
    for bit in range(7, -1, -1):
        red |= (label & 1) << bit
        green |= (label >> 1 & 1) << bit
        blue |= (label >> 2 & 1) << bit
        label >>= 3
    return red, green, blue


def class_opacities(
    count: int, opacity: float | Sequence[float], classes: Collection[int] | None
) -> NDArray[np.float64]:
    """How strongly each class is painted, 0..1, from one number for all or one a class.

    Of ``classes`` only these labels are painted, the others get 0; None paints all.
    """
    import numpy as np

    given = np.asarray(opacity, np.float64)
    if given.ndim > 1 or (given.ndim == 1 and given.size != count):
        raise UsageError(
            "one opacity a class, or one for all",
            facts={"classes": str(count), "found": f"{given.size} opacities"},
        )
    if not np.all((given >= 0.0) & (given <= 1.0)):
        raise UsageError("an opacity lies between 0 and 1", facts={"found": str(opacity)})
    shares = np.array(np.broadcast_to(given, (count,)))
    if classes is None:
        return shares
    unknown = sorted(label for label in classes if not 0 <= label < count)
    if unknown:
        raise UsageError(
            "labels that the palette does not have",
            facts={"found": ", ".join(map(str, unknown)), "expected": f"0..{count - 1}"},
        )
    shares[[label not in classes for label in range(count)]] = 0.0
    return shares

"""Cleaning: what is done with the small wrong specks of a label map."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from segedge.errors import UsageError, unknown_name_error

LARGEST_WINDOW = 31
"""Widest majority filter, in pixels: the time grows with its square where labels differ."""
_LARGEST_AREA = 1 << 28
"""No frame has more pixels; see `segedge.cuda.plan`."""


@dataclass(frozen=True)
class Cleaning:
    """Steps on the label map, in this order: majority filter, holes, small regions.

    A *region* is a connected set of pixels of one label. What exactly is done with it stands in
    `segedge.reference.regions`.
    """

    min_region: int | Mapping[str, int] = 0
    """Regions of fewer pixels go to the neighbour with the longest common border; one number for
    all classes or one a class (classes that are not named keep all of theirs). 0 and 1: off."""
    connectivity: int = 4
    """4: pixels that share a side are connected; 8: those that share a corner, too."""
    majority: int = 0
    """Side of the window, in pixels, whose most frequent label each pixel takes; odd. 0: off."""
    fill_holes: int = 0
    """Regions of fewer pixels that lie within one other class take its label. 0: off."""

    def __post_init__(self) -> None:
        given = self.min_region
        if isinstance(given, Mapping):
            for name, pixels in given.items():
                _check_area(f"min_region of {name!r}", pixels)
            object.__setattr__(self, "min_region", MappingProxyType(dict(given)))
        else:
            _check_area("min_region", given)
        _check_area("fill_holes", self.fill_holes)
        if self.connectivity not in (4, 8):
            raise UsageError(
                f"no connectivity {self.connectivity}",
                facts={"expected": "4 (pixels that share a side) or 8 (a corner, too)"},
                fix="--connectivity 4",
            )
        size = self.majority
        if not _is_count(size) or size < 0 or size > LARGEST_WINDOW or (size and size % 2 == 0):
            raise UsageError(
                "the window of the majority filter must have an odd side",
                facts={"expected": f"0 (off), 3, 5 .. {LARGEST_WINDOW}", "found": str(size)},
                fix=f"--majority {_odd(size)}",
            )

    def __hash__(self) -> int:
        given = self.min_region
        key = tuple(sorted(given.items())) if isinstance(given, Mapping) else given
        return hash((key, self.connectivity, self.majority, self.fill_holes))

    @property
    def is_off(self) -> bool:
        """Whether nothing is changed."""
        return not (self.joins or self.majority > 1)

    @property
    def joins(self) -> bool:
        """Whether regions are looked at, not only windows."""
        given = self.min_region
        most = max(given.values(), default=0) if isinstance(given, Mapping) else given
        return most > 1 or self.fill_holes > 1

    def describe(self) -> str:
        """The steps for people, ``majority 3, fill holes 200``; empty where it is off."""
        given = self.min_region
        least: object = given
        if isinstance(given, Mapping):
            least = ",".join(f"{name}={pixels}" for name, pixels in given.items())
        steps = (
            ("majority", self.majority, self.majority > 1),
            ("fill holes", self.fill_holes, self.fill_holes > 1),
            ("min region", least, isinstance(given, Mapping) or given > 1),
        )
        told = [f"{name} {value}" for name, value, is_on in steps if is_on]
        if self.joins and self.connectivity == 8:
            told.append("corners connect")
        return "" if self.is_off else ", ".join(told)

    def check(self, classes: Sequence[str]) -> None:
        """Raise UsageError on a class that is none of these, with the nearest one."""
        self.areas(classes)

    def areas(self, classes: Sequence[str]) -> tuple[int, ...]:
        """Least pixels of a region, one number a class.

        Raises:
            UsageError: ``min_region`` names a class that is none of these.
        """
        given = self.min_region
        if not isinstance(given, Mapping):
            return (given,) * len(classes)
        for name in given:
            if name not in classes:
                raise unknown_name_error("class", name, tuple(classes))
        return tuple(given.get(name, 0) for name in classes)


def parse_min_region(text: str) -> int | dict[str, int]:
    """What ``--min-region`` says: ``200``, or ``car=50,road=1000``."""
    text = text.strip()
    if "=" not in text:
        return _area_of(text or "0", text)
    areas: dict[str, int] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, equals, number = part.rpartition("=")
        if not equals or not name.strip():
            raise _unreadable(text)
        areas[name.strip()] = _area_of(number, text)
    return areas


def _area_of(number: str, text: str) -> int:
    try:
        pixels = int(number)
    except ValueError:
        raise _unreadable(text) from None
    _check_area("--min-region", pixels)
    return pixels


def _unreadable(text: str) -> UsageError:
    return UsageError(
        f"no region size {text!r}",
        facts={"expected": "pixels, or pixels a class"},
        fix="--min-region 200, or --min-region car=50,road=1000",
    )


def _check_area(name: str, pixels: int) -> None:
    if not _is_count(pixels) or not 0 <= pixels <= _LARGEST_AREA:
        raise UsageError(
            f"{name} is a number of pixels",
            facts={"expected": f"0 (off) .. {_LARGEST_AREA}", "found": str(pixels)},
            fix="0 leaves it out",
        )


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _odd(size: object) -> int:
    """The nearest side that is allowed."""
    whole = size if _is_count(size) else 3
    assert isinstance(whole, int)
    return min(max(3, whole | 1), LARGEST_WINDOW)

"""Decoder: what is in label files (values, ids, colours) to classes of the card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from segedge.card.labels import LabelSet, Rgb
from segedge.errors import UsageError
from segedge.measure.datasets.label_file import read_label_file
from segedge.measure.datasets.layouts import Layout
from segedge.measure.datasets.mapping import IGNORED, value_option

Kind = Literal["values", "ids", "colours"]
_SHOWN = 8
_UNKNOWN = -2
_PEERS = 16
"""Other label files that are looked at where one could be read in two ways."""


class Decoder:
    """Turns the values of a label file into classes of the card."""

    def __init__(
        self,
        source: LabelSet,
        table: NDArray[np.int16],
        ignored: frozenset[int],
        layout: Layout,
        *,
        values: Mapping[int, int],
        ours: Sequence[str],
        peers: Sequence[Path] = (),
    ) -> None:
        """Tables for all values, made once.

        ``values`` is what the user says of some; ``peers`` are the data set's other label files.
        """
        self.source = source
        self.table = table
        """Class of the card for each class of ``source``, `IGNORED` where it does not count."""
        self.ignored = ignored
        self.values = values
        self.kinds: set[Kind] = set()
        """What was found so far."""
        self._ours = tuple(ours)
        self._layout = layout
        self._peers = peers
        self._ids = np.full(1 << 16, _UNKNOWN, np.int16)
        self._plain = np.full(1 << 16, _UNKNOWN, np.int16)
        self._plain[: len(table)] = table
        self._plain[list(ignored)] = IGNORED
        self._ids[list(layout.ignored_ids)] = IGNORED
        for raw, label in source.label_of_id.items():
            if raw >= 0:
                self._ids[raw] = table[label] if label < len(table) else IGNORED
        for value, label in values.items():
            self._plain[value] = self._ids[value] = label
        self._colors = {
            rgb: int(table[label]) for label, rgb in reversed(list(enumerate(source.palette_rgb)))
        }
        for rgb, name in layout.colors.items():
            known = name in source.names
            self._colors[rgb] = int(table[source.names.index(name)]) if known else IGNORED
        self._has_black = (0, 0, 0) in self._colors
        self._colors.setdefault((0, 0, 0), IGNORED)

    def read(self, path: Path) -> NDArray[np.int16]:
        """H x W int16 labels of the card, `IGNORED` where nothing counts."""
        return self.decode(read_label_file(path, colors=self._layout.palettes), path)

    def decode(self, values: NDArray[Any], path: Path) -> NDArray[np.int16]:
        """The same of a file that was read already."""
        if values.ndim == 3:
            channel = _only_channel(values)
            if channel is None or not self._are_values(values, channel):
                return self._from_colors(values, path)
            values = channel
        has_ids = self._layout.has_ids(path) and bool(self.source.label_of_id)
        self.kinds.add("ids" if has_ids else "values")
        labels: NDArray[np.int16] = (self._ids if has_ids else self._plain)[values]
        if (labels == _UNKNOWN).any():
            unknown = np.unique(values[labels == _UNKNOWN])
            raise self._unknown_values(path, unknown, has_ids)
        return labels

    def reasons(self) -> str:
        """Why pixels do not count, as far as it is known before they are looked at."""
        lost = [n for n, label in zip(self.source.names, self.table, strict=True) if label < 0]
        values = sorted({*self.ignored, *(v for v, c in self.values.items() if c == IGNORED)})
        parts = []
        if "values" in self.kinds and values:
            parts.append(f"label {', '.join(map(str, values[:_SHOWN]))}")
        if "ids" in self.kinds:
            parts.append("ids that are no class")
        if "colours" in self.kinds and not self._has_black:
            parts.append("black")
        if lost:
            more = ", ..." if len(lost) > _SHOWN else ""
            parts.append(f"classes {', '.join(lost[:_SHOWN])}{more}")
        return "; ".join(parts) or "void colours"

    def swapped(self) -> dict[int, int]:
        """Class of the card to the one whose colour is its own with red and blue swapped."""
        pairs = ((label, self._colors.get(rgb[::-1])) for rgb, label in self._colors.items())
        return {label: other for label, other in pairs if label >= 0 and other is not None}

    def _are_values(self, bgr: NDArray[np.uint8], channel: NDArray[np.uint8]) -> bool:
        """Whether three channels that hold one picture hold label values, and not colours."""
        answer = self._one_kind(bgr, channel)
        return self._peers_hold_values if answer is None else answer

    def _one_kind(self, bgr: NDArray[np.uint8], channel: NDArray[np.uint8]) -> bool | None:
        """The same; None where it may be either."""
        are_values = bool((self._plain[np.unique(channel)] != _UNKNOWN).all())
        are_colors = not self._strange(bgr)[1].any()
        return None if are_values and are_colors else are_values and not are_colors

    @cached_property
    def _peers_hold_values(self) -> bool:
        """What the other files say: a black one alone is class 0, void, or the class of black."""
        for path in self._peers[:: max(1, len(self._peers) // _PEERS)][:_PEERS]:
            bgr = read_label_file(path, colors=self._layout.palettes)
            if bgr.ndim == 2:
                continue
            channel = _only_channel(bgr)
            answer = False if channel is None else self._one_kind(bgr, channel)
            if answer is not None:
                return answer
        return not self._has_black and self._layout.label_set is None

    def _strange(self, bgr: NDArray[np.uint8]) -> tuple[NDArray[np.int16], NDArray[np.bool_]]:
        """Labels by colour, and which pixels have none."""
        codes = _codes(bgr)
        known = sorted((_code(rgb), label) for rgb, label in self._colors.items())
        keys = np.array([code for code, _ in known], np.int32)
        places = np.minimum(np.searchsorted(keys, codes), len(keys) - 1)
        labels = np.array([label for _, label in known], np.int16)[places]
        return labels, keys[places] != codes

    def _from_colors(self, bgr: NDArray[np.uint8], path: Path) -> NDArray[np.int16]:
        labels, strange = self._strange(bgr)
        if strange.any():
            swapped = not self._strange(bgr[:, :, ::-1])[1].any()
            raise _unknown_colors(path, _codes(bgr)[strange], len(self._colors), swapped=swapped)
        if self.values:
            raise UsageError(
                f"--map names label values, and {path} holds colours",
                fix="--map by the names of the data set's classes",
            )
        self.kinds.add("colours")
        return labels

    def _unknown_values(self, path: Path, unknown: NDArray[Any], has_ids: bool) -> UsageError:
        shown = ", ".join(map(str, unknown[:_SHOWN].tolist()))
        more = f" and {len(unknown) - _SHOWN} more" if len(unknown) > _SHOWN else ""
        fix = (
            "--ignore VALUE where such a value counts for nothing, or --layout with the layout "
            "that knows these ids"
        )
        if not has_ids and unknown.tolist() == [len(self.source)]:
            option = value_option(self.shifted(1), self._ours)
            fix = f"{option} where 0 is void and classes count from 1; else {fix}"
        return UsageError(
            f"{path} holds labels outside the classes",
            facts={"found": shown + more, "expected": self._expected(has_ids)},
            fix=fix,
        )

    def shifted(self, by: int) -> dict[int, int]:
        """Value to class of the card where all values are too high by so much."""
        count = len(self.source)
        found = {label + by: int(self.table[label]) for label in range(count) if label + by >= 0}
        return found | {value: IGNORED for value in range(by)}

    def _expected(self, has_ids: bool) -> str:
        if has_ids:
            return f"ids of {self.source.name}: {min(self.source.label_of_id)}.." + str(
                max(self.source.label_of_id)
            )
        ignored = np.flatnonzero(self._plain == IGNORED).tolist()
        also = [str(v) for v in ignored if v >= len(self.source)]
        return f"0..{len(self.source) - 1}" + (f" or {', '.join(also)} (ignored)" if also else "")


def _only_channel(bgr: NDArray[np.uint8]) -> NDArray[np.uint8] | None:
    """The one picture that three channels hold: equal ones, or red alone; None: colours."""
    blue, green, red = (bgr[:, :, number] for number in range(3))
    if np.array_equal(green, blue) and (np.array_equal(green, red) or not green.any()):
        return np.ascontiguousarray(red)
    return None


def _code(rgb: Rgb) -> int:
    return rgb[0] << 16 | rgb[1] << 8 | rgb[2]


def _codes(bgr: NDArray[np.uint8]) -> NDArray[np.int32]:
    codes = bgr[:, :, 2].astype(np.int32) << 16
    codes |= bgr[:, :, 1].astype(np.int32) << 8
    codes |= bgr[:, :, 0]
    return codes


def _unknown_colors(path: Path, codes: NDArray[Any], known: int, *, swapped: bool) -> UsageError:
    found, counts = np.unique(codes, return_counts=True)
    code = int(found[counts.argmax()])
    facts = {
        "found": f"{found.size} unknown colours on {counts.sum()} pixels, first RGB "
        f"({code >> 16}, {code >> 8 & 255}, {code & 255})",
        "expected": f"the {known} colours of the label set",
    }
    fix = (
        "colour labels must be lossless (PNG) and never resized with interpolation; "
        "label files of indices are safest"
    )
    if swapped:
        facts["but"] = "with red and blue swapped every pixel has the colour of a class"
        fix = "write them again with the channels in order: cv2.imwrite takes BGR"
    return UsageError(f"{path} holds colours that are no class", facts=facts, fix=fix)

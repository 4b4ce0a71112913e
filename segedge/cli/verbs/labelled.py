"""What the verbs that look at labelled images share: their options, and how scores are told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from segedge.cli.console import print_prose
from segedge.cli.groups import Option

if TYPE_CHECKING:
    from segedge.card.card import ModelCard
    from segedge.measure.datasets.datasets import Dataset


@dataclass(frozen=True)
class DataGroup:
    """How a labelled data set is read."""

    layout: Annotated[str, "auto, cityscapes, camvid, cvat, voc, ade20k or plain."] = "auto"
    split: Annotated[str, "Part of the data set: train, val or test."] = "val"
    mapping: Annotated[
        str | None,
        Option(
            "Their classes or label values in ours: THEIRS=OURS,..., or a file of pairs.", "--map"
        ),
    ] = None
    ignore: Annotated[int | None, "Label value that does not count (plain layout)."] = None

    def open(self, path: Path, card: ModelCard) -> Dataset:
        """The data set in the classes of a card."""
        from segedge.measure.datasets.datasets import open_dataset
        from segedge.measure.datasets.mapping import parse_mapping

        return open_dataset(
            path,
            card_classes=card.classes,
            palette_rgb=card.palette_rgb,
            ignore_index=card.ignore_index if self.ignore is None else self.ignore,
            layout=self.layout,
            split=self.split,
            mapping=None if self.mapping is None else parse_mapping(self.mapping),
        )


def print_left_out(
    notes: Sequence[str], failures: Sequence[tuple[str, str]], missing: Sequence[str]
) -> None:
    """What is to be said of a data set, and which of its images do not count."""
    for note in notes:
        print_prose("note", note)
    for name, reason in failures:
        print_prose("unreadable", f"{name}: {reason}")
    if missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        named = ", ".join(missing[:3])
        print_prose("no labels", f"{len(missing)} images are not counted: {named}{more}")

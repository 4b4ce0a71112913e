"""The options that name a labelled data set, for every verb that takes one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from segedge.card.card import ModelCard
    from segedge.measure.datasets.datasets import Dataset

Layout = Annotated[str, typer.Option(help="auto, cityscapes, camvid, voc, ade20k or plain.")]
Split = Annotated[str, typer.Option(help="Part of the data set: train, val or test.")]
Mapping = Annotated[
    str | None,
    typer.Option("--map", help="Their classes in ours: THEIRS=OURS,..., or a file of pairs."),
]
Ignore = Annotated[int | None, typer.Option(help="Label value that does not count (plain layout).")]


def open_data(
    path: Path,
    card: ModelCard,
    *,
    layout: str = "auto",
    split: str = "val",
    mapping: str | None = None,
    ignore: int | None = None,
) -> Dataset:
    """The data set that the options name, in the classes of a card.

    Raises:
        SourceError: There is no such folder, no known layout, or no labelled image.
        UsageError: An unknown layout, or classes that are not the model's.
    """
    from segedge.measure.datasets.datasets import open_dataset
    from segedge.measure.datasets.mapping import parse_mapping

    return open_dataset(
        path,
        card_classes=card.classes,
        palette_rgb=card.palette_rgb,
        ignore_index=card.ignore_index if ignore is None else ignore,
        layout=layout,
        split=split,
        mapping=None if mapping is None else parse_mapping(mapping),
    )

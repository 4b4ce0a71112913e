"""`segedge optimize`: which precision on which backend is best here."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, cast

import typer

from segedge.cli.console import check_folder, out, print_json, print_prose, print_row, say
from segedge.cli.groups import Option
from segedge.cli.options import AsJson, Seconds, parse_words
from segedge.cli.verbs.bench_words import parse_sizes
from segedge.cli.verbs.compare import named_images
from segedge.cli.verbs.labelled import DataGroup
from segedge.errors import UsageError
from segedge.measure.report.table import text_lines

if TYPE_CHECKING:
    from segedge.card.card import ModelCard
    from segedge.measure.datasets.datasets import Dataset
    from segedge.measure.optimize.optimize import Tuning
    from segedge.measure.optimize.options import Precision
    from segedge.measure.optimize.trial import Named

_COMPARED, _UNLABELLED = 32, 64
"""Images that agreement is measured on, with labels and without."""


@dataclass(frozen=True, kw_only=True)
class AccuracyGroup:
    """What accuracy is measured on, and how much of it may be lost."""

    panel: ClassVar[str] = "Accuracy"
    dataset: Annotated[Path | None, "Labelled images: docs/evaluate.md; accuracy is of these."] = (
        None
    )
    labels: DataGroup
    images: Annotated[str | None, "Without --dataset: images to agree with float on."] = None
    limit: Annotated[int | None, "At most so many images."] = None
    max_drop: Annotated[float | None, "Points that may be lost: 0.5 of mIoU, 1 of agreement."] = (
        None
    )

    def __post_init__(self) -> None:
        if (self.dataset is None) == (self.images is None):
            raise UsageError(
                "segedge optimize needs either a labelled data set or images",
                facts={"found": "neither" if self.dataset is None else "both"},
                fix="--dataset DATASET, or --images FOLDER for agreement with the float model"
                " alone",
            )

    def open(self, card: ModelCard) -> tuple[Dataset | None, list[Named]]:
        """The labelled images, and those that are compared with float."""
        if self.dataset is None:
            most = self.limit or _UNLABELLED
            return None, list(named_images(self.images, most, card.input_size))
        data = self.labels.open(self.dataset, card)
        step = max(1, len(data) // min(_COMPARED, self.limit or _COMPARED))
        shown = data.samples[::step]
        for one in shown:
            one.labels()  # of other classes: found now, not after minutes of timing
        return data, [(one.name, one.image()) for one in shown]


@dataclass(frozen=True)
class SpeedGroup:
    """What is timed, and how long."""

    panel: ClassVar[str] = "Speed"
    objective: Annotated[str, "What shall be fast: frame (image to overlay) or network."] = "frame"
    frame_size: Annotated[
        str | None, "HEIGHTxWIDTH that is timed; default: twice the network's."
    ] = None
    video: Annotated[
        Path | None,
        "Try the recommended one on this clip with the network on every frame, every 2nd and 4th.",
    ] = None
    rounds: Annotated[int, "Turns of each candidate."] = 3
    seconds: Seconds = 2.0

    @cached_property
    def words(self) -> dict[str, Any]:
        """As `TuneOptions` takes them."""
        size = parse_sizes([self.frame_size])[0] if self.frame_size else None
        return {**vars(self), "frame_size": size}


def optimize_command(
    models: Annotated[
        list[Path],
        typer.Argument(help="The float ONNX file with its card, then others of it (int8)."),
    ],
    *,
    calibrate: Annotated[Path | None, "Images that int8 and fp16 are calibrated on."] = None,
    backend: Annotated[
        list[str] | None, "As `segedge doctor` lists; repeatable; none: all."
    ] = None,
    precision: Annotated[list[str] | None, "fp32, bf16, fp16, int8; commas; none: all."] = None,
    accuracy: AccuracyGroup,
    speed: SpeedGroup,
    folder: Annotated[Path | None, Option("Folder that keeps the files made.", "-o --out")] = None,
    html_file: Annotated[
        Path | None, Option("Write a page with the Pareto picture here.", "--html")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Try the precisions and backends of this machine and recommend one.

    A less exact precision is recommended only where it is faster beyond the intervals of the
    medians, and loses no more than --max-drop.
    """
    from segedge.card.modelfile import require_card
    from segedge.measure.bench.results import write_text
    from segedge.measure.optimize.html import html
    from segedge.measure.optimize.make import given
    from segedge.measure.optimize.optimize import tune
    from segedge.measure.optimize.options import PRECISIONS, TuneOptions

    options = TuneOptions(
        backends=parse_words(backend),
        precisions=cast("tuple[Precision]", parse_words(precision or PRECISIONS)),
        max_drop=accuracy.max_drop,
        limit=accuracy.limit,
        **speed.words,
    )
    check_folder(html_file)
    given(models)
    data, pictures = accuracy.open(require_card(models[0]))
    with _made_in(folder) as place:
        found = tune(
            models, options, dataset=data, images=pictures, calibrate=calibrate, folder=place,
            say=say,
        )  # fmt: skip
        if html_file is not None:
            write_text(html_file, html(found))
        if as_json:
            made = found.recommendation.trial.candidate.artifact.origin == "made"
            # A command on a file that is gone in a moment helps nobody.
            lost = {"command": None} if made and folder is None else {}
            print_json({**found.to_dict(), **lost})
        else:
            if html_file is not None:
                print_row("wrote", str(html_file))
            _print(found, is_kept=folder is not None)


@contextmanager
def _made_in(folder: Path | None) -> Iterator[Path]:
    """Where files are made: the folder, or one that goes afterwards."""
    from segedge.machine.files import prepare_folder

    if folder is not None:
        prepare_folder(folder, purpose=folder)
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="segedge-optimize-") as temporary:
        yield Path(temporary)


def _print(found: Tuning, *, is_kept: bool) -> None:
    from segedge.measure.optimize.report import table
    from segedge.measure.optimize.video import rates_text

    print_row("machine", found.environment.line)
    console = out()
    console.print()
    for line in text_lines(table(found)):
        console.print(line, markup=False)
    console.print()
    objective = found.options.objective
    told = f"> recommended; * on the Pareto front of mIoU (or agreement) and {objective} ms; "
    print_prose("marks", f"{told}within: where the median of {objective} ms is known to be")
    for name, reason in found.recommendation.rejected.items():
        print_prose("not taken", f"{name}: {reason}")
    for name, reason in found.skipped.items():
        print_prose("skipped", f"{name}: {reason}")
    print_prose("recommended", found.recommendation.sentence)
    if found.video:
        print_prose("video", rates_text(found.video))
    if found.recommendation.trial.candidate.artifact.origin == "made" and not is_kept:
        print_prose("note", "its file was temporary: the same command with -o FOLDER keeps it")
    else:
        print_row("next", f"{found.command} -o out.mp4")

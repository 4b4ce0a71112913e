"""`segedge eval`: how accurate a model is on a labelled data set."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

import typer

from segedge.backends.remote.address import is_address
from segedge.card.modelfile import file_sha256
from segedge.cli.checked import checked_dict, print_checked
from segedge.cli.console import check_folder, out, print_json, print_prose, print_row
from segedge.cli.groups import Option
from segedge.cli.options import AsJson, Backend, FrameGroup, Model, MotionGroup, Threads
from segedge.cli.progress import frame_progress
from segedge.cli.verbs.labelled import DataGroup, print_left_out
from segedge.errors import UsageError

if TYPE_CHECKING:
    from segedge.measure.datasets.datasets import Dataset
    from segedge.measure.datasets.sequence import TimedSample
    from segedge.measure.evaluate.evaluate import Evaluation
    from segedge.segment.on_gpu import CudaSegmenter
    from segedge.segment.segmenter import Segmenter

_INCOMPLETE = 1
_NAMED, _SHOWN = 3, 8
"""Worst images that are named, and that the page shows."""


@dataclass(frozen=True)
class ReportsGroup:
    """What is written and named."""

    panel: ClassVar[str] = "Reports"
    worst: Annotated[
        int | None,
        Option("How many of the worst images to name (3) and to show in --html (8).", min=0),
    ] = None
    html: Annotated[Path | None, "Write a page with charts and the worst images here."] = None
    output: Annotated[Path | None, Option("Write the JSON here.", "-o --out")] = None

    def __post_init__(self) -> None:
        check_folder(self.output)
        check_folder(self.html)
        page = self.html
        if page is not None and page.suffix.lower() not in (".html", ".htm"):
            raise UsageError(f"{page} is no .html file", fix=f"--html {page.with_suffix('.html')}")

    @property
    def named(self) -> int:
        """How many of the worst images are named."""
        return _NAMED if self.worst is None else self.worst

    def write_page(
        self,
        found: Evaluation,
        segmenter: Segmenter | CudaSegmenter,
        dataset: Dataset,
        sequence: Sequence[TimedSample] | None,
        **told: str,
    ) -> None:
        """The page, where one is wanted, with what is ``told`` of the model."""
        from segedge.machine.files import write_atomically
        from segedge.measure.evaluate.html import html
        from segedge.measure.evaluate.shots import take_shots

        if self.html is None:
            return
        worst = found.worst(_SHOWN if self.worst is None else self.worst)
        shots = take_shots(segmenter, dataset, worst, sequence=sequence)
        text = html(found, shots, palette_rgb=segmenter.card.palette_rgb, **told)
        write_atomically(self.html, text.encode("utf-8"))


def eval_command(
    model: Model,
    data: Annotated[Path, typer.Argument(metavar="DATASET", help="Its folder; docs/evaluate.md.")],
    labels: DataGroup,
    frame: FrameGroup,
    *,
    sequence: Annotated[
        str | None,
        Option(
            "The images are the frames of a video, in the order of their names, or of a list with a"
            " line 'IMAGE SECONDS' each; CamVid's are known to be.",
            metavar="[LIST]",
            panel=MotionGroup.panel,
        ),
    ] = None,
    backend: Backend = "auto",
    threads: Threads = 0,
    limit: Annotated[int | None, "At most so many images, evenly spread."] = None,
    boundary: Annotated[bool, "Measure the boundary F-score, too."] = True,
    reports: ReportsGroup,
    as_json: AsJson = False,
) -> None:
    """Measure mIoU, accuracy and boundary F-score of a model, as `segedge run` would segment.

    Exit code 0: all images counted; 1: done, but some could not be read or have no labels; 2: an
    error.
    """
    from segedge.machine.files import write_atomically
    from segedge.measure.evaluate.evaluate import evaluate
    from segedge.segment.load import load

    if sequence is not None and frame.motion.value is None:
        raise UsageError("--sequence without --every: each image stands alone", fix="add --every 4")
    with load(
        model, backend=backend, threads=threads or None, **frame.words, **frame.check.words
    ) as segmenter:
        dataset = labels.open(data, segmenter.card)
        frames = None if frame.motion.value is None else _in_order(dataset, sequence)
        with frame_progress() as bar:
            task = bar.add_task(dataset.name, total=len(dataset))
            found = evaluate(
                segmenter, dataset, boundary=boundary, limit=limit, sequence=frames,
                progress=lambda done, total: bar.update(task, completed=done, total=total),
            )  # fmt: skip
        sha256 = _sha256(model)
        reports.write_page(found, segmenter, dataset, frames, model=model.name, sha256=sha256)
    facts = {
        "model": model.name, "sha256": sha256, "checked": checked_dict(segmenter),
        **found.to_dict(worst=reports.named),
    }  # fmt: skip
    if reports.output is not None:
        write_atomically(reports.output, (json.dumps(facts, indent=2) + "\n").encode("utf-8"))
    if as_json:
        print_json(facts)
    else:
        _print(found, model, reports.named, segmenter)
        for path in filter(None, (reports.output, reports.html)):
            print_row("wrote", str(path))
        print_row("next", f"segedge bench {model}    says how fast it is")
    raise typer.Exit(_INCOMPLETE if found.failures or found.missing else 0)


def _in_order(dataset: Dataset, sequence: str | None) -> Sequence[TimedSample]:
    """The frames of the video that a data set is, or is said to be."""
    from segedge.measure.datasets.sequence import by_name, listed, recorded

    if sequence is None:
        return recorded(dataset)
    return listed(dataset, Path(sequence)) if sequence else by_name(dataset)


def _sha256(model: Path) -> str:
    """Of the file; empty where it lies on a server."""
    return "" if is_address(model) else file_sha256(model)


def _print(
    found: Evaluation, model: Path, worst: int, segmenter: Segmenter | CudaSegmenter
) -> None:
    from segedge.measure.evaluate.metrics import METRICS
    from segedge.measure.report.table import percent
    from segedge.motion.summary import sentence

    print_row("model", f"{model.name} on {found.description}")
    print_checked(segmenter)
    rate = found.count / found.seconds if found.seconds > 0 else 0.0
    print_row("data", f"{found.dataset}: {found.count} images, {rate:.1f} a second")
    for label, text in (("slide", found.slide), ("cleaning", found.cleaning)):
        if text:
            print_row(label, text)
    if found.motion is not None:
        print_prose("motion", sentence(found.motion))
    for metric in METRICS:
        share = found.score(metric)
        if share is not None:
            print_row(metric.label, f"{percent(share)} {metric.told}")
    if found.ignored:
        print_row(
            "ignored", f"{percent(found.confusion.ignored_share)} of all pixels: {found.ignored}"
        )
    console = out()
    console.print()
    for line in _class_lines(found):
        console.print(line, markup=False)
    console.print()
    for image in found.worst(worst):
        print_row("worst", f"{percent(image.miou)} mIoU on {image.name}")
    print_left_out(found.notes, found.failures, found.missing)


def _class_lines(found: Evaluation) -> list[str]:
    """A line a class: IoU, share of the truth, and what was measured image by image."""
    from segedge.measure.evaluate.metrics import BY_IMAGE
    from segedge.measure.report.table import percent

    asked = [metric for metric in BY_IMAGE if found.score(metric) is not None]
    width = max(len("class"), *(len(name) for name in found.iou))
    truth = found.confusion.matrix.sum(axis=1)
    total = max(int(truth.sum()), 1)
    head = f"{'class':<{width}}     IoU   of truth"
    lines = [head + "".join(f"   {metric.column}" for metric in asked)]
    for number, (name, iou) in enumerate(found.iou.items()):
        line = f"{name:<{width}}  {percent(iou):>6}    {percent(truth[number] / total):>6}"
        for metric in asked:
            line += f"{percent(found.by_image[metric.key][name]):>{3 + len(metric.column)}}"
        lines.append(line)
    return lines

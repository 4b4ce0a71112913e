"""`segedge adapt`: a model fitted to a camera by what its images are, without labels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from segedge.cli.console import out, print_json, print_prose, print_row
from segedge.cli.groups import Option
from segedge.cli.options import AsJson
from segedge.cli.progress import step_progress
from segedge.cli.verbs.labelled import DataGroup

if TYPE_CHECKING:
    from segedge.adaptation.options import AdaptReport, Trial

_NOT_WRITTEN = 1


def adapt_command(
    model: Annotated[Path, typer.Argument(help="An ONNX file in float32 with its card.")],
    images: Annotated[
        str,
        Option(
            "What the camera sees, without labels: a folder, glob, video, camera or stream.",
            metavar="IMAGES",
        ),
    ],
    labels: DataGroup,
    output: Annotated[
        Path | None, Option("The file to write; MODEL.adapted.onnx.", "-o --out")
    ] = None,
    frames: Annotated[int, "Images at most, evenly spread over the time."] = 64,
    seconds: Annotated[float, "How long a camera or stream is watched."] = 60.0,
    share: Annotated[
        float | None, "How far to move, above 0 to 1; None: what looks best on frames held back."
    ] = None,
    source: Annotated[
        str | None,
        Option(
            "Images like those of training, for a file that does not say what its layers expect.",
            metavar="IMAGES",
        ),
    ] = None,
    evaluate: Annotated[
        Path | None,
        Option("Labelled images of the camera: their mIoU decides.", metavar="DATASET"),
    ] = None,
    limit: Annotated[int | None, "At most so many labelled images, evenly spread."] = None,
    as_json: AsJson = False,
) -> None:
    """Fit a model to a camera: the same graph with weights that expect what this camera gives.

    Exit code 0: written; 1: it does not help, nothing is written; 2: an error.
    """
    from segedge.adaptation.adapt import adapt
    from segedge.adaptation.options import AdaptOptions
    from segedge.card.modelfile import require_card

    target = output or model.with_name(f"{model.stem}.adapted.onnx")
    options = AdaptOptions(frames=frames, seconds=seconds, share=share, source=source, limit=limit)
    dataset = None if evaluate is None else labels.open(evaluate, require_card(model))
    with step_progress() as tell:
        report = adapt(
            model, target, images=images, options=options, dataset=dataset, progress=tell
        )
    if as_json:
        print_json(report.to_dict())
    else:
        _print(report, model)
    raise typer.Exit(0 if report.helped else _NOT_WRITTEN)


def _print(report: AdaptReport, model: Path) -> None:
    left = f", {report.constant} of one colour left out" if report.constant else ""
    print_row("images", f"{report.frames}, {report.different} of them different{left}")
    pooled = f"; {report.left} of values pooled to a point or few stay" if report.left else ""
    print_row("layers", f"{report.layers} moved, by {report.statistics}{pooled}")
    out().print()
    for line in _table(report):
        out().print(line, markup=False)
    out().print()
    before, after = report.before, report.chosen
    if report.out is None:
        print_prose(
            "refused",
            f"nothing looks better than the file as it is{_of_labels(report)}: it fits these "
            "images, or what is wrong with them is not for statistics to mend. Nothing is written",
        )
        return
    gain = f"information {before.information:.2f} to {after.information:.2f} nats"
    if before.miou is not None and after.miou is not None:
        gain = f"mIoU {100 * before.miou:.2f} to {100 * after.miou:.2f}"
    print_row("adapted", f"{100 * after.share:.0f} % of the way: {gain}")
    for warning in report.warnings:
        print_prose("warning", warning)
    print_row("wrote", str(report.out))
    print_row("next", f"segedge compare {model} {report.out} --images IMAGES")


def _of_labels(report: AdaptReport) -> str:
    return "" if report.before.miou is None else " by its mIoU"


def _table(report: AdaptReport) -> list[str]:
    """Every share that was tried, the network as it was first."""
    head = f"{'share':>6}  {'confidence':>10}  {'information':>11}"
    scored = report.before.miou is not None
    lines = [head + (f"  {'mIoU':>6}" if scored else "")]
    return lines + [_row(trial, report) for trial in report.trials]


def _row(trial: Trial, report: AdaptReport) -> str:
    line = f"{trial.share:>6.2f}  {trial.confidence:>10.3f}  {trial.information:>11.3f}"
    if trial.miou is not None:
        line += f"  {100 * trial.miou:>6.2f}"
    if trial is report.chosen:
        line += "  taken" if report.helped else "  stays"
    return line

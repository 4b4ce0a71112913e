"""`segedge quantize`: an ONNX model to int8, with the accuracy that this costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

import typer

from segedge.cli.console import out, print_json, print_prose, print_row
from segedge.cli.groups import Option
from segedge.cli.options import AsJson
from segedge.cli.progress import step_progress
from segedge.cli.verbs.labelled import DataGroup
from segedge.machine.files import megabytes

if TYPE_CHECKING:
    from segedge.measure.optimize.guard import GuardOptions, GuardPoint, GuardReport
    from segedge.precision.int8.int8 import QuantizeReport
    from segedge.precision.int8.quantizer import LayerChoice, QuantizeOptions

_OVER_THE_BOUND = 1
_SHOWN = 10
"""Kept layers that are named."""
_POOR_AGREEMENT = 0.98


@dataclass(frozen=True)
class QuantizeGroup:
    """How ranges are found, and what becomes of them."""

    method: Annotated[str, "auto (tries all), minmax, percentile, entropy or mse."] = "auto"
    percentile: Annotated[float, "Share of the values inside the range, for percentile."] = 99.99
    images: Annotated[int, "Calibration images at most, evenly sampled."] = 64
    keep: Annotated[list[str] | None, "Layer name or pattern that stays float; repeatable."] = None
    quantize_classifier: Annotated[bool, "The last layer to int8, too."] = False
    correct: Annotated[bool, "Try equalised channels and corrected biases, keep what helps."] = True
    activations: Annotated[
        str, "int8 for every runtime; uint8 for CPUs alone, where it is faster."
    ] = "int8"
    weight_bits: Annotated[int, "8, or 7 for CPUs without VNNI; docs/quantize.md."] = 8

    @cached_property
    def value(self) -> QuantizeOptions:
        """The same, checked."""
        from segedge.precision.int8.quantizer import QuantizeOptions

        return QuantizeOptions(**{**vars(self), "keep": tuple(self.keep or ())})


@dataclass(frozen=True, kw_only=True)
class GuardGroup:
    """What may be lost, and who says how much it is."""

    panel: ClassVar[str] = "Guard"
    evaluate: Annotated[
        Path | None, Option("Guard mIoU on this data set; docs/evaluate.md.", metavar="DATASET")
    ] = None
    labels: DataGroup
    limit: Annotated[int | None, "At most so many images of the data set, evenly spread."] = None
    max_drop: Annotated[
        float | None,
        "Points that may be lost. 0.5 of mIoU with --evaluate; else of pixel agreement with the"
        " float model on the calibration images.",
    ] = None
    judge: Annotated[str, "Measure on: simulated int8, onnxruntime or openvino."] = "simulated"

    @cached_property
    def value(self) -> GuardOptions | None:
        """None: no bound is asked for."""
        from segedge.measure.optimize.guard import GuardOptions

        options = GuardOptions(max_drop=self.max_drop, judge=self.judge, limit=self.limit)  # type: ignore[arg-type]
        return None if self.evaluate is None and self.max_drop is None else options


def quantize_command(
    model: Annotated[Path, typer.Argument(help="An ONNX file in float32 with its card.")],
    calibrate: Annotated[
        list[str],
        Option(
            "Folder, glob, image or video to measure ranges on; may be repeated.", metavar="IMAGES"
        ),
    ],
    *,
    output: Annotated[
        Path | None, Option("The file to write; MODEL.int8.onnx.", "-o --out")
    ] = None,
    chosen: QuantizeGroup,
    guard: GuardGroup,
    as_json: AsJson = False,
) -> None:
    """Quantize a model to int8: symmetric Q/DQ nodes that every runtime reads.

    With --evaluate or --max-drop a guard measures what that costs, and keeps the most harmful
    layers in float until the bound holds.

    Exit code 0: done; 1: done, but the bound does not hold, the best is written; 2: an error.
    """
    from segedge.card.modelfile import require_card
    from segedge.measure.optimize.guard import quantize_guarded
    from segedge.precision.int8.int8 import quantize

    target = output or model.with_name(f"{model.stem}.int8.onnx")
    labelled, options = guard.evaluate, chosen.value
    dataset = None if labelled is None else guard.labels.open(labelled, require_card(model))
    with step_progress() as tell:
        if guard.value is None:
            plain = quantize(model, target, calibrate=calibrate, options=options, progress=tell)
            _print_plain(plain, model, as_json=as_json)
            return
        guarded = quantize_guarded(
            model, target, calibrate=calibrate, dataset=dataset, options=options, guard=guard.value,
            progress=tell,
        )  # fmt: skip
    _print_guarded(guarded, model, as_json=as_json)
    raise typer.Exit(0 if guarded.holds else _OVER_THE_BOUND)


def _print_plain(report: QuantizeReport, model: Path, *, as_json: bool) -> None:
    if as_json:
        print_json(report.to_dict())
        return
    _print_head(report.images, report.images_sha256, report.layers, model)
    width = max(map(len, report.tried))
    for name, agreement in report.tried.items():
        taken = "  taken" if name == report.taken and len(report.tried) > 1 else ""
        text = f"{name:<{width}} {100 * agreement:6.2f} % of the labels as in float{taken}"
        print_row("method", text)
    print_row("logits", f"{100 * report.logit_error:.1f} % of their deviation off (RMS), simulated")
    if report.agreement < _POOR_AGREEMENT:
        print_prose(
            "note",
            f"that is poor: under {100 * _POOR_AGREEMENT:.0f} % of the labels stay; the guard "
            "keeps the most harmful layers float: --evaluate DATASET, or --max-drop 1",
        )
    _print_end(report.warnings, report.out, report.size_bytes, report.source_bytes)
    print_row("next", f"segedge eval {report.out} DATASET    says what it costs")


def _print_guarded(report: GuardReport, model: Path, *, as_json: bool) -> None:
    if as_json:
        print_json(report.to_dict())
        return
    _print_head(report.images, report.images_sha256, report.layers, model)
    what = "mIoU" if report.metric == "miou" else "agreement"
    print_row("judge", f"{what} on {report.judged_on}, {report.judge}")
    out().print()
    for line in _table(report):
        out().print(line, markup=False)
    out().print()
    kept = [layer for layer in report.layers if not layer.int8]
    for layer in kept[:_SHOWN]:
        print_prose("float", f"{layer.name} ({layer.op}): {layer.reason}")
    if len(kept) > _SHOWN:
        print_row("", f"and {len(kept) - _SHOWN} more; --json lists them")
    if report.chosen.corrections:
        print_row("corrected", ", ".join(report.chosen.corrections))
    drop, bound = report.chosen.drop, report.max_drop
    if report.holds:
        print_row("guard", f"{_points(drop)} of {what} lost, within {bound:g}")
    else:
        print_prose(
            "guard",
            f"the bound does not hold: {_points(drop)} of {what} lost at best, {bound:g} allowed; "
            "the best is written. More calibration images, or float for more of the network, "
            "may help" + _hint(report),
        )
    _print_end(report.warnings, report.out, report.size_bytes, report.source_bytes)
    print_row("next", f"segedge compare {model} {report.out} --images FOLDER")


def _hint(report: GuardReport) -> str:
    if report.judge == "simulated":
        return ""
    return "; --weight-bits 7 does where the CPU has no VNNI and its int8 sums saturate"


def _print_head(images: int, sha256: str, layers: Sequence[LayerChoice], model: Path) -> None:
    from segedge.precision.int8.quantizer import mac_share

    int8 = sum(layer.int8 for layer in layers)
    print_row("model", model.name)
    print_row("calibrated", f"on {images} images, SHA-256 {sha256[:12]}")
    print_row(
        "int8",
        f"{int8} of {len(layers)} convolutions, {100 * mac_share(layers):.1f} % of their work",
    )


def _print_end(warnings: Sequence[str], path: Path, size: int, source: int) -> None:
    for warning in warnings:
        print_prose("warning", warning)
    print_row("wrote", f"{path}  {megabytes(size)}; float32 is {megabytes(source)}")


def _table(report: GuardReport) -> list[str]:
    """Every network that was judged, the float one first."""
    what = "mIoU" if report.metric == "miou" else "agreement"
    head = ["method", "float layers", "work in int8", what, "drop", "network ms", ""]
    first = ["float32", "all", "0.0 %", f"{100 * report.float_score:.2f}", "",
             _milliseconds(report.float_network_ms), ""]  # fmt: skip
    rows = [head, first, *(_row(point, report) for point in report.points)]
    if report.judge == "simulated":  # which has no speed
        rows = [row[:5] + row[6:] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = [cell.rjust(width) for cell, width in zip(row[1:-1], widths[1:], strict=False)]
        lines.append("  ".join([row[0].ljust(widths[0]), *cells, row[-1]]).rstrip())
    return lines


def _row(point: GuardPoint, report: GuardReport) -> list[str]:
    return [
        point.method + ", corrected" * bool(point.corrections), str(point.kept),
        f"{100 * point.mac_share:.1f} %", f"{100 * point.score:.2f}", f"{point.drop:+.2f}",
        _milliseconds(point.network_ms), "written" if point == report.chosen else "",
    ]  # fmt: skip


def _milliseconds(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"


def _points(drop: float) -> str:
    return f"{max(drop, 0.0):.2f} points"

"""What `segedge compare` prints."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from segedge.cli.console import out, print_prose, print_row
from segedge.cli.verbs.labelled import print_left_out
from segedge.measure.report.table import percent

if TYPE_CHECKING:
    from segedge.measure.evaluate.agreement import Agreement
    from segedge.measure.evaluate.versus import Versus


def print_agreement(
    found: Agreement, names: dict[str, str], images: str, *, scores: Versus | None, worst: int
) -> None:
    """The comparison for people: of ``names``, on ``images``; scores where there is a truth."""
    for text in found.findings:
        print_prose("found", text)
    for label, text in names.items():
        print_row(label, text)
    print_row("images", f"{len(found.images)}  {images}")
    if scores is not None:
        first, second = scores.first, scores.second
        print_row("mIoU", _both(first.miou, second.miou))
        print_row("accuracy", _both(first.pixel_accuracy, second.pixel_accuracy))
    error = found.max_logit_error
    print_row(
        "pixels",
        f"{100 * found.agreement:.3f} % equal, {100 * found.ambiguous:.3f} % ambiguous left out"
        + (f"; max logit error {error:.2g}" if error is not None else ""),
    )
    for image in found.worst_images(worst):
        print_row("worst", f"{100 * image.agreement:.3f} % on {image.name}")
    for lost in scores.worst(worst) if scores is not None else ():
        print_row("lost", f"{_both(lost.first, lost.second)} mIoU on {lost.name}")
    out().print()
    for line in _class_lines(found, scores):
        out().print(line, markup=False)
    print_prose("", "equal: pixels that both give the class, of those that either does")
    if scores is not None:
        print_left_out(scores.dataset.notes, scores.failures, scores.dataset.missing)


def _class_lines(found: Agreement, scores: Versus | None) -> list[str]:
    width = max(len("class"), *(len(name) for name in found.classes))
    head = f"{'class':<{width}}     equal"
    if scores is not None:
        head += "   IoU first   second   difference"
    lines = [head]
    for name, share in found.class_agreement.items():
        line = f"{name:<{width}}  {'-' if share is None else f'{100 * share:.3f}':>8}"
        if scores is not None:
            first, second = scores.first.iou_per_class[name], scores.second.iou_per_class[name]
            line += f"    {percent(first):>8} {percent(second):>8}"
            line += f"     {_change(first, second):>8}"
        lines.append(line)
    return lines


def _both(first: float, second: float) -> str:
    return f"{percent(first)} and {percent(second)}: {_change(first, second)}"


def _change(first: float | None, second: float | None) -> str:
    if first is None or second is None or first != first or second != second:
        return "-"
    return f"{100 * (second - first):+.2f}"


def as_data(
    found: Agreement, names: dict[str, str], images: str, scores: Versus | None
) -> dict[str, Any]:
    """The comparison for machines."""
    return {
        **names,
        "images": images,
        "findings": list(found.findings),
        "agreement": found.agreement,
        "ambiguous": found.ambiguous,
        "max_logit_error": found.max_logit_error,
        "class_agreement": found.class_agreement,
        "per_image": [
            {"name": i.name, "agreement": i.agreement, "max_logit_error": i.max_logit_error}
            for i in found.images
        ],
        **(scores.to_dict() if scores is not None else {}),
    }

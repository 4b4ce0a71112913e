"""An evaluation as one self-contained page: the scores, the classes, the mistakes, the worst."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from segedge.card.labels import Rgb
from segedge.measure.evaluate.evaluate import Evaluation
from segedge.measure.evaluate.metrics import BY_IMAGE, METRICS
from segedge.measure.evaluate.shots import Shot
from segedge.measure.report.page import bullets, facts, figure, page, paragraph, section, table
from segedge.measure.report.pictures import matrix, panels, swatches
from segedge.measure.report.svg import Bar, Distribution, distributions, stacked_bars
from segedge.measure.report.table import percent
from segedge.motion.summary import sentence

_BARS_SHOWN = 40
"""Classes with a bar, the worst of them; the table has all."""
_MATRIX_SHOWN = 40
"""Classes up to which the matrix can be read."""
_MISTAKES_SHOWN = 12
_NAMED = 20
"""Missing images that are named."""


def html(
    found: Evaluation,
    shots: Sequence[Shot] = (),
    *,
    model: str,
    sha256: str,
    palette_rgb: Sequence[Rgb],
) -> str:
    """The whole page."""
    return page(
        f"{model} on {found.dataset}",
        [
            _scores(found),
            section("Not counted", _left_out(found)),
            _classes(found),
            _mistakes(found),
            _images(found),
            _worst(found, shots, palette_rgb),
            _surroundings(found, model, sha256),
        ],
        answer=_answer(found),
        footer=f"segedge eval, {found.environment.date}",
    )


def _answer(found: Evaluation) -> str:
    told = f"{percent(found.miou)} mIoU, {percent(found.pixel_accuracy)} % of the pixels right"
    told += f" on {found.count} image{'' if found.count == 1 else 's'}."
    known = [(name, iou) for name, iou in found.iou.items() if iou is not None]
    if len(known) > 1:
        best, worst = max(known, key=lambda pair: pair[1]), min(known, key=lambda pair: pair[1])
        told += f" Best class: {best[0]} ({percent(best[1])}); "
        told += f"worst: {worst[0]} ({percent(worst[1])})."
    return told


def _scores(found: Evaluation) -> str:
    scores = [(metric, found.score(metric)) for metric in METRICS]
    rows = [[m.label, percent(share), m.meaning] for m, share in scores if share is not None]
    return section("Scores", table([["score", "%", "what it is"], *rows]))


def _left_out(found: Evaluation) -> str:
    told = [*found.notes, *(f"{name}: {reason}" for name, reason in found.failures)]
    if found.missing:
        more = len(found.missing) - _NAMED
        named = ", ".join(found.missing[:_NAMED]) + (f" and {more} more" if more > 0 else "")
        told.append(f"{len(found.missing)} images without labels: {named}")
    return bullets(told, kind="warning")


def _classes(found: Evaluation) -> str:
    matrix_tp = found.confusion.matrix
    hits, truth, called = np.diag(matrix_tp), matrix_tp.sum(axis=1), matrix_tp.sum(axis=0)
    either = truth + called - hits
    total = max(int(truth.sum()), 1)
    order = sorted(np.flatnonzero(either).tolist(), key=lambda n: -hits[n] / either[n])
    names = found.confusion.classes
    bars = [
        Bar(
            names[n],
            (
                ("right", 100.0 * float(hits[n] / either[n])),
                ("missed", 100.0 * float((truth[n] - hits[n]) / either[n])),
                ("wrongly called so", 100.0 * float((called[n] - hits[n]) / either[n])),
            ),
            f"{percent(float(hits[n] / either[n]))} IoU",
        )
        for n in order[-_BARS_SHOWN:]
    ]
    asked = [metric for metric in BY_IMAGE if found.score(metric) is not None]
    rows = [["class", "IoU %", "recall %", "precision %", "of truth %"]]
    rows[0] += [f"{metric.column} %" for metric in asked]
    for n, name in enumerate(names):
        row = [_ratio(hits[n], either[n]), _ratio(hits[n], truth[n]), _ratio(hits[n], called[n])]
        row += [percent(float(truth[n] / total))]
        rows.append([name, *row, *(percent(found.by_image[m.key][name]) for m in asked)])
    return section(
        "Classes",
        figure(
            stacked_bars(bars, title="Classes", unit="%"),
            caption="Of all pixels that are of the class or were called so: the part that is both "
            "(the IoU), that is of the class and was called otherwise, and that was wrongly "
            "called so."
            + (f" The {_BARS_SHOWN} worst classes." if len(order) > _BARS_SHOWN else ""),
            legend=["right", "missed", "wrongly called so"],
        ),
        table(rows),
    )


def _mistakes(found: Evaluation) -> str:
    confusion = found.confusion
    truth = confusion.matrix.sum(axis=1)
    wrong = max(confusion.pixels - int(np.trace(confusion.matrix)), 1)
    rows = [["truth", "called", "of this truth %", "of all mistakes %"]]
    for true, called, pixels in confusion.mistakes(_MISTAKES_SHOWN):
        share = pixels / int(truth[confusion.classes.index(true)])
        rows.append([true, called, percent(share), percent(pixels / wrong)])
    parts = [table(rows, caption="The most frequent mistakes")] if len(rows) > 1 else []
    occur = [n for n, count in enumerate(truth) if count or confusion.matrix[:, n].any()]
    if len(occur) <= _MATRIX_SHOWN:
        shares = [
            [float(confusion.matrix[t, p] / truth[t]) if truth[t] else None for p in occur]
            for t in occur
        ]
        caption = "Rows: the truth; columns: what it was called; percent of the row's pixels"
        names = [confusion.classes[n] for n in occur]
        parts.append(matrix(names, shares, caption=caption, between="called"))
    else:
        parts.append(
            paragraph(f"A matrix of {len(occur)} classes is in the JSON file only.", kind="note")
        )
    return section("Confusion", *parts)


def _images(found: Evaluation) -> str:
    values = [100.0 * image.miou for image in found.images if image.pixels]
    if len(values) < 3:
        return ""
    quantiles = tuple(np.quantile(values, np.linspace(0, 1, min(len(values), 101))).tolist())
    low, middle, high = (float(np.quantile(values, share)) for share in (0, 0.5, 1))
    note = f"lowest {low:.2f}, median {middle:.2f}, highest {high:.2f}"
    return section(
        "Images",
        figure(
            distributions(
                [Distribution("mIoU", quantiles, note=note)], title="mIoU of the images", unit="%"
            ),
            caption="Each image by itself: the mean IoU of the classes that occur in it. Line: "
            "median; dashed: 95 % of the images lie below.",
        ),
    )


def _worst(found: Evaluation, shots: Sequence[Shot], palette_rgb: Sequence[Rgb]) -> str:
    if not shots:
        return ""
    names = found.confusion.classes
    seen = found.confusion.matrix.sum(axis=0) + found.confusion.matrix.sum(axis=1)
    colors = [(name, palette_rgb[n]) for n, name in enumerate(names) if seen[n]]
    return section(
        "Worst images",
        paragraph(
            "Errors: wrong pixels in magenta; what is nearly black does not count.", kind="note"
        ),
        swatches([*colors, ("does not count", (0, 0, 0))]),
        *(
            panels(
                (
                    ("image", shot.image_jpeg),
                    ("truth", shot.truth_png),
                    ("prediction", shot.prediction_png),
                    ("errors", shot.errors_jpeg),
                ),
                caption=_told(shot),
            )
            for shot in shots
        ),
    )


def _told(shot: Shot) -> str:
    score = shot.score
    told = f"{score.name}: {percent(score.miou)} mIoU, {percent(score.pixel_accuracy)} % right"
    mistakes = [f"{true} called {called} {percent(s)} %" for true, called, s in shot.mistakes]
    return told + ("; of its pixels " + ", ".join(mistakes) if mistakes else "")


def _surroundings(found: Evaluation, model: str, sha256: str) -> str:
    environment = found.environment
    rate = f", {found.count / found.seconds:.1f} images a second" if found.seconds else ""
    told = {
        "model": f"{model}, SHA-256 {sha256}" if sha256 else model,
        "backend": f"{found.description} ({found.backend})",
        "precision": found.precision,
        "images": f"{found.count} of {found.dataset}, {found.confusion.pixels} pixels counted",
        "seen": found.slide or "whole images, brought to the network's size",
        "cleaning": found.cleaning or "none",
        **({"motion": sentence(found.motion)} if found.motion else {}),
        "time": f"{found.seconds:.1f} s{rate}",
        "machine": environment.line,
        "system": f"{environment.system}, Python {environment.python}",
        "libraries": ", ".join(f"{n} {v}" for n, v in environment.libraries.items() if v),
        "date": environment.date,
    }
    return section("What was measured", facts(told))


def _ratio(part: int, whole: int) -> str:
    return percent(float(part / whole) if whole else None)

"""Results as one self-contained page: the answer, its charts, then everything raw."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from segedge.card.geometry import Size
from segedge.measure.bench import tables as report
from segedge.measure.bench.accuracy import Accuracy, matched
from segedge.measure.bench.results import INCLUDES, Mode, Results, Row
from segedge.measure.report.page import bullets, facts, figure, page, paragraph, section, table
from segedge.measure.report.plots import Point, Series, line_chart, scatter
from segedge.measure.report.svg import Bar, Distribution, distributions, part_names, stacked_bars
from segedge.measure.report.table import Column, ms, table_of

_DISTRIBUTIONS_SHOWN = 16
_RAW = ("min", "mean", "p90", "p95", "p99", "max")


def html(results: Results, accuracies: Sequence[Accuracy] = ()) -> str:
    """The whole page; accuracies are what evaluation files say of the same model."""
    subject, environment = results.subject, results.environment
    return page(
        f"{subject.model} on {environment.line}",
        [
            _speeds(results),
            section("Doubts", bullets(report.warnings(results), kind="warning")),
            _stages(results),
            _latencies(results),
            _growth(results),
            _against_accuracy(results, accuracies),
            _cut(results),
            _start(results),
            section(
                "Not measured",
                bullets(f"{name}: {reason}" for name, reason in results.skipped.items()),
            ),
            _surroundings(results),
            _raw(results),
        ],
        answer=report.answer(results),
        footer=f"segedge bench, {environment.date}; {subject.rounds} rounds of "
        f"{subject.seconds:g} s a mode, each contender in a process of its own, in turn.",
    )


def _speeds(results: Results) -> str:
    shown = report.first_sizes(results)
    rows = report.speed_table(results, shown)
    kept = [i for i, name in enumerate(rows[0]) if name not in _RAW or name == "p95"]
    best = report.ranked(results)[0]
    modes = dict.fromkeys(row.mode for row in results.rows)
    told: dict[str, str] = {mode: INCLUDES[mode] for mode in modes}
    return section(
        "Speed",
        table([[row[i] for i in kept] for row in rows], marked=shown.index(best)),
        facts({**told, "median within": INCLUDES["within"]}),
    )


def _stages(results: Results) -> str:
    """Stacked where stages follow each other; in a pipeline they overlap and are a table."""
    alone = [row for row in results.rows if row.mode == "frame" and row.stages_ms]
    bars = [
        Bar(
            report.row_name(row, alone).replace(f"{row.backend} frame", row.backend, 1),
            tuple(row.stages_ms.items()),
            f"{ms(row.times.p50_ms)} ms",
        )
        for row in alone
    ]
    chart = figure(
        stacked_bars(bars, title="Stages of a frame"),
        caption="Median of each stage of a frame, one at a time, uint8 BGR image to uint8 BGR "
        "overlay; the tail includes upsampling, argmax and overlay. Without decoding and encoding. "
        "At the right: the median of the whole frame.",
        legend=part_names(bars),
    )
    shown = report.first_sizes(results)
    piped = [row for row in shown if row.mode in ("rate", "video", "motion") and row.stages_ms]
    between: Column[Row] = ("between frames ms", lambda row: ms(row.times.p50_ms))
    rows = table_of(piped, [*report.NAMES, between, *report.stages(piped)])
    told = "In the pipeline, where threads overlap: stages add up to more than the time between "
    overlapped = table(rows, caption=told + "two frames.") if piped else ""
    return section("What takes the time", chart, overlapped)


def _latencies(results: Results) -> str:
    rows = [row for row in report.first_sizes(results) if row.times.quantiles_ms]
    shown = [
        Distribution(
            report.row_name(row, rows), row.times.quantiles_ms, row.times.span_ms,
            f"p50 {ms(row.times.p50_ms)}, p95 {ms(row.times.p95_ms)}, "
            f"max {ms(row.times.max_ms)} ms",
        )
        for row in rows[:_DISTRIBUTIONS_SHOWN]
    ]  # fmt: skip
    return section(
        "Distribution",
        figure(
            distributions(shown, title="Distribution of times"),
            caption="All repeats of all rounds up to p99. Line: median; dashed: p95; bar below: "
            "where the median is known to be. In pipelines: the time between two frames.",
        ),
    )


_Read = Callable[[Row], float | None]


def _growth(results: Results) -> str:
    """Lines over each axis that was varied."""
    return section(
        "Growth",
        _lines(results, "network", lambda r: r.batch, "images at once", "ms an image",
               lambda r: r.batch, "The network alone: its time divided by the batch."),
        _lines(results, "network", lambda r: _megapixels(r.network_size), "megapixels of network",
               "ms", lambda r: 1, "The network alone, batch 1, over the size of its input."),
        _lines(results, "frame", lambda r: _megapixels(r.frame_size), "megapixels of frame", "ms",
               lambda r: 1, "Image to overlay, one at a time, over the size of the frame."),
    )  # fmt: skip


def _lines(
    results: Results, mode: Mode, across: _Read, x_unit: str, y_unit: str,
    divided: Callable[[Row], int], caption: str,
) -> str:  # fmt: skip
    rows = [row for row in results.rows if row.mode == mode]
    if x_unit.startswith("images"):
        rows = [row for row in rows if row.network_size == rows[0].network_size]
    else:
        rows = [row for row in rows if row.batch == 1]
    if x_unit.endswith("frame"):
        rows = [row for row in rows if row.network_size == rows[0].network_size]
    at = sorted({x for row in rows if (x := across(row)) is not None})
    if len(at) < 2:
        return ""
    series = []
    for backend in dict.fromkeys(row.backend for row in rows):
        points = []
        for row in rows:
            x, (low, high) = across(row), row.times.span_ms
            if row.backend == backend and x is not None:
                by = divided(row)
                points.append(Point(x, row.times.p50_ms / by, low / by, high / by))
        series.append(Series(backend, tuple(sorted(points, key=lambda point: point.x))))
    chart = line_chart(series, title=f"{mode} over {x_unit}", x_unit=x_unit, y_unit=y_unit, at=at)
    whiskers = " Points: medians; strokes: where the median is known to be."
    return figure(chart, caption=caption + whiskers, legend=[one.name for one in series])


def _megapixels(size: str) -> float | None:
    if not size[:1].isdigit():
        return None
    parsed = Size.parse(size)
    return parsed.height * parsed.width / 1e6


def _against_accuracy(results: Results, accuracies: Sequence[Accuracy]) -> str:
    pairs = matched(report.ranked(results), accuracies)
    if not accuracies:
        return ""
    if not pairs:
        named = ", ".join(sorted({found.backend or "none" for found in accuracies}))
        return section(
            "Speed against accuracy",
            paragraph(f"The accuracy files name no backend that was measured here: {named}."),
        )
    series: dict[str, list[Point]] = {}
    rows = [["backend", "p50 ms", "/s", "mIoU %", "from"]]
    for row, found in pairs:
        label = " ".join(filter(None, (row.backend, "" if ":" in row.backend else found.precision)))
        point = Point(row.images_per_second, found.miou_percent, label=label)
        series.setdefault(row.backend, []).append(point)
        figures = [ms(row.times.p50_ms), f"{row.images_per_second:.1f}"]
        rows.append([label, *figures, f"{found.miou_percent:.2f}", found.source])
    lines = [Series(name, tuple(points)) for name, points in series.items()]
    chart = scatter(lines, title="Accuracy over speed", x_unit="/s", y_unit="mIoU %")
    mode = pairs[0][0].mode
    caption = f"Right and up is better. Speed: {INCLUDES[mode]}. Accuracy: as the files say."
    return section("Speed against accuracy", figure(chart, caption=caption), table(rows))


def _cut(results: Results) -> str:
    gains = report.cut_gains(results)
    told = "Upsampling and argmax outside the graph, as segedge exports, and inside it (+tail)."
    return section("What the cut brings", paragraph(told), bullets(gains)) if gains else ""


def _start(results: Results) -> str:
    rows = list({row.backend: row for row in reversed(results.rows)}.values())[::-1]
    bars = []
    for row in rows:
        parts = {"import": row.import_ms, "open": row.open_ms, "first frame": row.first_frame_ms}
        known = tuple((name, value) for name, value in parts.items() if value is not None)
        bars.append(Bar(row.backend, known))
    build = " Building an engine happens once and is not in it." if _has_build(rows) else ""
    chart = figure(
        stacked_bars(bars, title="From start to the first frame"),
        caption="From the start of Python's imports to the first overlay, medians of the rounds; "
        f"the interpreter's own start is not in it.{build}",
        legend=part_names(bars),
    )
    names = ("import", "open", "first", "peak", *(("build",) if build else ()))
    told = {name: INCLUDES[name] for name in names}
    return section("Start and memory", chart, table(report.start_table(results)), facts(told))


def _has_build(rows: Sequence[Row]) -> bool:
    return any(row.build_ms is not None for row in rows)


def _surroundings(results: Results) -> str:
    environment, subject = results.environment, results.subject
    told = {
        "CPU": f"{environment.cpu} ({environment.machine}), {environment.threads} of "
        f"{environment.processors} threads, {' '.join(environment.cpu_flags) or 'no vector units'}",
        "governor": environment.governor or "not told by this system",
        "load before": f"{environment.load_1_min:g}",
        "GPU": environment.gpu or environment.driver,
        "system": environment.system,
        "Python": environment.python,
        "libraries": ", ".join(f"{n} {v}" for n, v in environment.libraries.items() if v),
        "date": environment.date,
        "model": f"{subject.model}, SHA-256 {subject.sha256}",
        **report.descriptions(results),
    }
    seen = report.machine_table(results)
    return section(
        "Environment",
        facts(told),
        table(seen, caption="Processor time in percent of one processor, while measured; clocks")
        if seen
        else "",
    )


def _raw(results: Results) -> str:
    rows = report.speed_table(results)
    counts = [["repeats"], *([str(row.times.count)] for row in results.rows)]
    return section(
        "Raw numbers",
        table(
            [[*row, *count] for row, count in zip(rows, counts, strict=True)],
            caption="Milliseconds; the JSON file has the distributions, too",
        ),
    )

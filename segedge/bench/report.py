"""Results as tables of text, and as Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from segedge.bench.compare import Ratio
from segedge.bench.results import INCLUDES, Results, Row

Table = list[list[str]]
TOO_WIDE = 0.20
"""Span of the median, as a share of it, above which a figure says nothing finer."""
_UNSTEADY_ROUNDS = 0.10


def speed_table(results: Results) -> Table:
    """Latency of each backend and mode; the first row is the head."""
    head = ["mode", "backend", "p50 ms", "median within", "min", "mean", "p90", "p95", "p99", "max"]
    return [[*head, "/s"], *(_speed_row(row) for row in results.rows)]


def _speed_row(row: Row) -> list[str]:
    t = row.times
    low, high = t.span_ms
    figures = (t.min_ms, t.mean_ms, t.p90_ms, t.p95_ms, t.p99_ms, t.max_ms)
    texts = [_ms(value) for value in figures]
    span = f"{_ms(low)} .. {_ms(high)}"
    return [row.mode, row.backend, _ms(t.p50_ms), span, *texts, f"{t.per_second:.1f}"]


def stage_table(results: Results) -> Table:
    """What takes the time of a frame: medians of the stages, and the start."""
    rows = list({row.backend: row for row in sorted(results.rows, key=_frame_last)}.values())
    names = list(dict.fromkeys(stage for row in rows for stage in row.stages_ms))
    table = [["backend", *(f"{name} ms" for name in names), "open ms", "first ms", "peak MB"]]
    for row in rows:
        stages = [_ms(row.stages_ms[n]) if n in row.stages_ms else "-" for n in names]
        start = [f"{v:.0f}" for v in (row.open_ms, row.first_frame_ms, row.peak_memory_mb)]
        table.append([row.backend, *stages, *start])
    return table


def _frame_last(row: Row) -> bool:
    return row.mode == "frame"


def ratio_table(ratios: Sequence[Ratio]) -> Table:
    """The second results over the first."""
    head = ["mode", "backend", "first ms", "second ms", "ratio", "interval", "verdict"]
    return [
        head,
        *(
            [
                r.mode, r.backend, _ms(r.before_ms), _ms(r.after_ms), f"{r.value:.3f}",
                f"{r.low:.3f} .. {r.high:.3f}", r.verdict,
            ]
            for r in ratios
        ),
    ]  # fmt: skip


def warnings(results: Results) -> list[str]:
    """Why a reader should doubt these figures."""
    found = []
    environment = results.environment
    if environment.was_busy:
        found.append(
            f"the machine was busy: load {environment.load_1_min:g} on "
            f"{environment.processors} processors before the first round"
        )
    for row in results.rows:
        name, times = f"{row.backend} {row.mode}", row.times
        spread = (max(times.rounds_ms) - min(times.rounds_ms)) / times.p50_ms
        if times.relative_span > TOO_WIDE:
            found.append(
                f"{name}: too noisy to say: median uncertain by {100 * times.relative_span:.0f} %;"
                " raise --rounds, --seconds"
            )
        elif spread > _UNSTEADY_ROUNDS:
            found.append(f"{name}: the medians of the rounds differ by {100 * spread:.0f} %")
        if not row.is_steady:
            found.append(f"{name}: the warm-up did not become steady")
    return found


def included(results: Results) -> list[tuple[str, str]]:
    """What each figure of these results includes."""
    modes = list(dict.fromkeys(row.mode for row in results.rows))
    return [(name, INCLUDES[name]) for name in (*modes, "within", "open", "first", "peak")]


def text_lines(table: Table) -> list[str]:
    """Aligned columns, numbers to the right."""
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    is_left = [not any(c.isdigit() for c in table[1][i][:1]) for i in range(len(widths))]
    return [
        "  ".join(
            cell.ljust(width) if left else cell.rjust(width)
            for cell, width, left in zip(row, widths, is_left, strict=True)
        ).rstrip()
        for row in table
    ]


def markdown(results: Results) -> str:
    """A page that can be pasted into an issue."""
    subject = results.subject
    parts = [
        f"# {subject.model} on {results.environment.line}",
        f"Network {subject.network_size}, frame {subject.frame_size}; {subject.rounds} rounds of "
        f"{subject.seconds:g} s; model SHA-256 {subject.sha256[:12]}; "
        f"{results.environment.date}, Python {results.environment.python}.",
        _markdown_table(speed_table(results)),
        _markdown_table(stage_table(results)),
    ]
    notes = [f"- **{name}**: {text}" for name, text in included(results)]
    notes += [
        f"- **{row.backend}**: {row.description}" for row in results.rows if _is_first(row, results)
    ]
    notes += [f"- **warning**: {text}" for text in warnings(results)]
    notes += [f"- **skipped** {name}: {reason}" for name, reason in results.skipped.items()]
    return "\n\n".join([*parts, "\n".join(notes)]) + "\n"


def _is_first(row: Row, results: Results) -> bool:
    return next(r for r in results.rows if r.backend == row.backend) is row


def _markdown_table(table: Table) -> str:
    cells = [[cell.replace("|", "\\|") for cell in row] for row in table]
    lines = [cells[0], ["---"] * len(cells[0]), *cells[1:]]
    return "\n".join(f"| {' | '.join(row)} |" for row in lines)


def _ms(value: float) -> str:
    return f"{value:.2f}" if value < 100 else f"{value:.0f}"

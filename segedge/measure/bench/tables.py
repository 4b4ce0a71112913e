"""Results as tables, as one sentence, and as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from segedge.measure.bench.compare import Ratio
from segedge.measure.bench.names import TAIL
from segedge.measure.bench.results import INCLUDES, Mode, Results, Row
from segedge.measure.bench.watch import Observed, doubts
from segedge.measure.report.table import (
    Column,
    markdown_table,
    ms,
    span,
    table_of,
    text_lines,
    whole,
)

Table = list[list[str]]
TOO_WIDE = 0.20
"""Span of the median, as a share of it, above which a figure says nothing finer."""
_UNSTEADY_ROUNDS = 0.10
_NAMED = 3
"""How many a warning names."""
_RANKED: tuple[Mode, ...] = ("frame", "rate", "network", "video", "motion")
"""Which mode says who is fastest, the first that was measured."""
_DROPPED = (("min", "mean", "max"), ("p90", "p99"), ("median within",))
"""Columns that a narrow table does without, step by step."""


def first_sizes(results: Results) -> list[Row]:
    """The rows of each mode at its first sizes: what backends are compared by."""
    first: dict[Mode, str] = {}
    for row in results.rows:
        first.setdefault(row.mode, row.key.sizes)
    return [row for row in results.rows if row.key.sizes == first[row.mode]]


def speed_table(results: Results, rows: Sequence[Row] | None = None) -> Table:
    """Latency of each backend and mode, of all rows or of some; the first row is the head."""
    rows = results.rows if rows is None else rows
    columns: list[Column[Row]] = [
        ("p50 ms", lambda row: ms(row.times.p50_ms)),
        ("median within", lambda row: span(row.times.span_ms)),
        ("min", lambda row: ms(row.times.min_ms)),
        ("mean", lambda row: ms(row.times.mean_ms)),
        ("p90", lambda row: ms(row.times.p90_ms)),
        ("p95", lambda row: ms(row.times.p95_ms)),
        ("p99", lambda row: ms(row.times.p99_ms)),
        ("max", lambda row: ms(row.times.max_ms)),
        ("/s", lambda row: f"{row.images_per_second:.1f}"),
    ]
    return table_of(rows, [*NAMES, *_varying(rows), *columns])


NAMES: tuple[Column[Row], ...] = (
    ("mode", lambda row: row.key.what),
    ("backend", lambda r: r.backend),
)


def _varying(rows: Sequence[Row]) -> list[Column[Row]]:
    """The columns for sizes and batches of which there are several."""
    columns: list[Column[Row]] = [
        ("batch", lambda row: str(row.batch)),
        ("network", lambda row: row.network_size),
        ("frame", lambda row: row.key.frame_size or "-"),
    ]
    return [
        (name, read)
        for name, read in columns
        if len({read(row) for row in rows} - {"-", "of the video"}) > 1
    ]


def narrowed(table: Table, width: int) -> Table:
    """The table without the columns that do not fit; a file has them all."""
    for names in _DROPPED:
        if max(map(len, text_lines(table))) <= width:
            break
        kept = [i for i, name in enumerate(table[0]) if name not in names]
        table = [[row[i] for i in kept] for row in table]
    return table


def stage_table(results: Results) -> Table:
    """What takes the time of a frame: medians of the stages; empty where none was measured."""
    rows = [row for row in results.rows if row.stages_ms]
    return table_of(rows, [*NAMES, *_varying(rows), *stages(rows)]) if rows else []


def stages(rows: Sequence[Row]) -> list[Column[Row]]:
    """A column a stage."""

    def column(name: str) -> Column[Row]:
        return f"{name} ms", lambda row: ms(row.stages_ms[name]) if name in row.stages_ms else "-"

    return [column(name) for name in dict.fromkeys(name for row in rows for name in row.stages_ms)]


def start_table(results: Results) -> Table:
    """What it takes until the first frame, and memory: one row a backend, at the first size."""
    rows = list({row.backend: row for row in reversed(results.rows)}.values())[::-1]
    columns: list[Column[Row]] = [
        ("import ms", lambda row: whole(row.import_ms)),
        ("open ms", lambda row: whole(row.open_ms)),
        ("build ms", lambda row: whole(row.build_ms)),
        ("first ms", lambda row: whole(row.first_frame_ms)),
        ("peak MB", lambda row: whole(row.peak_memory_mb)),
        ("GPU MB", lambda row: whole(row.device_memory_mb)),
    ]
    told = [(name, read) for name, read in columns if any(read(row) != "-" for row in rows)]
    return table_of(rows, [NAMES[1], *told])


def machine_table(results: Results) -> Table:
    """What the machine did meanwhile, over all sizes; empty where that is not known."""
    parts: dict[tuple[str, str], list[Observed]] = {}
    for row in results.rows:
        if row.observed is not None:
            parts.setdefault((row.key.what, row.backend), []).append(row.observed)
    joined = {names: Observed.join(seen) for names, seen in parts.items()}
    if not joined:
        return []
    gpu = list(dict.fromkeys(name for seen in joined.values() for name in seen.gpu))
    head = ["mode", "backend", "own CPU %", "others %", "stolen %", "CPU MHz"]
    table = [[*head, *(f"GPU {name}" for name in gpu)]]
    for names, seen in joined.items():
        shares = (seen.own_percent, seen.others_percent, seen.stolen_percent)
        spreads = [seen.cpu_mhz, *(seen.gpu.get(name) for name in gpu)]
        clocks = ["-" if spread is None else str(spread) for spread in spreads]
        table.append([*names, *map(whole, shares), *clocks])
    return table


def ratio_table(ratios: Sequence[Ratio]) -> Table:
    """The second results over the first."""
    sizes = {r.key.sizes for r in ratios}
    is_one = len(sizes) <= 1 or len({s.partition(", frame")[0] for s in sizes}) <= 1
    columns: list[Column[Ratio]] = [
        ("mode", lambda r: r.key.what),
        ("backend", lambda r: r.key.backend),
        ("sizes", lambda r: r.key.sizes),
        ("first ms", lambda r: ms(r.before_ms)),
        ("second ms", lambda r: ms(r.after_ms)),
        ("ratio", lambda r: f"{r.value:.3f}"),
        ("interval", lambda r: f"{r.low:.3f} .. {r.high:.3f}"),
        ("verdict", lambda r: r.verdict),
    ]
    return table_of(ratios, [column for column in columns if column[0] != "sizes" or not is_one])


def ranked(results: Results) -> list[Row]:
    """The rows that say who is fastest: one mode, the first size, the fastest first."""
    for mode in _RANKED:
        rows = [row for row in first_sizes(results) if row.mode == mode]
        if rows:
            return sorted(rows, key=lambda row: row.times.p50_ms)
    return []


def answer(results: Results) -> str:
    """What a reader wants to know, in two sentences."""
    best, *others = ranked(results)
    said = _what(best)
    if best.times.relative_span > TOO_WIDE:
        low, high = best.times.span_ms
        return (
            f"The machine was too noisy to say much: {said} took {ms(low)} to {ms(high)} ms with "
            f"{best.backend}."
        )
    rate = f"{best.images_per_second:.0f} a second"
    share = _network_share(best)
    text = f"{best.backend}: {said} takes {ms(best.times.p50_ms)} ms ({rate}){share}."
    if best.observed is not None and best.observed.was_busy:
        text = f"Measured on a machine that was busy with other work. {text}"
    rivals = [row for row in others if not row.backend.endswith(TAIL)]
    if not rivals:
        return text
    second = rivals[0]
    if second.times.span_ms[0] <= best.times.span_ms[1]:
        return f"{text} {second.backend} cannot be told apart from it here."
    times = second.times.p50_ms / best.times.p50_ms
    return f"{text} That is the fastest here; {second.backend} takes {times:.2f} times as long."


def _what(row: Row) -> str:
    if row.mode == "network":
        batch = f" of {row.batch} images" if row.batch > 1 else ""
        return f"the network alone at {row.network_size}{batch}"
    if row.mode == "video":
        return "a frame of the video, decoded to encoded,"
    if row.mode == "motion":
        return f"a {row.frame_size} frame in the pipeline, the network on every {row.every},"
    how = "from image to overlay" if row.mode == "frame" else "in the pipeline"
    return f"a {row.frame_size} frame {how}"


def _network_share(row: Row) -> str:
    total = sum(row.stages_ms.values())
    if row.mode != "frame" or "network" not in row.stages_ms or total <= 0.0:
        return ""
    return f", {100 * row.stages_ms['network'] / total:.0f} % of it in the network"


def cut_gains(results: Results) -> list[str]:
    """What it brings that upsampling and argmax are not in the graph, where both were measured."""
    rows = {row.key: row for row in results.rows}
    pairs = [
        (row, other)
        for key, row in rows.items()
        for k, other in rows.items()
        if k.backend == key.backend + TAIL and (k.mode, k.sizes) == (key.mode, key.sizes)
    ]
    cut = [row for row, _ in pairs]
    return [
        f"{row_name(row, cut)}: {ms(row.times.p50_ms)} ms, with the tail inside the graph "
        f"{ms(whole.times.p50_ms)} ms ({whole.times.p50_ms / row.times.p50_ms:.2f} times as long)"
        for row, whole in pairs
    ]


def warnings(results: Results) -> list[str]:
    """Why a reader should doubt these figures."""
    found = []
    environment = results.environment
    if environment.was_busy:
        found.append(
            f"the machine was busy: load {environment.load_1_min:g} on "
            f"{environment.processors} processors before the first round"
        )
    found += doubts(
        {row_name(r, results.rows): r.observed for r in results.rows if r.observed is not None}
    )
    noisy, drifting, unsteady = {}, {}, {}
    for row in results.rows:
        name, times = row_name(row, results.rows), row.times
        spread = (max(times.rounds_ms) - min(times.rounds_ms)) / times.p50_ms
        if times.relative_span > TOO_WIDE:
            noisy[name] = times.relative_span
        elif spread > _UNSTEADY_ROUNDS:
            drifting[name] = spread
        if not row.is_steady:
            unsteady[name] = 0.0
    for names, text in (
        (noisy, "too noisy to say: median uncertain by {} %; raise --rounds, --seconds"),
        (drifting, "the medians of the rounds differ by {} %"),
        (unsteady, "the warm-up did not become steady"),
    ):
        if names:
            found.append(f"{_named(names, len(results.rows))}: {text.format(_most(names))}")
    return found


def _named(names: Mapping[str, float], everything: int) -> str:
    """The worst three, and how many there are."""
    worst = sorted(names, key=lambda name: -names[name])[:_NAMED]
    if len(names) <= _NAMED:
        return "; ".join(worst)
    return f"{len(names)} of {everything} figures ({'; '.join(worst)} ...)"


def _most(names: Mapping[str, float]) -> str:
    low, high = 100 * min(names.values()), 100 * max(names.values())
    return f"{high:.0f}" if len(names) == 1 else f"{low:.0f} to {high:.0f}"


def row_name(row: Row, among: Sequence[Row]) -> str:
    """Backend and mode, with what distinguishes the row besides among others."""
    parts = [
        f"{name} {read(row)}"
        for name, read in _varying(among)
        if read(row) != "-" and (name != "batch" or row.mode == "network")
    ]
    return ", ".join([f"{row.backend} {row.key.what}", *parts])


def included(results: Results) -> list[tuple[str, str]]:
    """What each figure of these results includes."""
    modes = list(dict.fromkeys(row.mode for row in results.rows))
    names = [*modes, "within"]
    names += ["import"] if any(row.import_ms is not None for row in results.rows) else []
    names += ["open"]
    names += ["build"] if any(row.build_ms is not None for row in results.rows) else []
    names += ["first", "peak"]
    names += ["GPU MB"] if any(row.device_memory_mb is not None for row in results.rows) else []
    return [(name, INCLUDES[name]) for name in names]


def markdown(results: Results) -> str:
    """A page that can be pasted into an issue."""
    subject = results.subject
    tables = [speed_table(results), stage_table(results), start_table(results)]
    tables += [machine_table(results)]
    parts = [
        f"# {subject.model} on {results.environment.line}",
        answer(results),
        f"Network {subject.network_size}, frame {subject.frame_size}; {subject.rounds} rounds of "
        f"{subject.seconds:g} s; model SHA-256 {subject.sha256[:12]}; "
        f"{results.environment.date}, Python {results.environment.python}.",
        *(markdown_table(table) for table in tables if table),
    ]
    notes = [f"- **{name}**: {text}" for name, text in included(results)]
    notes += [f"- **{name}**: {text}" for name, text in descriptions(results).items()]
    notes += [f"- **the cut**: {text}" for text in cut_gains(results)]
    notes += [f"- **warning**: {text}" for text in warnings(results)]
    notes += [f"- **skipped** {name}: {reason}" for name, reason in results.skipped.items()]
    return "\n\n".join([*parts, "\n".join(notes)]) + "\n"


def descriptions(results: Results) -> dict[str, str]:
    """Backend to library, version, device and precision."""
    return {row.backend: row.description for row in reversed(results.rows)}

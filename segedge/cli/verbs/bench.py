"""`segedge bench`: how fast a model is here, and whether it became slower."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, ClassVar

import typer

from segedge.cli.console import check_folder, out, print_prose, print_row, say
from segedge.cli.groups import Option
from segedge.cli.options import MotionGroup, Seconds, parse_words
from segedge.cli.verbs.bench_words import parse_batches, parse_modes, parse_sizes, parse_tolerance
from segedge.errors import UsageError
from segedge.measure.bench import compare as comparing
from segedge.measure.bench import tables as report
from segedge.measure.bench.accuracy import Accuracy, read_accuracy
from segedge.measure.bench.html import html
from segedge.measure.bench.results import Results, read_results, write_text
from segedge.measure.bench.runner import BenchOptions, bench, trace
from segedge.measure.report.table import text_lines

_REGRESSION = 3
_WIDTH = 100


@dataclass(frozen=True)
class SizesGroup:
    """What the network and the frame are given; lists."""

    panel: ClassVar[str] = "Sizes"
    frame_size: Annotated[
        list[str] | None, "HEIGHTxWIDTH, repeatable; default: twice the network's input."
    ] = None
    network_size: Annotated[
        list[str] | None, "HEIGHTxWIDTH of a model with dynamic size, repeatable."
    ] = None
    batch: Annotated[
        list[str] | None, "1,2,4,8: for the network alone, of a model with dynamic batch."
    ] = None

    @cached_property
    def words(self) -> dict[str, Any]:
        """As `BenchOptions` takes them."""
        return {
            "frame_sizes": parse_sizes(self.frame_size),
            "network_sizes": parse_sizes(self.network_size),
            "batches": parse_batches(self.batch),
        }


@dataclass(frozen=True)
class ReportsGroup:
    """What is written, and what goes into it."""

    panel: ClassVar[str] = "Reports"
    json_file: Annotated[Path | None, Option("Write the results here.", "--json")] = None
    md: Annotated[Path | None, "Write a Markdown report here."] = None
    html_file: Annotated[
        Path | None, Option("Write a report with charts here, one file.", "--html")
    ] = None
    accuracy: Annotated[
        list[Path] | None, "What `segedge eval --json` wrote: speed against accuracy in --html."
    ] = None
    trace_file: Annotated[
        Path | None, Option("Write a timeline of a pipelined run (Chrome trace format).", "--trace")
    ] = None

    def __post_init__(self) -> None:
        for path in (self.json_file, self.md, self.html_file, self.trace_file):
            check_folder(path)

    @cached_property
    def accuracies(self) -> list[Accuracy]:
        """What was measured before."""
        return [found for path in self.accuracy or [] for found in read_accuracy(path)]

    def write(self, results: Results) -> None:
        """All but the timeline."""
        for path, text in (
            (self.json_file, results.to_json),
            (self.md, lambda: report.markdown(results)),
            (self.html_file, lambda: html(results, self.accuracies)),
        ):
            if path:
                write_text(path, text())
                print_row("wrote", str(path))


def bench_command(
    files: Annotated[
        list[Path],
        typer.Argument(help="The model: an ONNX file with its card; with --compare two results."),
    ],
    *,
    motion: MotionGroup,
    compare: Annotated[bool, "Compare two results: BEFORE.json AFTER.json."] = False,
    backend: Annotated[
        list[str] | None,
        "A name that `segedge doctor` lists, with +tail to put upsampling and argmax into "
        "its graph, or all; repeatable. None: all ready here.",
    ] = None,
    mode: Annotated[
        list[str] | None,
        "network: as papers and trtexec; frame: image in, overlay out; rate: the pipeline "
        "at its peak; video: with decoding and encoding; motion: with --every; both: network and "
        "frame; all.",
    ] = None,
    sizes: SizesGroup,
    source: Annotated[Path | None, "A video: decoding and encoding are measured, too."] = None,
    program: Annotated[
        Path | None, "The same network as a torch program (.pt2): PyTorch beside the others."
    ] = None,
    rounds: Annotated[int, "Turns of each backend."] = 3,
    seconds: Seconds = 2.0,
    tolerance: Annotated[
        str, "With --compare: slower by more is a regression, exit code 3."
    ] = "5%",
    reports: ReportsGroup,
) -> None:
    """Measure a model on every backend here, or compare two measurements.

    Each backend runs in a process of its own, in turn, in several rounds.
    """
    if compare:
        raise typer.Exit(_compare(files, parse_tolerance(tolerance)))
    if len(files) != 1:
        raise UsageError(
            "segedge bench measures one model at a time",
            facts={"found": ", ".join(map(str, files))},
            fix="segedge bench MODEL.onnx, or --compare BEFORE.json AFTER.json",
        )
    options = BenchOptions(
        backends=parse_words(backend),
        **sizes.words,
        modes=parse_modes(mode, has_video=source is not None, has_motion=motion.value is not None),
        rounds=rounds,
        seconds=seconds,
        program=program,
        video=source,
        motion=motion.value,
    )
    results = bench(files[0], options, say=say)
    _print(results)
    reports.write(results)
    if reports.trace_file:
        traced = trace(files[0], options, reports.trace_file, say=say)
        print_row("wrote", f"{reports.trace_file}  {traced}; open it in ui.perfetto.dev")
    _print_next(files[0], reports.json_file)


def _print(results: Results) -> None:
    subject = results.subject
    sizes = f"network {subject.network_size}, frame {subject.frame_size}"
    print_row("model", f"{subject.model}  {sizes}, SHA-256 {subject.sha256[:12]}")
    print_row("machine", results.environment.line)
    for found in results.checked.values():
        print_prose("checked", found["text"])
    print_prose("answer", report.answer(results))
    console = out()
    tables = [report.speed_table(results), report.stage_table(results)]
    tables += [report.start_table(results)]
    if any(row.observed is not None and row.observed.gpu for row in results.rows):
        tables.append(report.machine_table(results))
    for table in filter(None, tables):
        console.print()
        for line in text_lines(report.narrowed(table, _WIDTH)):
            console.print(line, markup=False)
    console.print()
    for name, text in report.included(results):
        print_prose(name, text)
    for text in report.cut_gains(results):
        print_prose("the cut", text)
    for text in report.warnings(results):
        print_prose("warning", text)
    for name, reason in results.skipped.items():
        print_prose("skipped", f"{name}: {reason}")


def _print_next(model: Path, json_file: Path | None) -> None:
    if json_file is None:
        print_row("next", f"segedge bench {model} --json before.json    keeps it for --compare")
    else:
        print_row("next", f"segedge bench --compare {json_file} LATER.json")


def _compare(files: list[Path], tolerance: float) -> int:
    if len(files) != 2:
        raise UsageError(
            "--compare takes two results files",
            facts={"found": f"{len(files)}: {', '.join(map(str, files))}"},
            fix="segedge bench --compare BEFORE.json AFTER.json",
        )
    before, after = (read_results(file) for file in files)
    ratios = comparing.compare(before, after, tolerance=tolerance)
    for line in text_lines(report.ratio_table(ratios)):
        out().print(line, markup=False)
    for text in comparing.notes(before, after):
        print_prose("note", text)
    slower = [ratio for ratio in ratios if ratio.verdict == "slower"]
    unsure = [ratio for ratio in ratios if ratio.verdict == "too noisy to say"]
    if slower:
        print_row(
            "regression", f"{len(slower)} of {len(ratios)} slower by more than {tolerance:.1%}"
        )
    if unsure:
        print_row("next", "segedge bench MODEL --rounds 6 --seconds 5 --json FILE, both, when idle")
    elif not slower:
        print_row("result", f"nothing slower by more than {tolerance:.1%}")
    return _REGRESSION if slower else 0

"""`segedge bench`: how fast a model is here, and whether it became slower."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from segedge.bench import compare as comparing
from segedge.bench import report
from segedge.bench.results import MODES, Results, read_results, write_results, write_text
from segedge.bench.runner import BenchOptions, bench
from segedge.cli.console import check_folder, err, out, print_prose, print_row
from segedge.errors import UsageError
from segedge.geometry import Size

_REGRESSION = 3
_SPEED_COLUMNS_MIN = ("min", "mean", "max")


def bench_command(
    files: Annotated[
        list[Path],
        typer.Argument(help="The model: an ONNX file with its card; with --compare two results."),
    ],
    compare: Annotated[
        bool, typer.Option("--compare", help="Compare two results: BEFORE.json AFTER.json.")
    ] = False,
    backend: Annotated[
        list[str] | None,
        typer.Option(help="A name that `segedge doctor` lists; repeatable. None: all ready here."),
    ] = None,
    frame_size: Annotated[
        str | None, typer.Option(help="HEIGHTxWIDTH; default: twice the network's input.")
    ] = None,
    mode: Annotated[
        Literal["network", "frame", "both"],
        typer.Option(help="network: as papers and trtexec; frame: image in, overlay out."),
    ] = "both",
    rounds: Annotated[int, typer.Option(help="Turns of each backend.")] = 3,
    seconds: Annotated[float, typer.Option(help="Duration of each mode in each round.")] = 2.0,
    tolerance: Annotated[
        str, typer.Option(help="With --compare: slower by more is a regression, exit code 3.")
    ] = "5%",
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the results here.")
    ] = None,
    md: Annotated[Path | None, typer.Option(help="Write a Markdown report here.")] = None,
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
        backends=tuple(backend or ()),
        frame_size=Size.parse(frame_size) if frame_size else None,
        modes=MODES if mode == "both" else (mode,),
        rounds=rounds,
        seconds=seconds,
    )
    for path in (json_file, md):
        check_folder(path)
    console = err()
    results = bench(files[0], options, say=lambda text: console.print(text, markup=False))
    _print(results)
    if json_file:
        write_results(results, json_file)
        print_row("wrote", str(json_file))
    if md:
        write_text(md, report.markdown(results))
        print_row("wrote", str(md))
    _print_next(files[0], json_file)


def parse_tolerance(text: str) -> float:
    """``5%`` or ``0.05``, as a share.

    Raises:
        UsageError: It is neither, or not between 0 and 100 %.
    """
    number = text.strip().removesuffix("%")
    try:
        share = float(number) / (100.0 if text.strip().endswith("%") else 1.0)
    except ValueError:
        share = -1.0
    if not 0.0 <= share < 1.0:
        raise UsageError(
            f"--tolerance {text} is no share",
            facts={"expected": "0 % to below 100 %, e.g. 5% or 0.05"},
            fix="--tolerance 5%",
        )
    return share


def _print(results: Results) -> None:
    subject = results.subject
    sizes = f"network {subject.network_size}, frame {subject.frame_size}"
    print_row("model", f"{subject.model}  {sizes}, SHA-256 {subject.sha256[:12]}")
    print_row("machine", results.environment.line)
    console = out()
    for table in (report.speed_table(results), report.stage_table(results)):
        console.print()
        for line in report.text_lines(_narrowed(table)):
            console.print(line, markup=False)
    console.print()
    for name, text in report.included(results):
        print_prose(name, text)
    for text in report.warnings(results):
        print_prose("warning", text)
    for name, reason in results.skipped.items():
        print_prose("skipped", f"{name}: {reason}")


def _narrowed(table: report.Table) -> report.Table:
    """At most 100 columns: the file has what is left out here."""
    if max(map(len, report.text_lines(table))) <= 100:
        return table
    kept = [i for i, name in enumerate(table[0]) if name not in _SPEED_COLUMNS_MIN]
    return [[row[i] for i in kept] for row in table]


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
    for line in report.text_lines(report.ratio_table(ratios)):
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

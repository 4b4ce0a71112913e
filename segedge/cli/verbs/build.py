"""`segedge build`: a model to a TensorRT engine."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console

from segedge.cli.console import err, print_json, print_row
from segedge.cli.groups import Option
from segedge.cli.options import AsJson
from segedge.cli.verbs.engine_rows import print_engine
from segedge.engine.builder.build import EngineBuild, build_engine
from segedge.engine.builder.half import Images, network_inputs
from segedge.engine.builder.inspect import EngineReport, report_of
from segedge.engine.builder.progress import BuildProgress, ProgressCallback
from segedge.engine.cache import EngineCache
from segedge.engine.file import EngineFile
from segedge.engine.flavour import FlavourName
from segedge.engine.header import read_header
from segedge.engine.options import BatchRange, BuildOptions, Precision, SizeRange
from segedge.engine.source import read_source
from segedge.machine.files import megabytes


def build_command(
    model: Annotated[Path, typer.Argument(help="The ONNX file.", show_default=False)],
    out: Annotated[
        Path | None, Option("Write the engine here too, card beside it.", "-o --out")
    ] = None,
    precision: Annotated[
        Precision | None, "fp16 converts the graph; int8 needs one with Q/DQ nodes."
    ] = None,
    keep_fp32: Annotated[
        list[str] | None, "Pattern of nodes that fp16 leaves alone; repeatable."
    ] = None,
    images: Annotated[str | None, "Images that fp16's ranges are measured on; else noise."] = None,
    flavour: Annotated[Literal["auto", FlavourName], "Which TensorRT."] = "auto",
    size: Annotated[str | None, "HxW, or MIN:USUAL:MAX for a model with dynamic size."] = None,
    batch: Annotated[str | None, "N, or MIN:USUAL:MAX for a model with dynamic batch."] = None,
    workspace: Annotated[int | None, "Scratch memory, MB."] = None,
    level: Annotated[int | None, "Optimisation level 0..5; default 3."] = None,
    target: Annotated[
        list[str] | None, "TensorRT-RTX: GPU such as sm86; repeatable; default portable."
    ] = None,
    dla: Annotated[int | None, "Jetson DLA core; the rest on the GPU."] = None,
    version_compatible: Annotated[bool, "Loadable by newer TensorRT versions."] = False,
    hardware_compatible: Annotated[bool, "Runs on every GPU from Ampere on."] = False,
    tf32: Annotated[bool, "10-bit mantissas in fp32."] = True,
    cached: Annotated[bool, Option("Use the engine cache.", "--cache/--no-cache")] = True,
    layers: Annotated[bool, "Print every layer."] = False,
    as_json: AsJson = False,
) -> None:
    """Build a TensorRT engine, or take it from the cache if nothing has changed.

    TensorRT-RTX builds without a GPU; TensorRT builds on the GPU that will run the engine.
    """
    options = BuildOptions(
        precision=precision,
        keep_fp32=tuple(keep_fp32 or ()),
        batch=BatchRange.parse(batch) if batch else None,
        size=SizeRange.parse(size) if size else None,
        workspace_bytes=workspace * 10**6 if workspace is not None else None,
        optimization_level=level,
        dla_core=dla,
        version_compatible=version_compatible,
        hardware_compatible=hardware_compatible,
        targets=tuple(target or ()),
        tf32=tf32,
    )
    measured_on = _images(images, model)
    console = err()
    with _bar(console) as progress:
        built = build_engine(
            model,
            output=out,
            options=options,
            flavour=flavour,
            cache=EngineCache.default() if cached else None,
            images=measured_on,
            progress=progress,
            say=console.print,
        )
    runnable = _runnable(built, model, measured=images is not None)
    _print_built(built, runnable, layers=layers, as_json=as_json)


def _images(where: str | None, model: Path) -> Images | None:
    return None if where is None else network_inputs(where, read_source(model).card)


def _print_built(built: EngineBuild, runnable: str, *, layers: bool, as_json: bool) -> None:
    report = built_report(built)
    if as_json:
        origin = {"cached": built.cached, "reason": built.reason, "warnings": list(built.warnings)}
        print_json({**report.to_dict(), **origin})
        return
    print_engine(report, layers=layers)
    for warning in built.warnings:
        print_row("warning", warning)
    took = f"in {built.facts.build_seconds:.1f} s, {megabytes(len(built.plan))}"
    print_row("built", f"{built.facts.built} {took}; cached" if built.cached else took)
    print_row("file", str(built.path or "not kept: -o MODEL.engine writes it"))
    print_row("next", f"segedge run {runnable} VIDEO -o out.mp4")


def _runnable(built: EngineBuild, model: Path, *, measured: bool) -> str:
    """What to give to `segedge run`: the model where that finds this engine, else the engine."""
    options = dict(built.facts.options)
    precision = options.pop("precision", "")
    in_cache = built.path is None or built.path.parent == EngineCache.default().folder
    if built.path is not None and (options or measured or not in_cache):
        return str(built.path)
    return f"{model} --backend tensorrt" + (f":{precision}" if precision else "")


def built_report(built: EngineBuild) -> EngineReport:
    """A finished build as `segedge inspect` sees it."""
    path = built.path or Path(built.facts.model).with_suffix(".engine")
    header = read_header(built.plan, name=path.name)
    file = EngineFile(path, built.plan, header, built.facts, built.card, {})
    return report_of(file, built.facts.engine_layers, "the build")


@contextlib.contextmanager
def _bar(console: Console) -> Iterator[ProgressCallback]:
    """A bar with the phase in TensorRT's words; nothing where the console is no terminal."""
    if not console.is_terminal:
        yield lambda progress: None
        return
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description:<32.32}"),
        BarColumn(24),
        TaskProgressColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("reading the model", total=1.0)

        def report(progress: BuildProgress) -> None:
            bar.update(task, completed=progress.fraction, description=progress.phase)

        yield report

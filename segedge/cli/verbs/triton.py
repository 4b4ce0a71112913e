"""`segedge triton`: a model to a repository of the Triton Inference Server."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Annotated, Any

from segedge.cli.console import print_json, print_prose, print_row
from segedge.cli.groups import Option
from segedge.cli.options import AsJson, Model
from segedge.errors import UsageError
from segedge.machine.files import megabytes
from segedge.serve.options import InstanceKind, TritonOptions
from segedge.serve.repository import TritonReport, WrittenModel, write_repository

_FRAMES = "Frames"


def triton_command(
    model: Model,
    out: Annotated[Path, Option("The repository; made where there is none.", "-o --out")] = Path(
        "model_repository"
    ),
    name: Annotated[str, "The model's name on the server; else the file's."] = "",
    version: Annotated[
        int, Option("Beside others of the same model.", "--model-version", min=1)
    ] = 1,
    max_batch: Annotated[int, Option("Most frames that the network takes at once.", min=1)] = 8,
    delay: Annotated[str, "Longest wait for a batch to fill: 2ms, 500us; 0: none."] = "2ms",
    instances: Annotated[
        int, Option("Copies of the network that run at once, a GPU each.", min=1)
    ] = 1,
    kind: Annotated[InstanceKind, "Where they run."] = "auto",
    gpus: Annotated[str, "On these GPUs only: 0,1."] = "",
    warm_up: Annotated[bool, "Run each model once before the server is ready."] = True,
    frames: Annotated[
        bool, Option("Also an ensemble that takes frames and gives labels.", panel=_FRAMES)
    ] = True,
    overlay: Annotated[bool, Option("It offers overlays.", panel=_FRAMES)] = False,
    step_instances: Annotated[
        int, Option("Processes of each of its steps on the CPU.", min=1, panel=_FRAMES)
    ] = 2,
    python_env: Annotated[
        str,
        Option(
            "Python with segedge, on the server: a conda-pack archive or folder.", panel=_FRAMES
        ),
    ] = "",
    force: Annotated[bool, "Replace a version that is there."] = False,
    as_json: AsJson = False,
) -> None:
    """Write a model into a repository that the Triton Inference Server loads.

    The network as MODEL (tensors in, logits out), which `segedge run grpc://HOST:8001/MODEL` uses;
    and MODEL_frames, which takes frames as they are and gives labels, for every other client.
    """
    options = TritonOptions(
        name=name,
        version=version,
        max_batch=max_batch,
        delay_us=parse_microseconds(delay),
        instances=instances,
        kind=kind,
        gpus=_gpu_numbers(gpus),
        frames=frames,
        overlay=overlay,
        step_instances=step_instances,
        python_env=python_env,
        warm_up=warm_up,
        force=force,
    )
    report = write_repository(model, out, options=options)
    if as_json:
        print_json(report_dict(report))
    else:
        _print(report)


def report_dict(report: TritonReport) -> dict[str, Any]:
    """The report as plain JSON values, the card among them."""
    data = dataclasses.asdict(report)
    data["repository"] = str(report.repository)
    data["models"] = [{**m, "path": str(m["path"])} for m in data["models"]]
    data["card"] = json.loads(report.card.to_json())
    return data


def _print(report: TritonReport) -> None:
    for model in report.models:
        print_row("model", f"{model.name}  {model.what}{_versions(model)}")
        for label, tensors in (("in", model.inputs), ("out", model.outputs)):
            print_row("", f"  {label:<4} {', '.join(tensors)}")
    print_row("network", f"{report.backend}, {report.instances}, {megabytes(report.size_bytes)}")
    if report.max_batch:
        wait = f", waiting at most {report.delay_us / 1000:g} ms" if report.delay_us else ""
        print_row("batches", f"up to {report.max_batch} frames{wait}")
    for note in report.notes:
        print_prose("note", note)
    for need in report.needs:
        print_prose("needs", need)
    print_row("wrote", f"{report.repository}/")
    print_row("next", f"tritonserver --model-repository {report.repository.absolute()}")
    print_row("", f"segedge run grpc://HOST:8001/{report.models[0].name} video.mp4 -o out.mp4")


def _versions(model: WrittenModel) -> str:
    if model.versions == (1,):
        return ""
    word = "version" if len(model.versions) == 1 else "versions"
    return f", {word} {', '.join(map(str, model.versions))}"


def parse_microseconds(text: str) -> int:
    """Microseconds of ``2ms``, ``500us`` or ``0``."""
    for unit, factor in (("ms", 1000.0), ("us", 1.0)):
        number = text.removesuffix(unit)
        if number != text or text == "0":
            try:
                value = float(number) * factor
            except ValueError:
                break
            if 0 <= value < 1e9:
                return round(value)
            break
    raise UsageError(
        f"no time {text!r}", facts={"expected": "a number with ms or us"}, fix="--delay 2ms"
    )


def _gpu_numbers(text: str) -> tuple[int, ...]:
    words = [word.strip() for word in text.split(",") if word.strip()]
    if not all(word.isdigit() for word in words):
        raise UsageError(f"no GPUs {text!r}", fix="--gpus 0,1")
    return tuple(map(int, words))

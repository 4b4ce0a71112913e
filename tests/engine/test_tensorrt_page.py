"""docs/tensorrt.md: its options exist, and its messages are those of the program."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest
import typer

from segedge.cli.groups import expanded
from segedge.cli.run.command import run_command
from segedge.cli.verbs.build import build_command
from segedge.cli.verbs.export import export_command
from segedge.cli.verbs.inspect import inspect_command
from segedge.cli.verbs.quantize import quantize_command

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "tensorrt.md").read_text(encoding="utf-8")
COMMANDS = (build_command, export_command, inspect_command, quantize_command, run_command)


def declared() -> set[str]:
    """Every option of these verbs."""
    names = {"--debug"}
    for command in COMMANDS:
        app = typer.Typer()
        app.command()(expanded(command))
        for parameter in typer.main.get_command(app).params:
            names |= {*parameter.opts, *parameter.secondary_opts}
    return names


def test_every_option_exists() -> None:
    mentioned = set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]+", PAGE))
    assert len(mentioned) > 15
    assert mentioned <= declared()


def test_every_build_option_is_on_the_page() -> None:
    spelled = {"cached": "--no-cache", "tf32": "--no-tf32", "as_json": "--json", "out": "-o"}
    for parameter in inspect.signature(build_command).parameters:
        name = spelled.get(parameter, "--" + parameter.replace("_", "-"))
        assert name in PAGE or parameter == "model", name


@pytest.mark.parametrize(
    "words",
    [
        "has no operator",
        "int32 biases behind DequantizeLinear",
        "holds no quantisation nodes",
        "is dynamic and the model has no card",
        "is fixed",
        "builds for the GPU at hand only",
        "not enough GPU memory to build",
        "has no kernel for a part of",
        "needs an NVIDIA GPU",
        "is truncated",
        "is corrupt",
        "is no TensorRT engine",
        "is an engine of",
        "was built by another version of",
        "cannot run on this GPU",
        "refuses to load the engine",
        "first build of this model",
        "other images to measure fp16 on",
        "another process is building",
        "overflow kept in fp32, first at",
        "no fp16 kernel, kept in fp32",
    ],
)
def test_every_message_is_the_programs(words: str) -> None:
    sources = "".join(path.read_text("utf-8") for path in (ROOT / "segedge").rglob("*.py"))
    joined = re.sub(r'"\s*\n\s*f?"', "", sources)
    assert words in " ".join(PAGE.split())
    assert words in joined

"""`segedge warm`: the first run's compiling, done before."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from segedge.cli.console import print_json, print_row
from segedge.cli.options import AsJson, Backend


def warm_command(
    models: Annotated[
        list[Path] | None, typer.Argument(help="ONNX files or engines that will be run.")
    ] = None,
    backend: Backend = "auto",
    as_json: AsJson = False,
) -> None:
    """Compile and try all that a run needs: kernels for this CPU, and each model's engine.

    They are kept where SEGEDGE_CACHE_DIR says, to be baked into an image or so that the first
    start is as fast as any. On another CPU type kernels are compiled again, by themselves.
    """
    from segedge.segment.warm import warm

    warmed = warm(models or [], backend=backend)
    if as_json:
        print_json(asdict(warmed))
        return
    print_row("folder", warmed.folder)
    print_row("cpu", warmed.cpu)
    print_row("kernels", f"{warmed.kernels}, {warmed.compiled} of them new")
    for model in warmed.models:
        print_row("model", f"{model.model} on {model.description}, {model.seconds:.1f} s")
    print_row("next", f"segedge run {models[0] if models else 'MODEL.onnx'} ...")

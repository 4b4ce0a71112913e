"""`segedge doctor`: what is installed, which backends work, why others do not."""

from __future__ import annotations

import platform
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from segedge.backends.registry import BACKENDS, BackendStatus, open_backend, statuses
from segedge.cli.console import print_json, print_row
from segedge.cli.options import AsJson
from segedge.engine.flavour import FlavourStatus, flavour_statuses
from segedge.errors import ModelError, SegedgeError
from segedge.machine.cache_folder import CACHE_VARIABLE, cache_folder
from segedge.machine.gpu import find_driver
from segedge.machine.optional import installed_version
from segedge.machine.processors import processors
from segedge.version import __version__

_BASE = ("numpy", "opencv-python", "numba", "av")
_LABEL = len("onnxruntime-cuda")
_EXPORT = ("torch", "onnx", "onnx-ir", "onnxscript")


def doctor_command(
    model: Annotated[
        Path | None,
        typer.Argument(help="A model that every backend here shall prove to compute as exported."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show what is installed here, what works, and the command that mends the rest.

    Exit code 1 where no backend can run a model, or none computes this one as it was exported.
    """
    found = statuses()
    checks: dict[str, dict[str, Any]] = {}
    if model is None:
        works = any(status.ready for status in found)
    else:
        checks = check_all(model, found)
        works = any(check.get("passed") and check["same_weights"] for check in checks.values())
    if as_json:
        print_json(report(found) if model is None else {**report(found), "checks": checks})
    elif model is None:
        _print(found)
    else:
        _print_checks(model, checks)
    if not works:
        raise typer.Exit(1)


def check_all(model: Path, found: list[BackendStatus]) -> dict[str, dict[str, Any]]:
    """All pictures of a model's proof on each backend that `auto` may take: figures, or why not."""
    from segedge.segment.check import Prover
    from segedge.segment.load import card_of

    prover = Prover.of(model, card_of(model))
    if prover is None:
        raise ModelError(f"{model.name} carries no proof", fix=f"segedge prove {model}")
    checks: dict[str, dict[str, Any]] = {}
    for name in [status.name for status in found if status.ready and BACKENDS[status.name].auto]:
        try:
            with closing(open_backend(model, name).backend) as backend:
                looked = prover.look(name, backend)
        except SegedgeError as error:
            checks[name] = {"text": "; ".join([error.headline, *error.facts.values()])}
            continue
        checks[name] = {"text": "of another size"} if looked is None else looked.to_dict()
    return checks


def _print_checks(model: Path, checks: dict[str, dict[str, Any]]) -> None:
    _row("model", str(model))
    for name, check in checks.items():
        _row(name, check["text"])
    sound = [name for name, check in checks.items() if check.get("passed")]
    _row("auto", f"{sound[0]} runs it here" if sound else "no backend computes it as exported")


def report(found: list[BackendStatus]) -> dict[str, object]:
    """Everything `doctor` knows, as plain data."""
    return {
        "segedge": __version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "threads": processors().count,
        "threads_decided_by": processors().decided_by,
        "cache": _cache_report(),
        "libraries": {name: installed_version(name) for name in (*_BASE, *_EXPORT)},
        "backends": [asdict(status) for status in found],
        "gpu": asdict(find_driver()),
        "tensorrt_flavours": [asdict(status) for status in flavour_statuses()],
    }


def _cache_report() -> dict[str, object]:
    folder = cache_folder()
    return {
        "folder": None if folder.exists_nowhere else str(folder.path),
        "origin": folder.origin,
        "problem": folder.problem,
        "passed_over": list(folder.passed_over),
    }


def _row(label: str, text: str) -> None:
    print_row(f"{label:<{_LABEL}}", text)


def _print(found: list[BackendStatus]) -> None:
    _row("segedge", f"{__version__}, Python {platform.python_version()}")
    usable = processors()
    _row("machine", f"{platform.machine()}, {usable.count} CPU threads ({usable.decided_by})")
    folder = cache_folder()
    _row("cache", folder.text)
    for reason in folder.passed_over:
        _row("", f"not {reason}")
    if folder.exists_nowhere:
        _row("fix", f"{CACHE_VARIABLE}=FOLDER that can be written: a start takes seconds less")
    _row("runtime", _versions(_BASE))
    _row("export", _versions(_EXPORT))
    driver = find_driver()
    _row("gpu", f"{driver.gpu}, {driver.cuda_text}" if driver.gpu else driver.problem)
    for flavour in flavour_statuses(driver=driver):
        _row(flavour.name, _flavour_text(flavour))
    for status in found:
        if status.name != "tensorrt":
            _row(status.name, _status_text(status))
    ready = [status.name for status in found if status.ready and BACKENDS[status.name].auto]
    if ready:
        _row("auto", f"{ready[0]} runs models here")
    else:
        _row("fix", "pip install 'segedge[openvino]'  (x86) or  'segedge[cpu]'  (any CPU)")


def _versions(names: tuple[str, ...]) -> str:
    return ", ".join(f"{name} {installed_version(name) or 'not installed'}" for name in names)


def _flavour_text(status: FlavourStatus) -> str:
    return f"{status.version or '-':<10} {status.detail}" + (f": {status.fix}" * bool(status.fix))


def _status_text(status: BackendStatus) -> str:
    if status.ready:
        return f"{status.version:<10} ready ({status.detail})"
    return f"{'-':<10} {status.detail}" + (f": {status.fix}" if status.fix else "")

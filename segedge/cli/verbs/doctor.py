"""`segedge doctor`: what is installed, which backends work, why others do not."""

from __future__ import annotations

import platform
from dataclasses import asdict

import typer

from segedge.backends.registry import BACKENDS, BackendStatus, statuses
from segedge.cli.console import print_json, print_row
from segedge.cli.options import AsJson
from segedge.engine.flavour import FlavourStatus, flavour_statuses
from segedge.machine.cache_folder import CACHE_VARIABLE, cache_folder
from segedge.machine.gpu import find_driver
from segedge.machine.optional import installed_version
from segedge.machine.processors import processors
from segedge.version import __version__

_BASE = ("numpy", "opencv-python", "numba", "av")
_LABEL = len("onnxruntime-cuda")
_EXPORT = ("torch", "onnx", "onnxscript")


def doctor_command(
    as_json: AsJson = False,
) -> None:
    """Show what is installed here, what works, and the command that mends the rest.

    Exit code 1 where no backend can run a model.
    """
    found = statuses()
    if as_json:
        print_json(report(found))
    else:
        _print(found)
    if not any(status.ready for status in found):
        raise typer.Exit(1)


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

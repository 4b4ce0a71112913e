"""The real TensorRT bindings of several versions, importable without TensorRT.

The wheels with the Python bindings are on PyPI, the libraries behind them are not. The bindings
import when about ten C symbols are there, so small stub libraries with the right names define them.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

VERSIONS = {
    "10.3": "tensorrt_cu12_bindings==10.3.0",
    "10.13": "tensorrt_cu13_bindings==10.13.3.9",
    "10.16": "tensorrt_cu13_bindings==10.16.1.11",
    "11.4": "tensorrt_cu13_bindings==11.4.0.106",
}
"""JetPack 6, JetPack 7.0, JetPack 7.2, and the newest wheels."""

_TENSORRT_SYMBOL = re.compile(r"\b(create\w+_INTERNAL|get\w*PluginRegistry|getNv\w+|initLibNv\w+)$")

DUMP = """
import importlib, json, sys
trt = importlib.import_module(sys.argv[1])
def describe(value):
    if hasattr(value, "__members__"):
        return {name: None for name in value.__members__} | {"__members__": None, "name": None}
    if isinstance(value, type):
        rows = {n: getattr(value, n).__doc__ for n in dir(value) if not n.startswith("__")}
        rows["__init__"] = value.__init__.__doc__
        for n in dir(value):
            inner = getattr(value, n)
            if hasattr(inner, "__members__") and isinstance(inner, type):
                surface[f"{value.__name__}.{n}"] = describe(inner)
        return rows
    return {}
surface = {"module": {name: None for name in dir(trt)}}
for name in dir(trt):
    if not name.startswith("_"):
        surface[name] = describe(getattr(trt, name))
print("SURFACE" + json.dumps(surface))
"""


class NotAvailableError(Exception):
    """A version cannot be looked at here; the message says why."""


def surface(version: str, folder: Path) -> dict[str, dict[str, str | None]]:
    """Class (and ``module``) to its attributes with their docstrings, of one version.

    Raises:
        NotAvailableError: The wheel cannot be fetched, or there is no C compiler.
    """
    with (folder / f"{version}.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # pytest-xdist: one worker fetches, the others wait
        return _surface(version, folder / version)


def _surface(version: str, home: Path) -> dict[str, dict[str, str | None]]:
    kept = home / f"surface-{sys.version_info.major}{sys.version_info.minor}.json"
    if not kept.is_file():
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir(parents=True)
        _unpack(VERSIONS[version], home)
        _write_stubs(next(home.glob("tensorrt_bindings/tensorrt*.so")), home / "stubs")
        kept.write_text(json.dumps(dump("tensorrt_bindings", home)))
    result: dict[str, dict[str, str | None]] = json.loads(kept.read_text())
    return result


def dump(module: str, home: Path | None = None) -> Any:
    """Import a module in a process of its own and list what is in it."""
    environment = dict(os.environ)
    if home is not None:
        environment["PYTHONPATH"] = str(home)
        environment["LD_LIBRARY_PATH"] = str(home / "stubs")
    done = subprocess.run(
        [sys.executable, "-c", DUMP, module], capture_output=True, text=True, env=environment,
        check=False, timeout=120,
    )  # fmt: skip
    lines = [line for line in done.stdout.splitlines() if line.startswith("SURFACE")]
    if not lines:
        raise RuntimeError(f"{module} does not import with stubs: {done.stderr[-500:]}")
    return json.loads(lines[0].removeprefix("SURFACE"))


def _unpack(requirement: str, home: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:",
         "--dest", str(home), requirement],
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    wheels = list(home.glob("*.whl"))
    if done.returncode or not wheels:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise NotAvailableError(f"{requirement} cannot be fetched: {last[:200]}")
    with zipfile.ZipFile(wheels[0]) as archive:
        archive.extractall(home)


def _write_stubs(binding: Path, folder: Path) -> None:
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None or shutil.which("nm") is None or shutil.which("readelf") is None:
        raise NotAvailableError("no C compiler and binutils")
    symbols = _lines(["nm", "-D", "--undefined-only", str(binding)])
    names = [match[1] for line in symbols if (match := _TENSORRT_SYMBOL.search(line))]
    needed = _lines(["readelf", "-d", str(binding)])
    libraries = [match[1] for line in needed if (match := re.search(r"\[(libnv\S+)\]", line))]
    folder.mkdir()
    source = folder / "stubs.c"
    source.write_text("".join(f"void *{name}(void) {{ return 0; }}\n" for name in names))
    for library in libraries:
        # Every library gets all symbols: it does not matter which of them defines which.
        subprocess.run(
            [
                compiler,
                "-shared",
                "-fPIC",
                f"-Wl,-soname,{library}",
                "-o",
                folder / library,
                source,
            ],
            check=True,
        )


def _lines(command: list[str]) -> list[str]:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()

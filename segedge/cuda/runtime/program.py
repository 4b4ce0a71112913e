"""Kernels from source to machine code: one small program for each configuration.

A `Kernel` names a function, its source files and the macros that specialise it. NVRTC compiles it
for a given architecture, without a GPU and without nvcc, in well under a second; the result is kept
on disk. What launches it is a `Launcher`: here one for a CUDA stream, in the tests one that runs
the same source on the CPU.
"""

from __future__ import annotations

import hashlib
import io
import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from segedge.errors import DeviceError
from segedge.machine.cache_folder import cache_path, keep, make_folder, read_kept
from segedge.machine.optional import require

FOLDER = Path(__file__).parents[1] / "kernels"
_IMPORTING = threading.Lock()
_SPILLS = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
_REGISTERS = re.compile(r"Used (\d+) registers")
_SHARED = re.compile(r"(\d+) bytes smem")

Argument = int | np.generic
"""A pointer (int, 8 bytes) or a NumPy scalar of exactly the parameter's type."""
Arguments = Sequence[Argument]
Extent = tuple[int, int]
"""Blocks of a launch, or threads of a block, x first."""


@dataclass(frozen=True)
class Plane:
    """Rows of a picture in device memory."""

    pointer: int
    """Device address of the first row."""
    pitch: int
    """Bytes from one row to the next."""

    def at(self, row: int, byte: int) -> Plane:
        """The same rows seen from another corner, ``row`` rows and ``byte`` bytes on."""
        return Plane(self.pointer + row * self.pitch + byte, self.pitch)

    def is_aligned(self, size: int) -> bool:
        """Whether each row starts at a multiple of ``size`` bytes."""
        return self.pointer % size == 0 and self.pitch % size == 0


@dataclass(frozen=True)
class Kernel:
    """One specialised CUDA function."""

    name: str
    """The ``extern "C"`` function."""
    files: tuple[str, ...]
    """Source files in `FOLDER`, concatenated in this order."""
    defines: tuple[tuple[str, str], ...]
    """Macros, in order of their names."""

    @classmethod
    def of(cls, name: str, files: Sequence[str], **defines: int | float | str) -> Kernel:
        """Name a kernel; the macros are sorted, so that equal ones compare equal."""
        macros = ((key.upper(), _literal(value)) for key, value in defines.items())
        return cls(name, tuple(files), tuple(sorted(macros)))

    @property
    def source(self) -> str:
        """CUDA C++17: the macros as ``#define`` lines, then the files."""
        lines = [f"#define {name} {value}" for name, value in self.defines]
        return "\n".join([*lines, *map(_read, self.files)])


class Launcher(Protocol):
    """Runs a kernel."""

    def __call__(self, kernel: Kernel, grid: Extent, block: Extent, given: Arguments) -> None:
        """Launch ``grid`` blocks of ``block`` threads; returns at once."""


@dataclass(frozen=True)
class Resources:
    """What a kernel takes of a multiprocessor, as ptxas reports it."""

    registers: int
    """Registers a thread."""
    spill_bytes: int
    """Bytes of registers that had to move to memory, stores and loads."""
    stack_bytes: int
    """Bytes of local memory a thread."""
    shared_bytes: int
    """Bytes of shared memory a block."""


def compile_for(kernel: Kernel, arch: str, *, folder: Path | None = None) -> bytes:
    """A kernel's cubin for a target, e.g. ``sm_87``. Needs no GPU.

    It is from the disk cache where source, macros, target and compiler version are the same.

    Raises:
        DeviceError: The compiler refuses; its log lies beside the cache.
        MissingDependencyError: cuda-core is not installed.
    """
    path = (folder or cache_path("kernels")) / f"{_key(kernel, arch)}.cubin"
    code = read_kept(path)
    if code is None:
        code, _ = _compile(kernel, arch, path.with_suffix(".log"))
        keep(path, code)
    return code


def resources(kernels: Sequence[Kernel], arch: str) -> list[Resources]:
    """Compile kernels of one source afresh and read what ptxas says of each. Needs no GPU."""
    first = kernels[0]
    _, log = _compile(first, arch, cache_path("kernels") / f"{_key(first, arch)}.log", "-v")
    return [_resources_in(log, kernel.name) for kernel in kernels]


def _resources_in(log: str, name: str) -> Resources:
    """A source may hold several functions; ptxas reports them one after the other."""
    _, _, report = log.partition(f"entry function '{name}'")
    report, _, _ = report.partition("entry function")
    spills, registers = _SPILLS.search(report), _REGISTERS.search(report)
    shared = _SHARED.search(report)
    if spills is None or registers is None:
        raise DeviceError("ptxas reported no resources", facts={"log": log.strip()[:200]})
    return Resources(
        registers=int(registers[1]),
        spill_bytes=int(spills[2]) + int(spills[3]),
        stack_bytes=int(spills[1]),
        shared_bytes=int(shared[1]) if shared else 0,
    )


class Programs:
    """Loaded kernels of one device: compiled at first use, then kept."""

    def __init__(self, arch: str, *, folder: Path | None = None) -> None:
        """Prepare for a device's architecture, e.g. ``sm_87``; its context must be current."""
        self._arch = arch
        self._folder = folder
        self._loaded: dict[Kernel, Any] = {}

    def get(self, kernel: Kernel) -> Any:
        """The ``cuda.core.Kernel``; compiles, or loads from disk, at the first call.

        Call it for every kernel before a graph is captured: loading is not allowed meanwhile.
        """
        if kernel not in self._loaded:
            core = _core("run CUDA kernels")
            code = compile_for(kernel, self._arch, folder=self._folder)
            loaded = core.ObjectCode.from_cubin(code, name=kernel.name).get_kernel(kernel.name)
            # Threads may load the same: the first one stays, a graph may have it already.
            self._loaded.setdefault(kernel, loaded)
        return self._loaded[kernel]

    def launcher(self, stream: Any) -> Launcher:
        """A launcher on a ``cuda.core`` stream or graph builder."""
        core = _core("run CUDA kernels")

        def launch(kernel: Kernel, grid: Extent, block: Extent, given: Arguments) -> None:
            core.launch(stream, core.LaunchConfig(grid=grid, block=block), self.get(kernel), *given)

        return launch


def _literal(value: int | float | str) -> str:
    if isinstance(value, float):
        return f"{value!r}f"
    return value if isinstance(value, str) else str(int(value))


def _core(purpose: str) -> Any:
    with _IMPORTING:  # a second thread would see cuda.core half imported
        return require("cuda.core", purpose=purpose)


@cache
def _read(file: str) -> str:
    return (FOLDER / file).read_text(encoding="utf-8")


@cache
def _compiler_version() -> str:
    nvrtc = require("cuda.bindings.nvrtc", purpose="compile CUDA kernels")
    error, major, minor = nvrtc.nvrtcVersion()
    if int(error) != 0:
        raise DeviceError("NVRTC does not tell its version", facts={"found": str(error)})
    return f"{major}.{minor}"


def _key(kernel: Kernel, arch: str) -> str:
    text = "\n".join([_compiler_version(), arch, kernel.name, kernel.source])
    return f"{kernel.name}-{arch}-{hashlib.sha256(text.encode()).hexdigest()[:24]}"


def _compile(kernel: Kernel, arch: str, log_path: Path, *ptxas: str) -> tuple[bytes, str]:
    """Machine code and the compiler's log."""
    core = _core("compile CUDA kernels")
    options = core.ProgramOptions(
        name=f"{kernel.name}.cu", arch=arch, std="c++17", ptxas_options=list(ptxas) or None
    )
    log = io.StringIO()
    try:
        program = core.Program(kernel.source, "c++", options)
        return bytes(program.compile("cubin", logs=log).code), log.getvalue()
    except Exception as error:  # cuda-core's own exception types are private
        raise _compile_error(kernel, arch, log_path, str(error)) from error


def _compile_error(kernel: Kernel, arch: str, log_path: Path, log: str) -> DeviceError:
    lines = [line.strip() for line in log.splitlines() if "error" in line.lower()]
    facts = {"first error": (lines[1:] or lines or [log.strip()])[0][:200], "target": arch}
    facts["compiler"] = f"NVRTC {_compiler_version()}"
    try:
        make_folder(log_path.parent)
        log_path.write_text(f"{log}\n\n{kernel.source}", encoding="utf-8")
        facts["log"] = str(log_path)
    except OSError:
        pass  # the message has what matters
    return DeviceError(
        f"the CUDA kernel {kernel.name} does not compile",
        facts=facts,
        fix="pip install --upgrade cuda-core nvidia-cuda-nvrtc; report it if it persists",
    )

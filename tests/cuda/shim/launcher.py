"""A launcher that compiles kernels with g++ and runs them on the CPU, see shim.hpp."""

from __future__ import annotations

import ctypes
import hashlib
import os
import subprocess
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np

from segedge.cuda.runtime.program import Argument, Kernel

HEADER = Path(__file__).parent / "shim.hpp"
FLAGS = ["-std=c++17", "-O1", "-ffp-contract=off", "-fno-strict-aliasing", "-w", "-shared", "-fPIC"]
WITHOUT_BARRIERS = (
    "preprocess", "preprocess_halve", "tail_points", "tail_zero", "matte_points", "matte_pixels",
    "matte_labels", "entropy_pixels", "sum_blocks", "blur_blocks", "compose_blurred",
    "draw_outline", "paint_heat", "copy_rows",
)  # fmt: skip
ASAN = os.environ.get("SEGEDGE_SHIM_ASAN") == "1"

_ENTRY = """
extern "C" int shim_launch(const unsigned* dims, void** arguments, const int* sizes, int count) {
  return shim::run(%(name)s, dims, arguments, sizes, count);
}
extern "C" const char* shim_describe(int* sizes, int* is_pointer, int room) {
  shim::describe(%(name)s, sizes, is_pointer, room);
  return "%(name)s";
}
"""


def has_compiler() -> bool:
    return subprocess.run(["g++", "--version"], capture_output=True, check=False).returncode == 0


class ShimLauncher:
    """Runs kernels here and remembers which."""

    def __init__(self) -> None:
        self.kernels: list[Kernel] = []

    def __call__(
        self,
        kernel: Kernel,
        grid: tuple[int, int],
        block: tuple[int, int],
        arguments: Sequence[Argument],
    ) -> None:
        self.kernels.append(kernel)
        values = [np.uint64(a) if isinstance(a, int) else a for a in arguments]
        cells = [np.array(value) for value in values]
        pointers = (ctypes.c_void_p * len(cells))(*[cell.ctypes.data for cell in cells])
        sizes = (ctypes.c_int * len(cells))(*[cell.itemsize for cell in cells])
        dims = (ctypes.c_uint * 6)(*grid, 1, *block, 1)
        bad = _load(kernel)(dims, pointers, sizes, len(cells))
        assert bad < 1000, f"{kernel.name} takes {bad - 1000} arguments, given {len(cells)}"
        assert bad < 0, f"{kernel.name}: argument {bad} has the wrong width"


@cache
def _load(kernel: Kernel) -> ctypes._CFuncPtr:
    return ctypes.CDLL(str(_build(kernel))).shim_launch


def _build(kernel: Kernel) -> Path:
    """The kernel as a shared library, from the cache of earlier runs where nothing changed."""
    plain = "#define SHIM_PLAIN\n" if kernel.name in WITHOUT_BARRIERS else ""
    source = f'{plain}#include "{HEADER}"\n{kernel.source}{_ENTRY % {"name": kernel.name}}'
    flags = [*FLAGS, "-fsanitize=address"] if ASAN else FLAGS
    digest = hashlib.sha256("\n".join([*flags, HEADER.read_text(), source]).encode()).hexdigest()
    folder = Path(tempfile.gettempdir()) / f"segedge-shim-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    library = folder / f"{kernel.name}-{digest[:24]}.so"
    if not library.exists():
        part = library.with_suffix(f".{os.getpid()}.part")
        done = subprocess.run(
            ["g++", *flags, "-x", "c++", "-", "-o", str(part)],
            input=source, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[:3000]
        part.replace(library)
    return library

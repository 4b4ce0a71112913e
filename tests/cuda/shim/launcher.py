"""A launcher that compiles kernels with g++ and runs them on the CPU, see shim.hpp."""

from __future__ import annotations

import ctypes
import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np

from segedge.cuda.runtime.program import Arguments, Extent, Kernel

sys.path.append(str(Path(__file__).parents[3]))  # for processes that are no pytest
from tests.built import built

HEADER = Path(__file__).parent / "shim.hpp"
ASAN = os.environ.get("SEGEDGE_SHIM_ASAN") == "1"
FLAGS = [
    "-std=c++17", "-O1", "-ffp-contract=off", "-fno-strict-aliasing", "-w", "-fPIC",
    "-U_FORTIFY_SOURCE",  # it forbids jumps to another stack
    *(["-fsanitize=address"] if ASAN else []),
]  # fmt: skip
WITHOUT_BARRIERS = (
    "preprocess", "preprocess_halve", "tail_points", "tail_zero", "matte_points", "matte_pixels",
    "matte_labels", "entropy_pixels", "sum_blocks", "blur_blocks", "compose_blurred",
    "draw_outline", "paint_heat", "copy_rows",
)  # fmt: skip

_ENTRY = """
extern "C" int shim_launch(const unsigned* dims, void** arguments, const int* sizes, int count) {
  return shim::run(%(name)s, dims, arguments, sizes, count);
}
extern "C" const char* shim_describe(int* sizes, int* is_pointer, int room) {
  shim::describe(%(name)s, sizes, is_pointer, room);
  return "%(name)s";
}
"""


class ShimLauncher:
    """Runs kernels here and remembers which."""

    def __init__(self) -> None:
        self.kernels: list[Kernel] = []

    def __call__(self, kernel: Kernel, grid: Extent, block: Extent, given: Arguments) -> None:
        self.kernels.append(kernel)
        values = [np.uint64(a) if isinstance(a, int) else a for a in given]
        cells = [np.array(value) for value in values]
        pointers = (ctypes.c_void_p * len(cells))(*[cell.ctypes.data for cell in cells])
        sizes = (ctypes.c_int * len(cells))(*[cell.itemsize for cell in cells])
        dims = (ctypes.c_uint * 6)(*grid, 1, *block, 1)
        bad = _load(kernel)(dims, pointers, sizes, len(cells))
        assert bad < 1000, f"{kernel.name} takes {bad - 1000} arguments, given {len(cells)}"
        assert bad < 0, f"{kernel.name}: argument {bad} has the wrong width"


@cache
def _load(kernel: Kernel) -> ctypes._CFuncPtr:
    return ctypes.CDLL(str(build(kernel))).shim_launch


def build(kernel: Kernel) -> Path:
    """The kernel as a shared library."""
    plain = "#define SHIM_PLAIN\n" if kernel.name in WITHOUT_BARRIERS else ""
    source = f'{plain}#include "{HEADER}"\n{kernel.source}{_ENTRY % {"name": kernel.name}}'

    def make(path: Path) -> None:
        words = ("-shared", "-include", _standard_headers(), "-x", "c++", "-", "-o", path)
        gxx(*FLAGS, *words, source=source)

    return built(f"{kernel.name}.so", make, key=[HEADER.read_text(), source, *FLAGS, compiler()])


@cache
def _standard_headers() -> Path:
    """The headers of the C++ library that the shim includes, compiled: half of a kernel's time."""
    source = "\n".join(re.findall("^#include <.*", HEADER.read_text(), re.M))

    def make(folder: Path) -> None:
        folder.mkdir()
        (folder / "standard.hpp").write_text(source)
        gxx(*FLAGS, "-x", "c++-header", folder / "standard.hpp")

    return built("headers", make, key=[source, *FLAGS, compiler()]) / "standard.hpp"


def gxx(*words: object, source: str = "") -> None:
    """Run g++, with a source on its standard input where ``-`` is among the words."""
    done = subprocess.run(
        ["g++", *map(str, words)], input=source, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[:3000]


@cache
def compiler() -> str:
    """What g++ calls itself; empty where there is none."""
    try:
        done = subprocess.run(["g++", "--version"], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ""
    return done.stdout.partition("\n")[0]


def has_compiler() -> bool:
    return bool(compiler())

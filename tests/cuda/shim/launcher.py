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
FIBERS = HEADER.with_name("fibers.cpp")
ASAN = os.environ.get("SEGEDGE_SHIM_ASAN") == "1"
FLAGS = [
    "-std=c++17", "-O1", "-ffp-contract=off", "-fno-strict-aliasing", "-w", "-fPIC",
    "-fvisibility=hidden", "-U_FORTIFY_SOURCE",  # which forbids jumps to another stack
    *(["-fsanitize=address", "--param=asan-instrumentation-with-call-threshold=0"] if ASAN else []),
]  # fmt: skip
"""Checks as calls: a third less to compile, which takes longer than to run."""
LINK = ["-shared", "-nodefaultlibs", "-lstdc++"]
"""Which needs all the others itself; g++'s own list of them takes five times as long to link."""
WITHOUT_BARRIERS = (
    "preprocess", "preprocess_halve", "tail_points", "tail_zero", "matte_points", "matte_pixels",
    "matte_labels", "entropy_pixels", "sum_blocks", "blur_blocks", "compose_blurred",
    "draw_outline", "paint_heat", "copy_rows",
)  # fmt: skip

_NAME = re.compile(r"__global__ void\s+(\w+)\(")
_ENTRY = """
#define SEEN_BY_ALL extern "C" __attribute__((visibility("default")))
SEEN_BY_ALL int shim_launch_%(name)s(
    const unsigned* dims, void** arguments, const int* sizes, int count) {
  return shim::run<%(has_barriers)s>(%(name)s, dims, arguments, sizes, count);
}
SEEN_BY_ALL void shim_describe_%(name)s(int* sizes, int* is_pointer, int room) {
  shim::describe(%(name)s, sizes, is_pointer, room);
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
    library = ctypes.CDLL(str(build(kernel)))
    return getattr(library, f"shim_launch_{kernel.name}")


def machine_code(kernel: Kernel) -> bytes:
    """What the simulated driver takes for a cubin."""
    return f"SHIM:{kernel.name}:{build(kernel)}\0".encode()


def build(kernel: Kernel) -> Path:
    """The kernel's source, with all kernels in it, as a shared library."""

    def make(path: Path) -> None:
        macros = ("-DSEGEDGE_SHIM", "-D__launch_bounds__(...)=")
        active = gxx("-E", "-P", *macros, "-x", "c++", "-", source=kernel.source)
        entries = [
            _ENTRY % {"name": name, "has_barriers": str(name not in WITHOUT_BARRIERS).lower()}
            for name in _NAME.findall(active)
        ]
        source = "\n".join([f'#include "{HEADER}"', kernel.source, *entries])
        words = ("-include", _headers(), "-x", "c++", "-", "-x", "none", _fibers(), "-o", path)
        gxx(*FLAGS, *words, *LINK, source=source)

    texts = [HEADER.read_text(), FIBERS.read_text(), _ENTRY, *WITHOUT_BARRIERS, kernel.source]
    key = [*texts, *FLAGS, *LINK, compiler()]
    return built(f"{kernel.files[-1]}.so", make, key=key)


@cache
def _headers() -> Path:
    """The headers of the C++ library that the shim includes, compiled: half of a kernel's time."""
    source = "\n".join(re.findall("^#include <.*", HEADER.read_text(), re.M))

    def make(folder: Path) -> None:
        folder.mkdir()
        (folder / "standard.hpp").write_text(source)
        gxx(*FLAGS, "-x", "c++-header", folder / "standard.hpp")

    return built("headers", make, key=[source, *FLAGS, compiler()]) / "standard.hpp"


@cache
def _fibers() -> Path:
    """What runs the threads, the same in every library."""
    return built(
        "fibers.o",
        lambda path: gxx(*FLAGS, "-c", FIBERS, "-o", path),
        key=[HEADER.read_text(), FIBERS.read_text(), *FLAGS, compiler()],
    )


def gxx(*words: object, source: str = "") -> str:
    """What g++ prints; with a source on its standard input where ``-`` is among the words."""
    done = subprocess.run(
        ["g++", *map(str, words)], input=source, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[:3000]
    return done.stdout


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

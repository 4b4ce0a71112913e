"""A simulated CUDA driver: the real cuda-core and cuda-bindings run on it, on the CPU.

How to write a test: put ``test_*.py`` into ``tests/cuda/simulated``. `make test` runs that folder
in one child process, where ``libcuda.so.1`` is the library built here (``test_simulated.py``), and
Programs get their kernels from ``shim/launcher.py``. To run it by hand::

    pytest tests/cuda/test_simulated.py                      # the child process and its report
    eval "$(python tests/cuda/driver/simulated.py)"          # or: this shell gets the driver
    pytest tests/cuda/simulated -k something

In a test the fixture ``sim`` is a `Control`. Work is deferred there (``SIMCUDA_DEFER=1``): it runs
when somebody waits for it, so that a missing wait shows as stale data.

Settings, from the environment when the driver is first used, or by `Control.set`:

====================  ==============================================================
SIMCUDA_DEFER         1: work waits until it is waited for; 0: it runs at once
SIMCUDA_MEMORY_BYTES  memory of a device; default 8 GiB
SIMCUDA_DEVICES       number of devices; default 1 (only from the environment)
SIMCUDA_INIT          what cuInit returns, e.g. 100 or 803 (only from the environment)
SIMCUDA_DRIVER        version of the driver; default 13000
SIMCUDA_CAPABILITY    10 * major + minor; default 87
SIMCUDA_INTEGRATED    1: the device shares the host's memory
SIMCUDA_POOLS         0: no memory pools
SIMCUDA_VERBOSE       1: failing calls and unknown functions on stderr; 2: all calls
====================  ==============================================================

What the driver is strict about, because a GPU is or may be:

- Device addresses cannot be read by the host: doing so is a segmentation fault.
- Kernels may only get pointers into memory that a device reaches; else CUDA_ERROR_ILLEGAL_ADDRESS,
  which breaks the context until `Control.reset`. So does work on memory that was freed meanwhile.
- New memory reads 0xA5, freed pinned memory 0xDD. Writes next to an allocation are counted.
- Freeing waits for nothing. Copies wait only where CUDA promises it: a fill or a copy within the
  device never, a copy from pageable memory only until it is read.
- Most calls need a current context in the thread that makes them.
- A query of unfinished work says "not ready" once and finishes the work the next time.
- Branches of a graph run in an order unlike the recorded one (deferred only).

Not simulated: the CUDA runtime (``cuda.bindings.runtime``; ``Device.sync`` and
``Device.pci_bus_id`` need it), arrays, textures, virtual and IPC memory, managed memory beyond
allocating it, allocation inside a capture, event nodes, graph nodes added one by one, conditional
nodes, green contexts, cubins, and time: work takes as long as it takes on this CPU. What is
refused during a capture, and with which code, follows NVIDIA's documentation; nobody has compared
it with a GPU.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
sys.path += [str(ROOT), str(HERE.parent)]  # for a shell that runs this file
from shim.launcher import compiler, gxx  # noqa: E402

from tests.built import built  # noqa: E402
from tests.processes import ended  # noqa: E402

NAME = "libcuda.so.1"
FLAGS = [
    "-std=c++17", "-O1", "-g1", "-Wall", "-Wextra", "-shared", "-fPIC", "-fvisibility=hidden",
]  # fmt: skip


def build() -> Path:
    """The folder with the simulated ``libcuda.so.1``."""
    sources = sorted([*HERE.glob("*.cpp"), *HERE.glob("*.hpp")])
    texts = [f"{path.name}\n{path.read_text()}" for path in sources]

    def make(folder: Path) -> None:
        folder.mkdir()
        words = (HERE / "driver.cpp", "-o", folder / NAME, f"-Wl,-soname,{NAME}")
        gxx(*FLAGS, *words, "-ldl", "-pthread")

    return built("driver", make, key=[*texts, *FLAGS, compiler()])


def environment(**settings: int) -> dict[str, str]:
    """The environment of a process with the simulated driver; ``defer=1`` is SIMCUDA_DEFER=1."""
    found = [os.environ[key] for key in ("LD_LIBRARY_PATH",) if os.environ.get(key)]
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("SIMCUDA")}
    return {
        **inherited,
        "LD_LIBRARY_PATH": os.pathsep.join([str(build()), *found]),
        "SIMCUDA": "1",
        **{f"SIMCUDA_{name.upper()}": str(value) for name, value in settings.items()},
    }


def run_simulated(code: str, **settings: int) -> subprocess.CompletedProcess[str]:
    """Run Python code in a process of its own: for settings that only the environment has."""
    return ended(
        [sys.executable, "-X", "faulthandler", "-c", code], cwd=ROOT, env=environment(**settings)
    )


class Control:
    """What tests see and do that users of a driver cannot."""

    def __init__(self) -> None:
        """Open the driver of this process, which must be the simulated one."""
        self._library = ctypes.CDLL(NAME)
        self._library.sim_counter.restype = ctypes.c_longlong
        self._library.sim_error.restype = ctypes.c_char_p
        self._library.sim_host_address.restype = ctypes.c_void_p
        self._library.sim_set.restype = ctypes.c_bool

    def counter(self, name: str) -> int:
        """How many there are, or were since `reset`.

        Now: live_bytes, live_allocations, device_bytes, pinned_bytes, streams, events, graphs,
        graph_execs, libraries, user_objects, captures, waiting (pieces of deferred work). Were:
        launches (of kernels, not captured), graph_launches, kernels (that ran, graphs included),
        copies, pageable_copies, syncs, overruns (writes next to an allocation).
        """
        value = int(self._library.sim_counter(name.encode()))
        assert value >= 0, f"no counter {name}"
        return value

    def error(self) -> str:
        """What broke the context; empty where nothing did."""
        return str(self._library.sim_error().decode())

    def reset(self) -> None:
        """Mend a broken context, zero the counters of what was, end all interference."""
        self._library.sim_reset()

    def refuse_capture(self, stage: int) -> None:
        """Make the next capture fail: 0 as it begins, 1 at its first work, 2 when instantiated."""
        self._library.sim_refuse_capture(stage)

    def break_replay(self, nodes: int = 1) -> None:
        """Make graph launches leave out their last nodes; 0 ends it."""
        self._library.sim_break_replay(nodes)

    def set(self, name: str, value: int) -> None:
        """Change a setting: ``set("memory_bytes", 1 << 20)``."""
        assert self._library.sim_set(name.encode(), ctypes.c_longlong(value)), name

    def settle(self) -> None:
        """Do all work that waits, whatever stream it is on."""
        self._library.sim_settle()

    def view(self, address: int, shape: tuple[int, ...], dtype: DTypeLike = np.uint8) -> Any:
        """Device memory as it is now, without waiting for work; writing to it works too."""
        start = self._library.sim_host_address(ctypes.c_ulonglong(address))
        assert start, f"nothing is allocated at {address:#x}"
        item = np.dtype(dtype)
        size = int(np.prod(shape)) * item.itemsize
        return np.frombuffer((ctypes.c_ubyte * size).from_address(start), item).reshape(shape)


if __name__ == "__main__":
    for key in ("LD_LIBRARY_PATH", "SIMCUDA", "SIMCUDA_DEFER"):
        print(f"export {key}={environment(defer=1)[key]}")

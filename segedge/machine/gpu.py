"""The GPU and its driver, asked of the driver itself: no CUDA library needed.

``libcuda.so.1`` is the driver's own library. Its C functions are called through ctypes, so that a
machine without a GPU, or without any CUDA package, gets a clear answer instead of an import error.
Functions and attribute numbers: https://docs.nvidia.com/cuda/cuda-driver-api/ (cuda.h).
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from pathlib import Path

from segedge.errors import DeviceError

_LIBRARY = "libcuda.so.1"
_MAJOR, _MINOR, _INTEGRATED = 75, 76, 18
"""CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, ..._MINOR and ..._INTEGRATED."""
_OTHER_ERRORS = {
    3: "the driver is not initialised (code 3)",
    34: "only the stub library of the CUDA toolkit was found (code 34)",
    100: "the driver finds no GPU (code 100)",
    803: "the driver's kernel module and library differ: reboot after an update (code 803)",
    804: "the CUDA compatibility package does not fit this GPU (code 804)",
}
_TEGRA_MARKS = ("/etc/nv_tegra_release", "/sys/module/tegra_fuse", "/sys/devices/soc0/family")


@dataclass(frozen=True)
class Gpu:
    """One GPU."""

    name: str
    """As the driver calls it: ``NVIDIA GeForce RTX 4090``, ``Orin``."""
    capability: tuple[int, int]
    """Compute capability (major, minor)."""
    memory_bytes: int
    integrated: bool
    """Whether it shares the memory of the CPU, as on a Jetson."""

    @property
    def sm(self) -> str:
        """The capability as compilers write it: ``sm_87``."""
        return f"sm_{self.capability[0]}{self.capability[1]}"

    def __str__(self) -> str:
        return f"{self.name} ({self.sm})"


@dataclass(frozen=True)
class Driver:
    """What the driver says about this machine."""

    gpu: Gpu | None
    """The first GPU that this process may use, or None."""
    cuda: tuple[int, int] | None
    """Newest CUDA version that the driver supports, or None where there is no driver."""
    problem: str = ""
    """Why there is no GPU, with numbers; empty where there is one."""

    @property
    def cuda_text(self) -> str:
        """``CUDA 13.1``, or ``no driver``."""
        return f"CUDA {self.cuda[0]}.{self.cuda[1]}" if self.cuda else "no driver"


def find_driver(*, index: int = 0) -> Driver:
    """Ask the driver for its version and a GPU; never raises.

    GPUs are counted within ``CUDA_VISIBLE_DEVICES``.
    """
    try:
        library = ctypes.CDLL(_LIBRARY)
    except OSError:
        return Driver(None, None, f"no NVIDIA driver: {_LIBRARY} not found")
    cuda = _cuda_version(library)
    code = library.cuInit(0)
    if code:
        return Driver(
            None, cuda, _OTHER_ERRORS.get(code, f"the driver refuses: cuInit code {code}")
        )
    count = ctypes.c_int()
    library.cuDeviceGetCount(ctypes.byref(count))
    if count.value <= index:
        return Driver(None, cuda, f"the driver finds {count.value} GPUs, wanted number {index}")
    return Driver(_gpu(library, index), cuda)


def require_gpu(
    *,
    purpose: str,
    cuda_major: int | None = None,
    index: int = 0,
    instead: str = "use --backend openvino or onnxruntime on this CPU",
    older: str = "",
) -> Gpu:
    """The first GPU, or a `DeviceError` that says what is missing.

    ``purpose`` completes "... needs a GPU", ``instead`` "install the NVIDIA driver, or ...",
    ``older`` "update the NVIDIA driver, or ..."; a driver of an older major version than
    ``cuda_major`` is refused.
    """
    driver = find_driver(index=index)
    if driver.gpu is None:
        raise DeviceError(
            f"{purpose} needs an NVIDIA GPU",
            facts={"found": driver.problem, "driver": driver.cuda_text},
            fix=f"install the NVIDIA driver, or {instead}",
        )
    if cuda_major and driver.cuda and driver.cuda[0] < cuda_major:
        raise DeviceError(
            f"the NVIDIA driver is too old: {purpose} needs CUDA {cuda_major}",
            facts={
                "found": f"a driver for {driver.cuda_text}",
                "expected": f"CUDA {cuda_major}.0+",
            },
            fix="update the NVIDIA driver" + (f", or {older}" if older else ""),
        )
    return driver.gpu


def is_tegra() -> bool:
    """Whether this machine is a Jetson (or another Tegra), by the marks that its system leaves."""
    release, module, family = (Path(mark) for mark in _TEGRA_MARKS)
    if release.exists() or module.exists():
        return True
    try:
        return family.read_text(encoding="utf-8").strip().lower() == "tegra"
    except OSError:
        return False


def _cuda_version(library: ctypes.CDLL) -> tuple[int, int] | None:
    """The driver's CUDA version: it says 1000 * major + 10 * minor; it works before cuInit."""
    version = ctypes.c_int()
    if library.cuDriverGetVersion(ctypes.byref(version)):
        return None
    return version.value // 1000, version.value % 1000 // 10


def _gpu(library: ctypes.CDLL, index: int) -> Gpu:
    device, size = ctypes.c_int(), ctypes.c_size_t()
    name = ctypes.create_string_buffer(256)
    library.cuDeviceGet(ctypes.byref(device), index)
    library.cuDeviceGetName(name, len(name), device)
    library.cuDeviceTotalMem_v2(ctypes.byref(size), device)
    major, minor, integrated = (
        _attribute(library, device, number) for number in (_MAJOR, _MINOR, _INTEGRATED)
    )
    text = name.value.decode(errors="replace")
    return Gpu(text, (major, minor), size.value, bool(integrated))


def _attribute(library: ctypes.CDLL, device: ctypes.c_int, number: int) -> int:
    value = ctypes.c_int()
    library.cuDeviceGetAttribute(ctypes.byref(value), number, device)
    return value.value

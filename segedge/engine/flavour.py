"""The two flavours of TensorRT behind one name, and which one fits this machine.

``tensorrt`` is the library for data-centre GPUs and Jetsons: it builds on the GPU that will run
the engine. ``tensorrt_rtx`` is for RTX cards: it builds ahead of time on any machine, no GPU
needed, and compiles the last step when the engine is first run.

``auto`` takes, in this order:

1. on a Jetson: ``tensorrt`` (TensorRT-RTX has no engine for its GPU, sm_87, nor for Thor, sm_110);
2. with a GPU that TensorRT-RTX lists (sm_75, 80, 86, 89, 120, 121) and it is installed:
   ``tensorrt_rtx``, except where both are installed and the GPU is a data-centre one (sm_80);
3. with any other GPU: ``tensorrt``;
4. without a GPU: whichever is installed, ``tensorrt_rtx`` first, because it alone can build there.

Where the one that fits is not installed, the other is taken if it is. Nothing is remembered
between calls: the flavour is an argument, never a process-wide switch.
"""

from __future__ import annotations

import platform
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from segedge.errors import BackendError, MissingDependencyError, unknown_name_error
from segedge.machine.gpu import Driver, Gpu, find_driver, is_tegra
from segedge.machine.optional import install_command, installed_version, is_importable, require

FlavourName = Literal["tensorrt", "tensorrt_rtx"]
FLAVOURS: tuple[FlavourName, ...] = get_args(FlavourName)

TITLES: dict[FlavourName, str] = {"tensorrt": "TensorRT", "tensorrt_rtx": "TensorRT-RTX"}
_MODULES: dict[FlavourName, tuple[str, ...]] = {
    "tensorrt": ("tensorrt",),
    "tensorrt_rtx": ("tensorrt_rtx", "tensorrt_rtx_bindings"),
}
"""Import names, first choice first: the meta-package, then the bare bindings wheel of PyPI."""
_DISTRIBUTIONS: dict[FlavourName, tuple[str, ...]] = {
    "tensorrt": ("tensorrt", "tensorrt_cu13_bindings", "tensorrt_cu12_bindings"),
    "tensorrt_rtx": ("tensorrt_rtx", "tensorrt_rtx_cu13_bindings", "tensorrt_rtx_cu12_bindings"),
}
_CUDA_OF_DISTRIBUTION = {
    "tensorrt_cu13_bindings": 13,
    "tensorrt_rtx_cu13_bindings": 13,
    "tensorrt_cu12_bindings": 12,
    "tensorrt_rtx_cu12_bindings": 12,
}
OLDEST_TENSORRT = (10, 3)
"""JetPack 6.1; TensorRT 10.2 and older are refused."""
RTX_CAPABILITIES = ((7, 5), (8, 0), (8, 6), (8, 9), (12, 0), (12, 1))
"""GPUs that TensorRT-RTX 1.7 builds for: its ``ComputeCapability`` enum."""
DATA_CENTRE_CAPABILITIES = ((8, 0), (9, 0), (10, 0), (10, 3))


@dataclass(frozen=True)
class Flavour:
    """One loaded TensorRT library."""

    name: FlavourName
    module: Any = field(repr=False, compare=False)
    """The imported library; typed Any, it has no stubs."""
    version: tuple[int, ...]
    """Its version, e.g. (10, 13, 3, 9)."""
    cuda_major: int | None = None
    """CUDA major version that the installed wheel is built for; None where it is the system's."""

    @property
    def builds_ahead(self) -> bool:
        """Whether it builds engines on a machine without a GPU."""
        return self.name == "tensorrt_rtx"

    @property
    def version_text(self) -> str:
        """``10.13.3``: as the engines are bound to it."""
        return ".".join(map(str, self.version[:3]))

    def __str__(self) -> str:
        return f"{TITLES[self.name]} {self.version_text}"


@dataclass(frozen=True)
class FlavourStatus:
    """What a flavour could do on this machine, for `segedge doctor`."""

    name: FlavourName
    version: str | None
    """Its version, or None where it is not installed."""
    can_build: bool
    can_run: bool
    detail: str
    """In words, with the reason where something cannot be done."""
    fix: str | None = None


def load_flavour(name: str = "auto", *, purpose: str = "build TensorRT engines") -> Flavour:
    """Import a TensorRT library."""
    if name != "auto":
        if name not in FLAVOURS:
            raise unknown_name_error("TensorRT flavour", name, ["auto", *FLAVOURS])
        return _import(name, purpose)
    order = flavour_order(find_driver().gpu, tegra=is_tegra())
    installed = [candidate for candidate in order if is_installed(candidate)]
    if not installed:
        raise MissingDependencyError(
            f"TensorRT is needed to {purpose}",
            facts={"looked for": ", ".join(name for c in order for name in _MODULES[c])},
            fix=_install_fix(order[0]),
        )
    return _import(installed[0], purpose)


def flavour_order(gpu: Gpu | None, *, tegra: bool) -> tuple[FlavourName, FlavourName]:
    """Both flavours, the one that fits a machine first; the rules are this module's docstring."""
    rtx_first = gpu is None or (
        gpu.capability in RTX_CAPABILITIES and gpu.capability not in DATA_CENTRE_CAPABILITIES
    )
    if tegra or not rtx_first:
        return "tensorrt", "tensorrt_rtx"
    return "tensorrt_rtx", "tensorrt"


def is_installed(name: FlavourName) -> bool:
    """Whether the flavour can be found; it is not imported."""
    return any(is_importable(module) for module in _MODULES[name])


def _import(name: FlavourName, purpose: str) -> Flavour:
    found = next((m for m in _MODULES[name] if is_importable(m)), None)
    if found is None:
        raise MissingDependencyError(
            f"{TITLES[name]} is needed to {purpose}",
            facts={"found": "not installed"},
            fix=_install_fix(name),
        )
    module = require(found, purpose=purpose)
    version = _version_tuple(str(module.__version__))
    if name == "tensorrt" and version[:2] < OLDEST_TENSORRT:
        raise BackendError(
            f"TensorRT {module.__version__} is too old",
            facts={"expected": f"{OLDEST_TENSORRT[0]}.{OLDEST_TENSORRT[1]} or newer"},
            fix="JetPack 6.1 or newer brings it: docs/jetson.md",
        )
    return Flavour(name, module, version, _cuda_major(name))


def flavour_statuses(*, driver: Driver | None = None) -> list[FlavourStatus]:
    """What each flavour could build and run here, without importing it."""
    driver = driver or find_driver()
    return [_status(name, driver) for name in FLAVOURS]


def _status(name: FlavourName, driver: Driver) -> FlavourStatus:
    if not is_installed(name):
        return FlavourStatus(name, None, False, False, "not installed", _install_fix(name))
    version = installed_version(*_DISTRIBUTIONS[name]) or "?"
    problem = _running_problem(name, driver)
    can_build = name == "tensorrt_rtx" or not problem
    if not problem:
        detail = f"builds and runs on {driver.gpu}, driver for {driver.cuda_text}"
        return FlavourStatus(name, version, True, True, detail)
    detail = (
        f"builds engines here; cannot run them: {problem}"
        if can_build
        else f"cannot build or run engines: {problem}"
    )
    return FlavourStatus(name, version, can_build, False, detail)


def _running_problem(name: FlavourName, driver: Driver) -> str:
    """Why this flavour cannot run engines here, or an empty string."""
    needed = _cuda_major(name)
    if driver.gpu is None:
        return driver.problem
    if needed and driver.cuda and driver.cuda[0] < needed:
        return f"the driver is for {driver.cuda_text}, this wheel needs CUDA {needed}"
    if name == "tensorrt_rtx" and driver.gpu.capability not in RTX_CAPABILITIES:
        known = ", ".join(f"sm_{major}{minor}" for major, minor in RTX_CAPABILITIES)
        return f"{driver.gpu} is not among its GPUs: {known}"
    return ""


def _install_fix(name: FlavourName) -> str:
    if name == "tensorrt" and platform.machine() == "aarch64":
        return "use JetPack's own TensorRT in a venv with --system-site-packages: docs/jetson.md"
    return install_command(name)


def _cuda_major(name: FlavourName) -> int | None:
    found = (d for d in _DISTRIBUTIONS[name][1:] if installed_version(d))
    return next((_CUDA_OF_DISTRIBUTION[d] for d in found), None)


def _version_tuple(text: str) -> tuple[int, ...]:
    """The leading numbers of a version: ``10.13.3.9.post1`` is (10, 13, 3, 9)."""
    numbers: list[int] = []
    for part in text.split("."):
        if not part.isdigit():
            break
        numbers.append(int(part))
    return tuple(numbers)

"""What differs between TensorRT versions and flavours: the only file with version guards.

Everything else in segedge uses only what TensorRT 10.3, 10.13, 10.16, 11.4 and TensorRT-RTX 1.7
have in common; tests/engine/test_api_surface.py checks that against the real bindings. The names
that are not common are in `GUARDED`, each used here behind a check of the flavour or the version.
"""

from __future__ import annotations

import re
from typing import Any

from segedge.engine.flavour import RTX_CAPABILITIES, Flavour
from segedge.errors import BackendError, UsageError
from segedge.machine.gpu import Gpu

GUARDED: dict[str, tuple[str, ...]] = {
    "trt": ("ComputeCapability", "EngineValidity", "EngineInvalidityDiagnostics"),
    "config": ("num_compute_capabilities", "set_compute_capability"),
    "engine": ("create_runtime_config",),
    "runtime_config": (
        "create_runtime_cache",
        "set_runtime_cache",
        "set_execution_context_allocation_strategy",
    ),
    "runtime": ("get_engine_validity",),
    "runtime_cache": ("serialize", "deserialize"),
    "trt.BuilderFlag": ("REQUIRE_USER_ALLOCATION",),
    "context": ("is_stream_capturable",),
}
"""Variable to its attributes that only some versions have."""

PORTABLE_FROM = (8, 0)
"""TensorRT-RTX engines without targets run from Ampere on (bits 1.. of the plan's target mask)."""


def portable_targets() -> tuple[str, ...]:
    """The GPUs of a TensorRT-RTX engine that was built without targets."""
    return tuple(f"sm_{a}{b}" for a, b in RTX_CAPABILITIES if (a, b) >= PORTABLE_FROM)


def checked_targets(flavour: Flavour, targets: tuple[str, ...]) -> tuple[str, ...]:
    """Targets in the form ``sm_86``, in order."""
    if not targets:
        return portable_targets() if flavour.builds_ahead else ()
    if not flavour.builds_ahead:
        raise UsageError(
            f"{flavour} builds for the GPU at hand only; --target is TensorRT-RTX's",
            facts={"found": ", ".join(targets)},
            fix="--flavour tensorrt_rtx, or build on the machine that runs the engine",
        )
    known = {f"sm_{a}{b}" for a, b in RTX_CAPABILITIES}
    names = [re.sub(r"^(sm)?[_-]?", "sm_", target.strip().lower()) for target in targets]
    for given, name in zip(targets, names, strict=True):
        if name not in known:
            raise UsageError(
                f"{flavour} has no target {given!r}",
                facts={"known": ", ".join(sorted(known, key=lambda s: int(s[3:])))},
            )
    return tuple(sorted(set(names), key=lambda s: int(s[3:])))


def set_targets(flavour: Flavour, config: Any, targets: tuple[str, ...]) -> None:
    """Tell the builder which GPUs the engine is for; nothing to tell for a portable engine."""
    if not flavour.builds_ahead or targets == portable_targets():
        return
    trt = flavour.module
    config.num_compute_capabilities = len(targets)
    for index, name in enumerate(targets):
        capability = trt.ComputeCapability.__members__[name.replace("_", "").upper()]
        if not config.set_compute_capability(capability, index):
            raise BackendError(f"{flavour} refuses target {name}")


def set_compatibility(
    flavour: Flavour, config: Any, *, version: bool, hardware: bool, user_allocation: bool
) -> None:
    """Version and hardware compatibility, and memory given by the caller, where there are such."""
    trt = flavour.module
    if flavour.builds_ahead and (version or hardware):
        asked = "--version-compatible" if version else "--hardware-compatible"
        raise UsageError(
            f"{flavour} does not know {asked}",
            facts={"found": f"{asked} is an option of TensorRT's data-centre and Jetson flavour"},
            fix="leave it out: TensorRT-RTX engines run on every GPU among their targets",
        )
    if version:
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
    if hardware:
        config.hardware_compatibility_level = trt.HardwareCompatibilityLevel.AMPERE_PLUS
    if user_allocation and flavour.builds_ahead:
        config.set_flag(trt.BuilderFlag.REQUIRE_USER_ALLOCATION)


def set_dla(flavour: Flavour, builder: Any, config: Any, core: int) -> None:
    """Run what is possible on a DLA core and the rest on the GPU."""
    trt = flavour.module
    cores = 0 if flavour.builds_ahead else int(builder.num_DLA_cores)
    if not 0 <= core < cores:
        raise UsageError(
            f"there is no DLA core {core} here",
            facts={"found": f"{cores} DLA cores with {flavour}"},
            fix="leave --dla out: the GPU runs the whole network",
        )
    config.default_device_type = trt.DeviceType.DLA
    config.DLA_core = core
    config.set_flag(trt.BuilderFlag.GPU_FALLBACK)


def has_timing_cache(flavour: Flavour) -> bool:
    """Whether kernels are timed at build: not in TensorRT-RTX, where the calls are no-ops."""
    return not flavour.builds_ahead


def plan_validity(flavour: Flavour, runtime: Any, plan: bytes) -> str:
    """Why TensorRT-RTX would refuse a plan, found without loading it; empty where it would not.

    Needs a driver; other flavours answer with an empty string.
    """
    if not flavour.builds_ahead or not hasattr(runtime, "get_engine_validity"):
        return ""
    trt = flavour.module
    validity, bits = runtime.get_engine_validity(plan)
    if validity != trt.EngineValidity.INVALID:
        return ""
    members = trt.EngineInvalidityDiagnostics.__members__.items()
    names = [name.lower().replace("_", " ") for name, value in members if int(value) & int(bits)]
    return ", ".join(names) or "invalid, without a reason given"


def create_context(
    flavour: Flavour, engine: Any, *, kernels: bytes | None, user_managed: bool = False
) -> tuple[Any, Any]:
    """An execution context (None: not enough memory), and the cache of kernels that it compiles.

    TensorRT-RTX compiles its kernels for the GPU at hand when the engine first runs; ``kernels`` is
    what an earlier run's cache held. ``user_managed``: the caller gives the scratch memory, by
    ``set_device_memory``. Other flavours have no cache: None.
    """
    trt = flavour.module
    strategy = trt.ExecutionContextAllocationStrategy.STATIC
    if user_managed:
        strategy = trt.ExecutionContextAllocationStrategy.USER_MANAGED
    if not flavour.builds_ahead:
        return engine.create_execution_context(strategy), None
    runtime_config = engine.create_runtime_config()
    runtime_cache = runtime_config.create_runtime_cache()
    if kernels:
        runtime_cache.deserialize(kernels)
    runtime_config.set_runtime_cache(runtime_cache)
    runtime_config.set_execution_context_allocation_strategy(strategy)
    return engine.create_execution_context(runtime_config), runtime_cache


def serialized_kernels(runtime_cache: Any) -> bytes:
    """The bytes of a runtime cache, to be given to `create_context` another time."""
    return bytes(runtime_cache.serialize())


def is_capturable(flavour: Flavour, context: Any, stream: int) -> bool:
    """Whether a CUDA graph may capture the engine now; TensorRT proper does not say and tries."""
    return not flavour.builds_ahead or bool(context.is_stream_capturable(stream))


def device_key(flavour: Flavour, gpu: Gpu | None, targets: tuple[str, ...]) -> str:
    """What an engine's device is, for cache keys: targets for TensorRT-RTX, else the GPU."""
    if flavour.builds_ahead:
        return f"ahead of time: {', '.join(targets)}"
    return str(gpu) if gpu else "no GPU"

"""Which backends there are, which work here, and which one `auto` takes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from segedge.backends.remote.address import is_address, memory_use, parse_address
from segedge.engine.flavour import flavour_statuses
from segedge.errors import BackendError, SegedgeError, UsageError, unknown_name_error
from segedge.machine.gpu import find_driver
from segedge.machine.optional import install_command, installed_version, is_importable
from segedge.machine.processors import usable_processors

if TYPE_CHECKING:
    from segedge.backends.base import Backend


ENGINE_SUFFIXES = (".engine", ".plan", ".trt")
"""Files that only the TensorRT backend opens."""


@dataclass(frozen=True)
class BackendStatus:
    """Whether a backend can be used here."""

    name: str
    version: str | None
    """Version of its library, or None where it is not installed."""
    ready: bool
    detail: str
    """Where it is ready: on what; else why not."""
    fix: str | None = None
    """The command that mends it."""


@dataclass(frozen=True)
class Choice:
    """A backend that was opened, and why this one."""

    backend: Backend
    name: str
    reason: str


Refuses = Callable[[str, "Backend | None"], str]
"""Why `auto` shall not take a backend, or nothing: asked before it is opened, and then with it."""


def open_backend(
    path: Path,
    name: str = "auto",
    *,
    threads: int | None = None,
    refuses: Refuses = lambda name, backend: "",
) -> Choice:
    """Open a model file, or a model at a server's address, on a backend.

    The name is ``auto`` or one of `BACKENDS`, optionally with a variant: ``openvino:f32``. Without
    ``threads`` a CPU backend takes all that this process may use.
    """
    threads = threads or usable_processors()
    if is_address(path):
        return _open_remote_choice(path, threads, name)
    if name != "auto":
        base, _, variant = name.partition(":")
        if base not in BACKENDS:
            raise unknown_name_error("backend", base, ["auto", *BACKENDS])
        if path.suffix.lower() in ENGINE_SUFFIXES and base != "tensorrt":
            raise UsageError(
                f"{path.name} is a TensorRT engine, which {base} does not run",
                fix="--backend tensorrt; or give the ONNX file that it was built from",
            )
        return Choice(BACKENDS[base].open(path, threads, variant), base, "asked for")
    if path.suffix.lower() in ENGINE_SUFFIXES:
        return Choice(BACKENDS["tensorrt"].open(path, threads, ""), "tensorrt", "an engine")
    if path.suffix == ".pt2":
        return Choice(BACKENDS["eager"].open(path, threads, ""), "eager", "a torch program")
    return _open_fastest(path, threads, refuses)


def may_run_on_host(name: str) -> bool:
    """Whether a name may mean a backend whose arrays are NumPy's, without opening anything."""
    base = name.partition(":")[0]
    if base == "auto":
        return find_driver().gpu is None
    return base not in BACKENDS or not BACKENDS[base].on_gpu


def _open_remote_choice(address: Path, threads: int, name: str) -> Choice:
    base, _, variant = name.partition(":")
    if base not in ("auto", "remote"):
        if base not in BACKENDS:
            raise unknown_name_error("backend", base, ["auto", *BACKENDS])
        raise UsageError(
            f"backend {base} runs files here, and {parse_address(address)[0]} is on a server",
            fix="--backend auto, or remote:shm, remote:wire",
        )
    return Choice(_open_remote(address, threads, variant), "remote", "a server's address")


def _open_fastest(path: Path, threads: int, refuses: Refuses) -> Choice:
    ready = [status.name for status in statuses() if status.ready and BACKENDS[status.name].auto]
    if not ready:
        raise BackendError(
            "no inference library is installed",
            facts={"looked for": ", ".join(n for n, entry in BACKENDS.items() if entry.auto)},
            fix="pip install 'segedge[openvino]'  (x86) or  pip install 'segedge[cpu]'  (any CPU)",
        )
    refusals: dict[str, str] = {}
    runs: list[str] = []
    for position, name in enumerate(ready):
        try:
            backend, why = _open_unless(name, path, threads, refuses)
        except SegedgeError as error:
            refusals[name] = error.headline + "".join(f"; {v}" for v in error.facts.values())
            continue
        if backend is not None:
            return Choice(backend, name, _reason(ready[position + 1 :], refusals))
        refusals[name] = why
        runs.append(name)
    if runs:  # better than nothing; whoever refused them knows what to say
        others = {name: why for name, why in refusals.items() if name != runs[0]}
        reason = _reason([], others).replace("fastest", "none is right, fastest", 1)
        return Choice(BACKENDS[runs[0]].open(path, threads, ""), runs[0], reason)
    raise BackendError(
        f"no installed backend can run {path.name}",
        facts=refusals,
        fix=f"segedge inspect {path.name}",
    )


def _open_unless(
    name: str, path: Path, threads: int, refuses: Refuses
) -> tuple[Backend | None, str]:
    """A backend, or why it is not to be taken."""
    if why := refuses(name, None):
        return None, why
    backend = BACKENDS[name].open(path, threads, "")
    try:
        why = refuses(name, backend)
    except BaseException:
        backend.close()
        raise
    if why:
        backend.close()
        return None, why
    return backend, ""


def _reason(others: list[str], refusals: dict[str, str]) -> str:
    reason = "fastest installed here"
    if others:
        reason += f"; others: {', '.join(others)}"
    return reason + "".join(f"; {name} refused: {why}" for name, why in refusals.items())


def statuses() -> list[BackendStatus]:
    """The state of every backend, fastest first, without importing heavy libraries."""
    return [entry.status() for entry in BACKENDS.values()]


Opener = Callable[[Path, int, str], "Backend"]
"""From path, threads and variant to the opened backend."""


@dataclass(frozen=True)
class BackendEntry:
    """How a backend is looked for and opened."""

    status: Callable[[], BackendStatus]
    open: Opener
    auto: bool = True
    """Whether `auto` may take it."""
    on_gpu: bool = False
    """Whether its arrays are a GPU's (`Backend.memory`)."""


def _library_status(
    name: str, module: str, distributions: tuple[str, ...], detail: str
) -> BackendStatus:
    version = installed_version(*distributions)
    if not is_importable(module):
        return BackendStatus(name, None, False, "not installed", install_command(module))
    return BackendStatus(name, version or "?", True, detail)


def _tensorrt_status() -> BackendStatus:
    """The flavour that gets furthest here: runs, else builds, else is installed, else neither."""
    best = max(flavour_statuses(), key=lambda s: (s.can_run, s.can_build, s.version is not None))
    return BackendStatus(
        "tensorrt", best.version, best.can_run, f"{best.name}: {best.detail}", best.fix
    )


def _open_tensorrt(path: Path, threads: int, variant: str) -> Backend:
    from segedge.backends.tensorrt import TensorRtBackend
    from segedge.engine.options import PRECISIONS, BuildOptions

    _check_variant("TensorRT precision", variant, *PRECISIONS)
    return TensorRtBackend(path, options=BuildOptions(precision=variant or None))  # type: ignore[arg-type]


def _gpu_status(name: str, module: str, distributions: tuple[str, ...]) -> BackendStatus:
    """A library that needs a GPU, its own CUDA build, and cuda-core for the memory."""
    version = installed_version(*distributions)
    if version is None:
        return BackendStatus(name, None, False, "not installed", install_command(module))
    if version.endswith("+cpu"):
        return BackendStatus(name, version, False, "a build without CUDA", f"pip install {module}")
    driver = find_driver()
    if driver.gpu is None:
        return BackendStatus(name, version, False, driver.problem)
    if not is_importable("cuda"):
        return BackendStatus(name, version, False, "needs cuda-core", install_command("cuda"))
    return BackendStatus(name, version, True, f"CUDA, {driver.gpu}")


def _open_openvino(path: Path, threads: int, variant: str) -> Backend:
    from segedge.backends.openvino import OpenVinoBackend

    _check_variant("OpenVINO precision", variant, "f32", "bf16", "f16")
    return OpenVinoBackend(path, threads=threads, precision=variant or "auto")  # type: ignore[arg-type]


def _open_onnxruntime(path: Path, threads: int, variant: str) -> Backend:
    from segedge.backends.onnxruntime import OnnxRuntimeBackend

    _check_variant("variant of onnxruntime", variant, "simulated")
    return OnnxRuntimeBackend(path, threads=threads, simulate=variant == "simulated")


def _open_onnxruntime_cuda(path: Path, threads: int, variant: str) -> Backend:
    from segedge.backends.onnxruntime_cuda import OnnxRuntimeCudaBackend

    _check_variant("provider of ONNX Runtime", variant, "cuda", "tensorrt")
    return OnnxRuntimeCudaBackend(path, provider=variant or "cuda")  # type: ignore[arg-type]


def _program_opener(name: str, *, on_gpu: bool, compiled: bool) -> Opener:
    """PyTorch's four backends: eagerly or compiled, on the CPU or a GPU."""

    def open_program(path: Path, threads: int, variant: str) -> Backend:
        if variant:
            raise UsageError(f"backend {name} has no variants, found {name}:{variant}")
        if path.suffix != ".pt2":
            raise UsageError(
                f"PyTorch runs torch.export programs here, not {path.name}",
                fix="--backend auto, or give the .pt2 file with --card model.onnx",
            )
        if on_gpu:
            from segedge.backends.eager_cuda import EagerCudaBackend

            return EagerCudaBackend(path, compiled=compiled)
        from segedge.backends.eager import EagerBackend

        return EagerBackend.from_program(path, threads=threads, compiled=compiled)

    return open_program


def _check_variant(what: str, variant: str, *known: str) -> None:
    if variant not in ("", *known):
        raise unknown_name_error(what, variant, list(known))


def _open_remote(path: Path, threads: int, variant: str) -> Backend:
    from segedge.backends.remote.backend import RemoteBackend

    if not is_address(path):
        raise UsageError(
            f"the backend remote needs a server's address, found {path}",
            fix="segedge run grpc://HOST:8001/MODEL ...",
        )
    address, options = parse_address(path, memory=memory_use(variant))
    return RemoteBackend(address, options=options)


BACKENDS: dict[str, BackendEntry] = {
    "tensorrt": BackendEntry(_tensorrt_status, _open_tensorrt, on_gpu=True),
    "onnxruntime-cuda": BackendEntry(
        lambda: _gpu_status("onnxruntime-cuda", "onnxruntime-gpu", ("onnxruntime-gpu",)),
        _open_onnxruntime_cuda,
        on_gpu=True,
    ),
    "openvino": BackendEntry(
        lambda: _library_status("openvino", "openvino", ("openvino",), "CPU"), _open_openvino
    ),
    "onnxruntime": BackendEntry(
        lambda: _library_status(
            "onnxruntime", "onnxruntime", ("onnxruntime", "onnxruntime-gpu"), "CPU"
        ),
        _open_onnxruntime,
    ),
    "eager": BackendEntry(
        lambda: _library_status("eager", "torch", ("torch",), "torch programs (.pt2), baseline"),
        _program_opener("eager", on_gpu=False, compiled=False),
        auto=False,
    ),
    "torch-compile": BackendEntry(
        lambda: _library_status("torch-compile", "torch", ("torch",), "torch programs, compiled"),
        _program_opener("torch-compile", on_gpu=False, compiled=True),
        auto=False,
    ),
    "eager-cuda": BackendEntry(
        lambda: _gpu_status("eager-cuda", "torch", ("torch",)),
        _program_opener("eager-cuda", on_gpu=True, compiled=False),
        auto=False,
        on_gpu=True,
    ),
    "torch-compile-cuda": BackendEntry(
        lambda: _gpu_status("torch-compile-cuda", "torch", ("torch",)),
        _program_opener("torch-compile-cuda", on_gpu=True, compiled=True),
        auto=False,
        on_gpu=True,
    ),
    "remote": BackendEntry(
        lambda: _library_status(
            "remote", "tritonclient", ("tritonclient",), "grpc://HOST:8001/MODEL, http://..."
        ),
        _open_remote,
        auto=False,
    ),
}
"""Backends by name, in the order in which `auto` prefers them."""

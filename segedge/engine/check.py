"""Whether an engine can run here, decided before TensorRT is asked, so that each case has words."""

from __future__ import annotations

from segedge.engine.file import EngineFile
from segedge.engine.flavour import TITLES, Flavour
from segedge.errors import DeviceError, ModelError
from segedge.machine.gpu import Gpu

_NOT_PORTABLE = "engines are not portable between {}; the ONNX file is"


def check_engine(file: EngineFile, *, flavour: Flavour, gpu: Gpu | None) -> tuple[str, ...]:
    """Refuse an engine that does not fit a library (and a GPU); warnings where it runs, but slower.

    ModelError: it is another flavour's or version's. DeviceError: it is another GPU's.
    """
    _check_flavour(file, flavour)
    _check_version(file, flavour)
    return _check_gpu(file, gpu) if gpu else ()


def _model_of(file: EngineFile) -> str:
    return file.facts.model if file.facts else "MODEL.onnx"


def _check_flavour(file: EngineFile, flavour: Flavour) -> None:
    if file.header.flavour == flavour.name:
        return
    raise ModelError(
        f"{file.path.name} is an engine of {TITLES[file.header.flavour]}, not of {flavour}",
        facts={"built by": str(file.header), "here": str(flavour)},
        fix=f"open it with flavour {file.header.flavour!r} or 'auto', or segedge build "
        f"{_model_of(file)} --flavour {flavour.name}",
    )


def _check_version(file: EngineFile, flavour: Flavour) -> None:
    built, here = file.header.version, flavour.version[:3]
    if built == here:
        return
    compatible = bool(file.facts and file.facts.options.get("version_compatible"))
    if compatible and built[0] == here[0] and built <= here:
        return
    raise ModelError(
        f"{file.path.name} was built by another version of {TITLES[flavour.name]}",
        facts={"built by": str(file.header), "here": str(flavour)},
        fix=f"segedge build {_model_of(file)}   ({_NOT_PORTABLE.format('versions')})",
    )


def _check_gpu(file: EngineFile, gpu: Gpu) -> tuple[str, ...]:
    facts = file.facts
    if file.header.targets:
        if gpu.sm not in file.header.targets:
            raise _wrong_gpu(file, gpu, ", ".join(file.header.targets))
        return ()
    if facts is None or not facts.capability:
        return ()
    if facts.options.get("hardware_compatible") and gpu.capability >= (8, 0):
        return ()
    if facts.capability != gpu.sm:
        raise _wrong_gpu(file, gpu, f"{facts.gpu} ({facts.capability})")
    if facts.gpu != gpu.name:
        return (f"built for {facts.gpu}, runs on {gpu.name}: it works, but may be slower",)
    return ()


def _wrong_gpu(file: EngineFile, gpu: Gpu, built_for: str) -> DeviceError:
    return DeviceError(
        f"{file.path.name} cannot run on this GPU",
        facts={"built for": f"{built_for}, {file.header}", "here": str(gpu)},
        fix=f"segedge build {_model_of(file)}   ({_NOT_PORTABLE.format('GPUs')})",
    )

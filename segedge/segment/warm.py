"""Everything that the first run of a machine would compile, compiled and tried before."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from segedge.cpu.kernels.kept import own_kernels
from segedge.cpu.small_frame import run_small_frame
from segedge.errors import SinkError
from segedge.machine.cache_folder import CACHE_VARIABLE, cache_folder
from segedge.segment.load import load


@dataclass(frozen=True)
class WarmedModel:
    """A model that ran a frame."""

    model: str
    """Its file's name."""
    backend: str
    description: str
    """Library, version, device and precision."""
    seconds: float
    """Opening, which builds an engine where there is none, and the frame."""


@dataclass(frozen=True)
class Warmed:
    """What is kept now, and for which CPU."""

    folder: str
    cpu: str
    """LLVM's name of the CPU that the kernels are for, with a digest of features and versions."""
    kernels: int
    """How many lie there for this CPU."""
    compiled: int
    """How many of them are new."""
    models: tuple[WarmedModel, ...]


def warm(models: Sequence[Path] = (), *, backend: str = "auto") -> Warmed:
    """Run a frame through what every frame goes through, and through each model.

    Raises:
        SinkError: What was compiled cannot be kept: a warm cache was what was asked for.
    """
    folder = cache_folder()
    if folder.problem:
        raise SinkError(
            "nothing that is compiled can be kept",
            facts={"folder": folder.text, "found": folder.problem},
            fix=f"{CACHE_VARIABLE}=FOLDER segedge warm ...",
        )
    own = own_kernels()
    before = _kernels(own)
    run_small_frame()
    warmed = tuple(_warm_model(model, backend) for model in models)
    after = _kernels(own)
    if not after:
        raise SinkError(
            "nothing was kept of what was compiled",
            facts={"folder": str(own)},
            fix="segedge doctor",
        )
    return Warmed(str(folder.path), own.name, len(after), len(after - before), warmed)


def _kernels(folder: Path) -> set[str]:
    return {path.name for path in folder.glob("*.kernel")}


def _warm_model(model: Path, backend: str) -> WarmedModel:
    start = time.perf_counter()
    with load(model, backend=backend) as segmenter:
        size = segmenter.card.input_size
        image = np.zeros((size.height, size.width, 3), np.uint8)
        result = segmenter(image)
        result.overlay()
        _ = result.labels, result.class_pixels
        result = segmenter(image)  # labels alone: what masks ask for
        _ = result.labels
        name, description = segmenter.backend_name, segmenter.backend.description
    return WarmedModel(model.name, name, description, round(time.perf_counter() - start, 3))

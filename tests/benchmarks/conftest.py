"""The benchmarks' modules, imported as their scripts import them."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from tests.built import once
from tests.fast_export import hasten_exports

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
Load = Callable[[str], ModuleType]


@pytest.fixture(scope="session", autouse=True)
def benchmarks_path() -> Iterator[None]:
    """Scripts find their neighbours beside themselves."""
    sys.path.insert(0, str(BENCHMARKS))
    yield
    sys.path.remove(str(BENCHMARKS))


@pytest.fixture
def load() -> Load:
    """Import by name."""
    return importlib.import_module


@pytest.fixture(scope="session")
def street(run_folder: Path, benchmarks_path: None) -> Path:
    """The bundled network at a tiny size, in all forms, with frames; not to be changed."""
    for module in ("torch", "onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(module)

    def make(folder: Path) -> None:
        folder.mkdir()
        hasten_exports()
        scenes = importlib.import_module("frames.scenes")
        scenes.make_tiny_street(folder)

    return once(run_folder / "benchmarks" / "street", make)


@pytest.fixture(scope="session")
def segformer(run_folder: Path, benchmarks_path: None) -> Path:
    """A tiny SegFormer of 150 classes, with frames; not to be changed."""
    for module in ("torch", "onnx", "onnxscript", "onnxruntime", "transformers", "PIL"):
        pytest.importorskip(module)
    from segedge.card.geometry import Size

    def make(folder: Path) -> None:
        folder.mkdir()
        hasten_exports()
        scenes = importlib.import_module("frames.scenes")
        scenes.make_segformer(folder, network=64, frame=Size(96, 160), tiny=True)

    return once(run_folder / "benchmarks" / "segformer", make)

"""Every recipe runs as its own help says, where its library imports."""

from __future__ import annotations

import importlib.util
import runpy
import sys
from pathlib import Path

import pytest

from segedge.card.card import ModelCard
from segedge.card.modelfile import read_metadata
from tests.fast_export import hasten_exports
from tests.processes import ended
from tests.small_model import run_verb

pytest.importorskip("torch")
pytest.importorskip("onnxscript")

RECIPES = Path(__file__).parent.parent / "export"
LIBRARY_OF = {
    "torchvision_models": "torchvision",
    "smp_models": "segmentation_models_pytorch",
    "segformer": "transformers",
}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder to write to; recipes run in this process, which has PyTorch imported."""
    monkeypatch.chdir(tmp_path)
    hasten_exports()


def need(name: str) -> None:
    """Skip where the recipe's library does not import; in a process of its own."""
    library = LIBRARY_OF.get(name)
    if library is None or library in sys.modules:
        return
    if importlib.util.find_spec(library) is None:
        pytest.skip(f"{library} is not installed")
    done = ended([sys.executable, "-c", f"import {library}"])
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or ["?"])[-1]
        pytest.skip(f"{library} does not import here: {reason}")


@pytest.mark.parametrize(
    ("name", "words", "channels"),
    [
        ("own_module", (), 3),
        ("tutorial_cnn", ("--size", "32x48", "--classes", "sky,road"), 2),
        ("segformer", ("--random", "--size", "64x96"), 150),
        ("torchvision_models", ("lraspp_mobilenet_v3_large", "--size", "128x128"), 21),
        ("smp_models", ("Unet", "resnet18", "--classes", "a,b,c", "--size", "64x96"), 3),
    ],
)
def test_recipe(
    name: str, words: tuple[str, ...], channels: int, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    need(name)
    monkeypatch.setattr("sys.argv", [name, *words, "-o", "out.onnx"])
    runpy.run_path(str(RECIPES / f"{name}.py"), run_name="__main__")
    card = ModelCard.from_metadata(read_metadata(tmp_path / "out.onnx"))
    assert card is not None
    assert len(card.classes) == channels
    assert card.parity is not None
    assert card.parity.agreement >= 0.999
    expected_stride = {"own_module": 2, "segformer": 4, "tutorial_cnn": 1}.get(name)
    assert expected_stride in (None, card.stride)


def test_the_image_level_form_is_refused_with_the_remedy(tmp_path: Path) -> None:
    form = f"{RECIPES / 'tutorial_cnn.py'}:tutorial_cnn_flattened"
    words = ("--classes", "a,b,c", "--size", "16x16", "-o", "out.onnx")
    done = run_verb("export", form, *words, code=2)
    assert "classifies whole images" in done.stderr
    assert "Conv2d" in done.stderr
    assert not (tmp_path / "out.onnx").exists()


def test_recipes_are_short_and_use_the_public_api() -> None:
    for path in RECIPES.glob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert text.count("\n") <= 110, path.name
        assert "segedge.convert" not in text, path.name

"""Model files, their cards, engines, and the metadata of other tools."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segedge.card.card import CARD_KEY, ModelCard
from segedge.card.dialects import foreign_metadata
from tests.fuzz.mutate import spoilt_bytes, spoilt_json
from tests.fuzz.rules import (
    CARD,
    FEW,
    THOROUGH,
    card_of_plain,
    read_by,
    reads_again,
    survives,
    survives_spoilt,
)

pytest.importorskip("onnx", reason="onnx is not installed: segedge[export]")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: segedge[cpu]")


def run_model(path: Path) -> None:
    """What `segedge run` does with a frame."""
    import segedge

    with segedge.load(path, backend="onnxruntime", threads=1) as segmenter:
        result = segmenter(np.full((40, 60, 3), 90, np.uint8))
        assert result.overlay().shape == (40, 60, 3)
        assert result.labels.shape == (40, 60)
        assert result.labels.max() < len(segmenter.card.classes)


def test_cards(model: Path, folder: Path) -> None:
    """A card that is read is one that a frame can be run with: no value fails later."""
    import onnx

    network = onnx.load(model)

    def run_with(data: bytes) -> None:
        text = data.decode("utf-8", "replace")
        reads_again(ModelCard.from_json, text, ModelCard.to_json)
        del network.metadata_props[:]
        network.metadata_props.add(key=CARD_KEY, value=text)
        onnx.save(network, folder / "card.onnx")
        run_model(folder / "card.onnx")

    run_with(CARD.to_json().encode())
    survives_spoilt(run_with, spoilt_json(CARD.to_plain()), FEW)


@THOROUGH
@given(st.sampled_from(sorted(CARD.to_plain())), spoilt_json({"value": [0]}))
def test_every_field_of_a_card(name: str, data: bytes) -> None:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        value = data.decode("utf-8", "replace")
    survives(card_of_plain, {**CARD.to_plain(), name: value})


def test_the_fields_as_they_are() -> None:
    card_of_plain(CARD.to_plain())


def test_model_files(model: Path, folder: Path) -> None:
    whole = model.read_bytes()
    run_model(model)
    survives_spoilt(read_by(folder / "spoilt.onnx", run_model), spoilt_bytes(whole), FEW)


@THOROUGH
@given(st.data())
def test_metadata_of_other_tools(data: st.DataObject) -> None:
    """Ultralytics' keys are Python literals as text, Model API's are words and numbers."""
    from segedge.card.dialects import class_names, image_size, with_foreign_preprocessing

    metadata = {
        key: data.draw(spoilt_bytes(text.encode())).decode("utf-8", "replace")
        for key, text in foreign_metadata(CARD).items()
        if data.draw(st.booleans())
    }

    def names(found: dict[str, str]) -> None:
        known = class_names(found)
        assert known is None or all(isinstance(name, str) for name in known)

    def size(found: dict[str, str]) -> None:
        known = image_size(found)
        assert known is None or min(known.height, known.width) > 0

    def preprocessing(found: dict[str, str]) -> None:
        card_of_plain(with_foreign_preprocessing(CARD, found).to_plain())

    for read in (names, size, preprocessing):
        survives(read, metadata)


def test_engines(folder: Path) -> None:
    """Headers of plans of each flavour, Ultralytics' JSON before one, and none."""
    from segedge.engine.file import read_engine

    name = json.dumps({"names": "{0: 'road'}", "imgsz": "[64, 64]", "task": "semantic"}).encode()
    plain, rtx = b"ftrt" + bytes(60), b"vtrt" + bytes(12) + (64).to_bytes(8, "little") + bytes(40)
    plans = [plain, rtx, len(name).to_bytes(4, "little") + name + plain]

    def look(path: Path) -> None:
        found = read_engine(path)
        assert path.read_bytes().endswith(found.plan)
        assert found.plan.startswith((b"ftrt", b"vtrt"))
        assert all(isinstance(value, str) for value in found.metadata.values())

    read = read_by(folder / "net.engine", look)
    for plan in plans:
        read(plan)
    survives_spoilt(read, st.sampled_from(plans).flatmap(spoilt_bytes))

"""Files in int8 and fp16 carry proofs of their own, which are checked when they are opened."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from onnx import numpy_helper

import segedge
from segedge.card.picture import Picture
from segedge.measure.optimize.make import Artifact, make_fp16
from segedge.precision.int8.int8 import quantize
from segedge.precision.int8.quantizer import QuantizeOptions
from segedge.segment.checked import BOUNDS, bound_of
from tests.segment import planted, proved

Precisions = dict[str, Path]


pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Precisions:
    """One network in both precisions."""
    folder = tmp_path_factory.mktemp("precisions")
    (folder / "images").mkdir()
    for seed in range(6):
        pixels = Picture(proved.SIZE.height, proved.SIZE.width, 20 + seed).pixels()
        cv2.imwrite(str(folder / "images" / f"{seed}.png"), pixels)
    float_file = proved.exported("varied")
    options = QuantizeOptions(activations="uint8", weight_bits=7)
    quantize(float_file, folder / "int8.onnx", calibrate=[folder / "images"], options=options)
    half = make_fp16(Artifact(float_file, "fp32", "model", ""), folder, None)
    return {"int8": folder / "int8.onnx", "f16": half.path}


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino:f32"])
@pytest.mark.parametrize("precision", ["int8", "f16"])
def test_it_is_checked_by_what_the_precision_may_change(
    files: Precisions, precision: str, backend: str
) -> None:
    proof = proved.card_and_proof(files[precision])[1]
    assert proof.precision == precision
    with segedge.load(files[precision], backend=backend, strict=True) as segmenter:
        found = segmenter.checked
    assert found is not None
    assert (found.precision, found.file_precision) == (precision, precision)
    assert not found.rounds
    assert found.is_sound
    assert found.error is not None
    bound = bound_of(proof, found.precision)
    assert found.error <= bound.error <= BOUNDS[found.precision].error
    assert found.labels >= bound.labels >= BOUNDS[found.precision].labels
    assert found.text.startswith("as exported: ")
    assert found.text.endswith(f", {precision})")


def _initializers(edit: Callable[[Any], Any], *, rank: int, first: bool = True) -> planted.Edit:
    """Other values in the first, or last, constant of this rank."""

    def change(model: Any) -> None:
        found = [tensor for tensor in model.graph.initializer if len(tensor.dims) == rank]
        tensor = found[0 if first else -1]
        values = numpy_helper.to_array(tensor)
        changed = np.ascontiguousarray(edit(values)).astype(values.dtype)
        tensor.CopyFrom(numpy_helper.from_array(changed, tensor.name))

    return change


FAULTS: dict[str, planted.Edit] = {
    "classes in another order": _initializers(lambda v: v[::-1], rank=4, first=False),
    "input channels rolled": _initializers(lambda v: np.roll(v, 1, axis=1), rank=4),
    "output channels rolled": _initializers(lambda v: np.roll(v, 1, axis=0), rank=4),
    "a stride shifted by a pixel": planted.GRAPH_FAULTS["a stride shifted by a pixel"],
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("precision", ["int8", "f16"])
def test_what_rounding_cannot_do_is_found(
    files: Precisions, precision: str, fault: str, tmp_path: Path
) -> None:
    found = proved.looked(planted.faulty(files[precision], FAULTS[fault], tmp_path / "m.onnx"))
    assert not found.passed, found.text

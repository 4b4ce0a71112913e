"""Networks with bfloat16: at their end it is taken, inside it is refused with the way out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from convert_nets import Tiny, up
from test_convert_forms import IN, LOGITS, SIZE, UP, best, made, rgb
from torch import nn

import segedge
from segedge.convert import ExportOptions, adopt, export
from segedge.convert.noise import smooth_noise
from segedge.errors import ExportError
from segedge.machine.onnx_session import Session

GIVES = "bfloat16[1, 3, 32, 64] y"
BODY = "f = Identity (x)\n" + LOGITS + UP + "y = Cast <to = 16> (u)"
INPUT = IN.replace(" f", " x")


class Ends(nn.Module):
    """A network whose last step is another type."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.network, self.dtype = Tiny(up, 5), dtype

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.network(image).to(self.dtype)


class Casts(nn.Module):
    """A network that brings its input to bfloat16."""

    def __init__(self) -> None:
        super().__init__()
        self.network = Tiny(up, 5).bfloat16()

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.network(image.bfloat16())


class Autocast(nn.Module):
    """A network that computes in bfloat16 what PyTorch thinks fit."""

    def __init__(self) -> None:
        super().__init__()
        self.network = Tiny(up, 5)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return self.network(image)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("keep_tail", [None, True])
def test_a_network_that_ends_in_it(tmp_path: Path, dtype: torch.dtype, keep_tail: Any) -> None:
    network = Ends(dtype).eval()
    options = ExportOptions(size=SIZE, keep_tail=keep_tail)
    report = export(network, tmp_path / "m.onnx", options=options)
    image = next(smooth_noise(SIZE, 1))
    with torch.inference_mode():
        wanted = network(torch.tensor(rgb(image))).float().argmax(1)[0].numpy()
    assert len(np.unique(wanted)) > 1, "a constant answer proves nothing"
    with segedge.load(report.path, backend="onnxruntime") as segmenter:
        assert np.mean(segmenter(image).labels == wanted) >= 0.98


@pytest.mark.parametrize("keep_tail", [None, True])
def test_a_file_that_gives_it(tmp_path: Path, keep_tail: Any) -> None:
    theirs = made(tmp_path / "theirs.onnx", INPUT, GIVES, BODY)
    options = ExportOptions(keep_tail=keep_tail)
    report = adopt(theirs, tmp_path / "ours.onnx", options=options)
    assert onnx.load(report.path).graph.output[0].type.tensor_type.elem_type == 1
    exact = made(tmp_path / "exact.onnx", INPUT, GIVES.replace("bfloat16", "float"),
                 BODY.replace("= 16", "= 1"))  # fmt: skip
    image = next(smooth_noise(SIZE, 1))
    wanted = best(1)(onnxruntime.InferenceSession(exact).run(None, {"x": rgb(image)}))
    with segedge.load(report.path, backend="onnxruntime") as segmenter:
        assert np.mean(segmenter(image).labels == wanted) >= 0.98


def test_its_numbers_are_read_as_they_are(tmp_path: Path) -> None:
    """Against PyTorch's own rounding, with what has no finite value."""
    kinds = ("bfloat16[1, 3, 1, 3] y", "float[1, 3, 1, 3] z")
    body = "y = Cast <to = 16> (x)\n z = Identity (x)"
    path = made(tmp_path / "m.onnx", "float[1, 3, 1, 3] x", ", ".join(kinds), body)
    values = [0.0, -0.0, 1.0, 3.14159, -1e-3, 65504.0, 3e38, np.inf, 1e-40]
    array = np.array(values, np.float32).reshape(1, 3, 1, 3)
    rounded, plain = Session(path).run(array)
    assert np.array_equal(rounded, torch.tensor(array).bfloat16().float().numpy())
    assert (rounded.dtype, plain.tolist()) == (np.float32, array.tolist())


@pytest.mark.parametrize(
    ("network", "found", "fix"),
    [(Autocast, "bfloat16", "without torch.autocast"), (Casts, "BFloat16", "leave .half()")],
)
def test_inside_a_network_it_is_refused(tmp_path: Path, network: Any, found: str, fix: str) -> None:
    with pytest.raises(ExportError) as caught:
        export(network(), tmp_path / "m.onnx", options=ExportOptions(size=SIZE))
    assert found in caught.value.facts["says"]
    assert fix in (caught.value.fix or "")
    assert list(tmp_path.iterdir()) == []

"""The Python blocks of docs/cuda.md, run on the simulated driver around the fake network."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from driver.simulated import ROOT, environment
from shim.launcher import has_compiler

from tests.processes import ended

PAGE = ROOT / "docs" / "cuda.md"
SITE = Path(__file__).parent / "shim" / "site"
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
NOT_SIMULATED = ("import torch", "import cupy", "import pycuda")
PREAMBLE = """
import cv2, numpy as np, segedge
from segedge.backends.fake_cuda import FakeCudaBackend
from segedge.card.card import ModelCard
from segedge.cuda.runtime.device import Device
from segedge.card.geometry import Size
from segedge.segment.on_gpu import CudaSegmenter
card = ModelCard(("a", "b", "c"), ((0, 0, 0), (0, 0, 255), (0, 255, 0)), 48, 64, stride=8)
device = Device.open()
backend = FakeCudaBackend(card, device)
GPU_ONLY = ("slots", "graphs")
segedge.load = lambda *a, **k: CudaSegmenter(card, backend, **{n: k[n] for n in GPU_ONLY if n in k})
small = np.random.default_rng(0).integers(0, 256, (4, 6, 3), np.uint8)
image = frame = cv2.resize(small, (80, 60), interpolation=cv2.INTER_CUBIC)
images, luma, chroma = [image] * 3, image[..., 0].copy(), np.full((30, 80), 128, np.uint8)
cv2.imread = lambda path: image
segmenter, expected = segedge.load(), segedge.load()(image).labels
"""
POSTSCRIPT = """
assert labels.shape == expected.shape if "labels" in globals() else True
if isinstance(globals().get("labels"), np.ndarray):
    assert np.array_equal(labels, expected)
elif hasattr(globals().get("labels"), "copy_to_host"):
    stream.synchronize()
    assert np.array_equal(labels.copy_to_host(), expected)
"""


def test_there_are_blocks() -> None:
    assert len(BLOCKS) >= 9


@pytest.mark.skipif(not has_compiler(), reason="g++ is not installed")
@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.split("\n")[0][:30])
def test_blocks_run(block: str) -> None:
    compile(block, str(PAGE), "exec")
    if block.startswith(NOT_SIMULATED):
        pytest.skip("its library does not run on the simulated driver: benchmarks/gpu_check.py")
    numba = (
        "import contextlib, ctypes\nfrom numba import cuda\n"
        "with contextlib.suppress(ctypes.ArgumentError): cuda.is_available()\n"
        if "numba" in block
        else ""
    )
    done = ended(
        [sys.executable, "-c", f"{PREAMBLE}{numba}{block}{POSTSCRIPT}"],
        cwd=ROOT,
        env={**environment(defer=1), "PYTHONPATH": str(SITE)},
    )
    assert done.returncode == 0, done.stderr[-2000:]

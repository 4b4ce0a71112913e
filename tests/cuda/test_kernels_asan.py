"""The kernels once more under AddressSanitizer: no read or write outside what is handed in."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from shim.launcher import ASAN, has_compiler

from tests.processes import ended

HERE = Path(__file__).parent
CASES = (
    "test_kernels_tail.py::test_everything_equals_the_reference[shim-2-float32-nchw-sigmoid-bgr-count]",
    "test_kernels_tail.py::test_everything_equals_the_reference[shim-19-float32-nchw-nv12]",
    "test_kernels_tail.py::test_everything_equals_the_reference[shim-19-float32-nhwc-bgr-margin-count]",
    "test_kernels_tail.py::test_labels_from_the_network_are_looked_up[shim-int16]",
    "test_kernels_preprocess.py::test_equals_the_reference[shim-bgr-bilinear-float32-nchw-rgb]",
    "test_kernels_preprocess.py::test_equals_the_reference[shim-bgr-bilinear-float32-nchw-rgb-halving]",
    "test_kernels_preprocess.py::test_equals_the_reference[shim-bgr-antialias-float32-nchw-rgb]",
    "test_kernels_preprocess.py::test_equals_the_reference"
    "[shim-nv12-bilinear-float32-nchw-rgb-bt709-limited]",
    "test_kernels_smoothing.py::test_sequences_equal_the_reference[shim-11]",
    "test_kernels_regions.py::test_the_widest_window[shim]",
)


def asan_library() -> str:
    """Path of libasan, or empty where g++ has none."""
    if not has_compiler():
        return ""
    done = subprocess.run(
        ["g++", "-print-file-name=libasan.so"], capture_output=True, text=True, check=True
    )
    path = Path(done.stdout.strip())
    return str(path.resolve()) if path.is_absolute() else ""


def run(arguments: list[str]) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "LD_PRELOAD": asan_library(),
        "ASAN_OPTIONS": "detect_leaks=0:detect_stack_use_after_return=0:abort_on_error=0",
        "SEGEDGE_SHIM_ASAN": "1",
        "PYTHONMALLOC": "malloc",
    }
    return ended([sys.executable, *arguments], cwd=HERE, env=environment, seconds=1800)


@pytest.mark.long
@pytest.mark.skipif(ASAN, reason="this is the run under AddressSanitizer")
@pytest.mark.skipif(not asan_library(), reason="g++ has no libasan")
def test_kernels_stay_inside_their_arrays():
    done = run(["-m", "pytest", "-q", "-p", "no:cacheprovider", *CASES])
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    assert f"{len(CASES)} passed" in done.stdout


@pytest.mark.skipif(ASAN, reason="this is the run under AddressSanitizer")
@pytest.mark.skipif(not asan_library(), reason="g++ has no libasan")
def test_the_sanitizer_would_notice():
    """A frame whose last row is short by four bytes."""
    code = (
        "import numpy as np\n"
        "from shim.cases import a_card\n"
        "from shim.launcher import ShimLauncher\n"
        "from segedge.cuda.preprocess import Preprocess\n"
        "from segedge.cuda.runtime.program import Plane\n"
        "from segedge.card.geometry import Geometry, Size\n"
        "frame = np.zeros(16 * 3 * 16 - 4, np.uint8)\n"
        "p = Preprocess(a_card(2), Geometry.fit(Size(16, 16), Size(16, 16), 'stretch'))\n"
        "out = np.zeros(p.shape, np.float32)\n"
        "p.run(ShimLauncher(), Plane(frame.ctypes.data, 48), out.ctypes.data)\n"
    )
    done = run(["-c", code])
    assert done.returncode != 0
    assert "AddressSanitizer: heap-buffer-overflow" in done.stderr

"""For all tests: one thread each where threads spin; OpenCV before PyAV, as segedge loads them.

See segedge/video/ffmpeg.py for the second.
"""

import gc
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

# The workers of pytest-xdist share the cores. PyTorch's and NumPy's threads wait by spinning: two
# in each worker take twice the time of one.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import cv2  # noqa: F401


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all workers of this run have, for `tests.built`."""
    folder = tmp_path_factory.getbasetemp()
    return folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder


@pytest.fixture
def quick_collection() -> Iterator[None]:
    """``gc.collect()`` looks at what the test makes, not at all that other tests have loaded."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()

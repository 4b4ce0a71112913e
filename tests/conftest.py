"""For all tests: one thread each where threads spin; OpenCV before PyAV, as segedge loads them.

See segedge/video/ffmpeg.py for the second.
"""

import gc
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

# The workers of pytest-xdist share the cores. PyTorch's and NumPy's threads wait by spinning: two
# in each worker take twice the time of one.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import cv2  # noqa: F401

from segedge.machine.cache_folder import CACHE_VARIABLE, cache_path

# The same examples in every run: a suite that fails once in a hundred runs says nothing about the
# change that it was run for. With SEGEDGE_FUZZ set, hypothesis draws others each time.
if "SEGEDGE_FUZZ" not in os.environ:
    with suppress(ImportError):  # where only some tests are to be run, it may be absent
        from hypothesis import settings

        settings.register_profile("repeatable", derandomize=True)
        settings.load_profile("repeatable")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long tests begin first: a worker that began one last would end a minute after the other."""
    items.sort(key=lambda item: item.get_closest_marker("long") is None)


def pytest_collection_finish() -> None:
    """Garbage is looked for every 50,000 objects, not 700, and not among what was imported.

    PyTorch's exporter makes millions: a seventh of its time went into looking.
    """
    gc.freeze()
    gc.set_threshold(50_000)


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all workers of this run have, for `tests.built`."""
    folder = tmp_path_factory.getbasetemp()
    return folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder of this test's own; kernels for the CPU stay those of all: 20 s to compile."""
    shared, own = cache_path("cpu"), tmp_path / "cache"
    shared.mkdir(parents=True, exist_ok=True)
    own.mkdir()
    (own / "cpu").symlink_to(shared)
    monkeypatch.setenv(CACHE_VARIABLE, str(own))
    return own


@pytest.fixture
def quick_collection() -> Iterator[None]:
    """``gc.collect()`` looks at what the test makes, not at all that other tests have loaded."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()

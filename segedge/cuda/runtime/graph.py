"""CUDA graphs: a frame's work captured once and replayed with one launch."""

from __future__ import annotations

import contextlib
import gc
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segedge.errors import SegedgeError, first_line

_MOST_DIFFERENT = 1e-3
"""Share of elements in which a replay may differ from a plain launch: networks whose sums depend
on the order of threads flip a few ties."""


class CaptureRefusedError(Exception):
    """Work that cannot be captured: the caller goes on with plain launches and says so."""


def capture(stream: Any, work: Callable[[], None]) -> Any:
    """Capture what ``work`` enqueues on a stream; nothing of it runs.

    Run the same work once plainly before, so that libraries have loaded and allocated what they
    need: that is not allowed during a capture.

    The stream is not the default one. The ``cuda.core.graph.Graph`` does not keep the memory alive
    that it reads and writes.

    Raises:
        CaptureRefusedError: CUDA, or a library that ``work`` calls, refuses.
    """
    builder = stream.create_graph_builder()
    try:
        # Other threads may allocate meanwhile; in this one a call that cannot be captured must
        # fail, not run at once and be missing from the graph.
        with _garbage_kept():
            builder.begin_building("thread_local")
            _work(builder, work)
            finished = builder.end_building()
        return finished.complete()
    except CaptureRefusedError:
        raise
    except Exception as error:  # cuda-core's own exception types are private
        raise CaptureRefusedError(_reason(error)) from error
    finally:
        with contextlib.suppress(Exception):
            builder.close()


def alike(found: NDArray[Any], expected: NDArray[Any]) -> bool:
    """Whether a replay gives what a plain launch gave, a few ties apart."""
    if found.dtype.kind == "f":
        a, b = found.astype(np.float32), expected.astype(np.float32)
        finite = b[np.isfinite(b)]
        slack = 0.01 * float(np.ptp(finite)) if finite.size else 0.0
        same = (np.abs(a - b) <= slack) | (a == b) | (np.isnan(a) & np.isnan(b))
    elif found.ndim == 1:  # pixels a class: near enough
        return bool(np.abs(found - expected).sum() <= _MOST_DIFFERENT * 2 * expected.sum())
    else:
        same = found == expected
    return bool(same.mean() >= 1.0 - _MOST_DIFFERENT)


_keeping = threading.Lock()
_keepers = 0
_was_enabled = False


@contextlib.contextmanager
def _garbage_kept() -> Iterator[None]:
    """No garbage is collected meanwhile.

    Page-locked memory that it would free in this thread is refused, lost, and breaks the capture.
    """
    global _keepers, _was_enabled
    with _keeping:
        if _keepers == 0:
            _was_enabled = gc.isenabled()
            gc.disable()
        _keepers += 1
    try:
        yield
    finally:
        with _keeping:
            _keepers -= 1
            if _keepers == 0 and _was_enabled:
                gc.enable()


def _work(builder: Any, work: Callable[[], None]) -> None:
    """Do the work; if it fails, end the capture, or the stream stays unusable."""
    try:
        work()
    except BaseException as error:
        with contextlib.suppress(Exception):
            builder.end_building()
        if isinstance(error, Exception):
            raise CaptureRefusedError(_reason(error)) from error
        raise


def _reason(error: Exception) -> str:
    if isinstance(error, SegedgeError):
        says = error.facts.get("says", "")
        return f"{error.headline}: {says}" if says else error.headline
    return first_line(error)

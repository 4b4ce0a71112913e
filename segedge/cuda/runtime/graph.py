"""CUDA graphs: a frame's work captured once and replayed with one launch."""

from __future__ import annotations

import contextlib
import gc
import threading
from collections.abc import Callable, Iterator
from typing import Any

from segedge.errors import SegedgeError


class CaptureRefusedError(Exception):
    """Work that cannot be captured: the caller goes on with plain launches and says so."""


def capture(stream: Any, work: Callable[[], None]) -> Any:
    """Capture what ``work`` enqueues on a stream; nothing of it runs.

    Run the same work once plainly before, so that libraries have loaded and allocated what they
    need: that is not allowed during a capture.

    Args:
        stream: A ``cuda.core.Stream``, not the default one.
        work: Enqueues on that stream, with addresses that stay as they are.

    Returns:
        A ``cuda.core.graph.Graph``. It does not keep the memory alive that it reads and writes.

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
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__

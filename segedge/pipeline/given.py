"""What is given as a source or a sink: refused in words where it is something else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from segedge.errors import UsageError
from segedge.frames.protocols import Sink, Source


def checked_source(given: object) -> Source:
    """A source; UsageError where it is a path, a list or nothing."""
    if all(hasattr(given, name) for name in ("info", "frames", "close")):
        return cast("Source", given)
    fix = "segedge.open_source(PATH, ADDRESS or NUMBER), or segedge.MemorySource(arrays, fps=25)"
    raise UsageError("this is no source of frames", facts={"found": _kind(given)}, fix=fix)


def checked_sinks(given: Any) -> Sequence[Sink]:
    """Sinks; UsageError where one of them, or all together, is something else."""
    fix = "[segedge.open_sink('out.mp4', info=source.info)], or [segedge.CallableSink(function)]"
    if not isinstance(given, (list, tuple)):
        raise UsageError("sinks are given as a list", facts={"found": _kind(given)}, fix=fix)
    for one in given:
        if not all(hasattr(one, name) for name in ("needs", "write", "close")):
            raise UsageError("this is no sink", facts={"found": _kind(one)}, fix=fix)
    return given


def _kind(given: object) -> str:
    return f"{type(given).__name__}: {' '.join(repr(given).split())[:60]}"

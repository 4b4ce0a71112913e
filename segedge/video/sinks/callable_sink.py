"""CallableSink: a Python function as a sink."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from segedge.card.labels import names_in
from segedge.errors import UsageError
from segedge.frames.closing import check_takes
from segedge.frames.frame import Frame
from segedge.frames.protocols import ResultView

KNOWN_NEEDS = frozenset({"labels", "overlay", "confidence", "mean_confidence", "class_pixels"})


class CallableSink:
    """Calls a function with every frame and its result, in order, in the sink's thread.

    What the function raises ends the run, and is raised again by it as it is. `EndOfRun` ends it
    as the end of the source does.
    """

    def __init__(
        self,
        function: Callable[[Frame, ResultView], object],
        *,
        needs: frozenset[str] | set[str] = frozenset(),
        on_close: Callable[[bool], object] | None = None,
    ) -> None:
        """Keep the function.

        Args:
            function: Called with frame and result; what it returns is ignored.
            needs: What it reads of the result: labels, overlay, confidence, mean_confidence,
                class_pixels. They are computed before it is called; the others are still there,
                only later.
            on_close: Called once at the end, with whether the run broke.

        Raises:
            UsageError: It cannot be called, or needs what no result has.
        """
        if not callable(function):
            raise UsageError(f"a sink that cannot be called: {function!r}")
        needs = frozenset(names_in(needs))
        unknown = needs - KNOWN_NEEDS
        if unknown:
            raise UsageError(
                f"no result has {', '.join(sorted(unknown))}",
                facts={"known": ", ".join(sorted(KNOWN_NEEDS))},
            )
        self._function = function
        self._on_close = on_close
        self._is_closed = False
        self.needs = needs
        self.paths: Sequence[Path] = ()
        self.notes: Sequence[str] = ()

    def write(self, frame: Frame, result: ResultView) -> None:
        """Call it."""
        check_takes(not self._is_closed, "the callable's sink")
        self._function(frame, result)

    def close(self, *, error: bool = False) -> None:
        """Tell it, once."""
        self._is_closed = True
        on_close, self._on_close = self._on_close, None
        if on_close is not None:
            on_close(error)

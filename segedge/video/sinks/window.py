"""WindowSink: overlays in a window of the desktop."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from segedge.errors import SinkError, first_line
from segedge.frames.closing import check_takes
from segedge.frames.frame import Frame
from segedge.frames.protocols import EndOfRun, ResultView
from segedge.video.picture import over_checkerboard

_QUIT_KEYS = frozenset({ord("q"), ord("Q"), 27})
_PROBE_SECONDS = 20.0
_PROBE = "import cv2; cv2.namedWindow('segedge', cv2.WINDOW_NORMAL); cv2.destroyAllWindows()"


class Screen(Protocol):
    """What shows pictures; OpenCV, or a test's."""

    def show(self, title: str, image: NDArray[np.uint8]) -> None:
        """Show a picture in the window of this title."""

    def key(self) -> int:
        """The key that was pressed since, or -1."""

    def is_open(self, title: str) -> bool:
        """Whether the window is still there."""

    def close(self, title: str) -> None:
        """Close it."""


class _OpenCv:
    """OpenCV's windows; all calls must come from one thread."""

    def __init__(self) -> None:
        self._made = False

    def show(self, title: str, image: NDArray[np.uint8]) -> None:
        if not self._made:
            cv2.namedWindow(title, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO)
            cv2.resizeWindow(title, *_window_size(image.shape))
            self._made = True
        cv2.imshow(title, image)

    def key(self) -> int:
        return int(cv2.waitKey(1))

    def is_open(self, title: str) -> bool:
        return bool(cv2.getWindowProperty(title, cv2.WND_PROP_VISIBLE) >= 1)

    def close(self, title: str) -> None:
        if self._made:
            cv2.destroyWindow(title)
            cv2.waitKey(1)


class WindowSink:
    """One window. "q", Escape or its close button end the run, as the end of the source does."""

    def __init__(
        self,
        title: str = "segedge",
        *,
        screen: Screen | None = None,
        why_none: Callable[[], str | None] | None = None,
    ) -> None:
        """Be sure that there can be a window; ``screen`` and ``why_none`` are for tests."""
        reason = (why_none or (no_window_because if screen is None else lambda: None))()
        if reason is not None:
            raise SinkError(
                "cannot open a window",
                facts={"found": reason},
                fix="-o out.mp4 for a file, or --live for a page in the browser",
            )
        self._title = title or "segedge"
        self._screen: Screen = screen or _OpenCv()
        self._ended = self._is_closed = False
        self.needs = frozenset({"overlay"})
        self.paths: Sequence[Path] = ()
        self.notes: Sequence[str] = ()

    def write(self, frame: Frame, result: ResultView) -> None:
        """Show one overlay; `EndOfRun` on "q", Escape or a closed window, and nothing after."""
        check_takes(not self._is_closed, "the window")
        if self._ended:
            return
        try:
            self._screen.show(self._title, over_checkerboard(result.overlay()))
            pressed = self._screen.key()
            self._ended = pressed & 0xFF in _QUIT_KEYS or not self._screen.is_open(self._title)
        except cv2.error as error:
            raise SinkError(
                "the window failed", facts={"found": first_line(error)}, fix="--live"
            ) from error
        if self._ended:
            raise EndOfRun("the window was closed")

    def close(self, *, error: bool = False) -> None:
        """Close the window."""
        self._is_closed = True
        try:
            self._screen.close(self._title)
        except cv2.error:
            return  # the user has closed it


def no_window_because() -> str | None:
    """Why OpenCV cannot open a window here, or None if it can.

    Without a display Qt aborts the whole process: a child tries it first (about 0.3 s).
    """
    build = cv2.getBuildInformation()
    gui = next((line for line in build.splitlines() if line.strip().startswith("GUI:")), "")
    if gui.partition(":")[2].strip().upper() in ("", "NONE"):
        return "this OpenCV has no windows: opencv-python-headless is installed"
    loaded = list(sys.modules)  # in the order in which imports began
    if "av" in loaded and loaded.index("av") < loaded.index("cv2"):
        return "PyAV was imported before OpenCV, whose windows then hang: import cv2 before it"
    if sys.platform == "linux" and not (
        os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    ):
        return "no display: neither DISPLAY nor WAYLAND_DISPLAY is set (ssh without -X?)"
    command = [sys.executable, "-c", _PROBE]
    try:
        done = subprocess.run(command, capture_output=True, timeout=_PROBE_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return f"the display did not answer within {_PROBE_SECONDS:g} s"
    if done.returncode == 0:
        return None
    words = done.stderr.decode(errors="replace").strip().splitlines()
    return words[0] if words else f"a trial window ended with code {done.returncode}"


def _window_size(shape: Any) -> tuple[int, int]:
    """(width, height) of the window: that of the picture, and 1280 at most."""
    height, width = shape[:2]
    scale = min(1.0, 1280 / max(height, width))
    return max(1, round(width * scale)), max(1, round(height * scale))

"""The window, without a desktop: what it shows, what ends it, what it says where there is none."""

from __future__ import annotations

import sys

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from video_clips import FakeResult, gradient_images

from segedge.errors import SinkError
from segedge.frames.frame import Frame
from segedge.frames.protocols import EndOfRun
from segedge.video.sinks.window import WindowSink, no_window_because
from tests.processes import ended


class FakeScreen:
    def __init__(self, keys: dict[int, int] | None = None, closed_after: int = 10**9) -> None:
        self.shown: list[NDArray[np.uint8]] = []
        self.keys = keys or {}
        self.closed_after = closed_after
        self.closed = 0

    def show(self, title: str, image: NDArray[np.uint8]) -> None:
        assert title == "front"
        self.shown.append(image)

    def key(self) -> int:
        return self.keys.get(len(self.shown), -1)

    def is_open(self, title: str) -> bool:
        return len(self.shown) < self.closed_after

    def close(self, title: str) -> None:
        self.closed += 1


def feed(sink: WindowSink, count: int) -> None:
    for index, image in enumerate(gradient_images(count)):
        sink.write(Frame(image, index), FakeResult(image=image))


def test_it_shows_overlays() -> None:
    screen = FakeScreen(keys={2: ord("x")})
    sink = WindowSink("front", screen=screen)
    feed(sink, 5)
    sink.close()
    assert [image.mean() for image in screen.shown] == [i.mean() for i in gradient_images(5)]
    assert screen.closed == 1
    assert sink.needs == {"overlay"}


@pytest.mark.parametrize(
    "screen",
    [
        FakeScreen(keys={3: ord("q")}),
        FakeScreen(keys={3: 27}),
        FakeScreen(keys={3: ord("q") | 0x100000}),  # GTK adds the state of the modifiers
        FakeScreen(closed_after=3),
    ],
    ids=["q", "escape", "num lock", "closed"],
)
def test_what_ends_the_run(screen: FakeScreen) -> None:
    sink = WindowSink("front", screen=screen)
    with pytest.raises(EndOfRun):
        feed(sink, 5)
    assert len(screen.shown) == 3
    feed(sink, 2)  # frames that were on their way
    assert len(screen.shown) == 3


def test_a_desktop_that_fails() -> None:
    class Failing(FakeScreen):
        def show(self, title: str, image: NDArray[np.uint8]) -> None:
            raise cv2.error("the server is gone")

    with pytest.raises(SinkError, match="the window failed"):
        feed(WindowSink("front", screen=Failing()), 1)


def test_without_a_display(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    with pytest.raises(SinkError, match="cannot open a window") as caught:
        WindowSink()
    assert "neither DISPLAY nor WAYLAND_DISPLAY is set" in caught.value.facts["found"]
    assert "--live" in str(caught.value.fix)


def test_a_display_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Qt aborts the process: it must be the child's."""
    monkeypatch.setenv("DISPLAY", ":987")
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    assert no_window_because()


def test_headless_opencv(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv2, "getBuildInformation", lambda: "  GUI:                NONE\n")
    assert "opencv-python-headless" in str(no_window_because())


@pytest.mark.parametrize(
    ("lines", "is_refused"),
    [
        ("import segedge.video.sources.file; import av", False),
        ("import av; import segedge.video.sources.file", True),
    ],
)
def test_pyav_before_opencv_would_hang(lines: str, is_refused: bool) -> None:
    """segedge loads OpenCV before PyAV; where its caller did not, it says so instead of hanging."""
    code = f"{lines}\nfrom segedge.video.sinks.window import no_window_because as why; print(why())"
    done = ended([sys.executable, "-c", code], code=0)
    assert ("imported before OpenCV" in done.stdout) == is_refused


def test_a_real_window() -> None:
    reason = no_window_because()
    if reason is not None:
        pytest.skip(reason)
    sink = WindowSink("segedge test")
    feed(sink, 3)
    assert cv2.getWindowProperty("segedge test", cv2.WND_PROP_VISIBLE) >= 1
    sink.close()

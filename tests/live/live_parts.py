"""What the tests of the live view share: frames, results, a viewer that speaks the protocol."""

from __future__ import annotations

import json
import shutil
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

CLASSES = ("road", "car", "tree")
PALETTE = ((128, 64, 128), (0, 0, 255), (0, 255, 0))

CHROMIUM_FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip


@dataclass
class FakeResult:
    """What a sink may ask of a result."""

    labels: Any
    classes: Sequence[str] = CLASSES
    palette_rgb: Sequence[tuple[int, int, int]] = PALETTE

    def wait(self) -> None:
        pass

    def overlay(self) -> Any:
        raise AssertionError("the page blends, nobody else")


def grey_frame(index: int = 0, *, height: int = 48, width: int = 64, **options: Any) -> Any:
    from segedge.frames.frame import Frame

    return Frame(np.full((height, width, 3), 100, np.uint8), index=index, **options)


def half_and_half(height: int = 48, width: int = 64, dtype: Any = np.uint8) -> FakeResult:
    """Left half road, right half car."""
    labels = np.zeros((height, width), dtype)
    labels[:, width // 2 :] = 1
    return FakeResult(labels)


def get(url: str, **headers: str) -> tuple[int, str, Any]:
    """Status, body, headers."""
    request = urllib.request.Request(url, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, answer.read().decode(), answer.headers
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode(), error.headers


class Watcher:
    """A viewer without a browser."""

    def __init__(self, view: Any, **options: Any) -> None:
        from websockets.sync.client import connect

        self._passed_over: bytes | None = None
        query = f"?token={view.token}" if view.token else ""
        self.socket = connect(
            f"ws://{view.address}/ws{query}", max_size=None, close_timeout=1, **options
        )

    def send(self, **wish: Any) -> None:
        self.socket.send(json.dumps(wish))

    def next(self, kind: str) -> dict[str, Any]:
        """The next text of a kind; frames on the way are passed over."""
        for _ in range(100):
            message = self.socket.recv(timeout=20)
            if isinstance(message, str) and json.loads(message)["kind"] == kind:
                return json.loads(message)
            if isinstance(message, bytes):
                self._passed_over = message
        raise AssertionError(f"100 messages, and none of kind {kind}")

    def frame(self) -> tuple[dict[str, Any], bytes, Any]:
        """The next frame, decoded and not acknowledged."""
        from segedge.live.packet import decode

        for _ in range(20):  # texts come once a second
            message = self.socket.recv(timeout=20)
            if isinstance(message, bytes):
                return decode(message)
        raise AssertionError("20 messages, and no frame among them")

    def last_frame(self) -> tuple[dict[str, Any], bytes, Any]:
        """The frame that `next` passed over last, or else the next one: texts may come after it."""
        from segedge.live.packet import decode

        return self.frame() if self._passed_over is None else decode(self._passed_over)

    def close(self) -> None:
        self.socket.close()


def until(condition: Callable[[], bool], step: Callable[[], Any] | None = None) -> None:
    """Repeat ``step`` (or wait a little) until the condition holds; half a minute at most."""
    import time

    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end, "it did not come true within half a minute"
        if step:
            step()
        time.sleep(0.01)


def chromium(play: Any) -> Iterator[Any]:
    """The system's Chromium, headless."""
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        pytest.skip("no chromium here: apt-get install chromium")
    browser = play.chromium.launch(executable_path=path, args=list(CHROMIUM_FLAGS))
    yield browser
    browser.close()

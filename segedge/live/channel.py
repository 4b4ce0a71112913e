"""Channel: one source of the live view, from the pipeline's sink to encoded messages."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from segedge.card.labels import Rgb
from segedge.frames.closing import check_takes
from segedge.frames.frame import Frame
from segedge.frames.protocols import ResultView
from segedge.live.meter import Meter
from segedge.live.packet import Shown, encode, shown

State = Literal["waiting", "running", "ended", "failed"]

_IDLE_NS = 1_000_000_000
"""With nobody watching, a frame is kept this often, so that the first viewer sees something."""


class Channel:
    """The latest frame of a source, encoded when somebody waits for it.

    Three parties meet here: the pipeline's thread offers frames and is never held up; the hub's
    event loop says whether anybody watches and waits; an encoder thread makes the messages.
    """

    def __init__(
        self,
        name: str,
        number: int,
        *,
        model: str = "",
        backend: str = "",
        on_change: Callable[[], None],
        on_message: Callable[[], None],
        clock_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """Start its encoder.

        ``on_change`` is called by any thread when classes or state are new, ``on_message`` by the
        encoder thread when `message` is.
        """
        self.name, self.number, self.model, self.backend = name, number, model, backend
        self.classes: tuple[str, ...] = ()
        self.palette_rgb: tuple[Rgb, ...] = ()
        self.state: State = "waiting"
        self.meter = Meter(clock_ns)
        self.published: dict[str, Any] = {}
        """The pipeline's own numbers, see `LiveView.publish`."""
        self.message: bytes | None = None
        """The newest frame that was encoded."""
        self.message_number = 0
        """Grows with every message."""
        self.offered = 0
        """Frames that were copied, for the encoder to take or to leave."""
        self._on_change, self._on_message = on_change, on_message
        self._clock_ns = clock_ns
        self._changed = threading.Condition()
        self._slot: Shown | None = None
        self._kept_ns: int | None = None
        self._is_watched = False
        self._is_waited_for = False
        self._closed = False
        self._thread = threading.Thread(target=self._encode, name=f"segedge-live-{number}")
        self._thread.daemon = True
        self._thread.start()

    def offer(self, frame: Frame, result: ResultView) -> None:
        """Take a frame: count it, and copy what is shown where somebody may look at it."""
        latency_ms = self.meter.add(frame)
        if self.state == "waiting" or len(self.classes) != len(result.classes):
            self.classes, self.palette_rgb = tuple(result.classes), tuple(result.palette_rgb)
            self.state = "running"
            self._on_change()
        now_ns = self._clock_ns()
        is_due = self._kept_ns is None or now_ns - self._kept_ns >= _IDLE_NS
        if self._closed or not (self._is_watched or is_due):
            return
        self._kept_ns = now_ns
        facts = {
            "index": frame.index,
            "latency_ms": round(latency_ms, 2),
            "pts_seconds": frame.pts_seconds,
            "size": list(result.labels.shape),
        }
        copies = shown(frame.image_hwc, result.labels, facts)
        with self._changed:
            self._slot = copies
            self.offered += 1
            self._changed.notify_all()

    def end(self, *, failed: bool) -> None:
        """No frames will come any more; the last one stays."""
        if self.state not in ("ended", "failed"):
            self.state = "failed" if failed else "ended"
            self._on_change()

    def want(self, *, watched: bool, waited_for: bool) -> None:
        """Whether any viewer shows this source, and whether one is ready for a new frame."""
        with self._changed:
            self._is_watched, self._is_waited_for = watched, waited_for
            self._changed.notify_all()

    @property
    def has_newer(self) -> bool:
        """Whether a frame waits for the encoder: the message is not the newest there is."""
        return self._slot is not None

    def close(self) -> None:
        """End the encoder."""
        with self._changed:
            self._closed = True
            self._slot = None
            self._changed.notify_all()
        self._thread.join()

    def _encode(self) -> None:
        """The encoder's thread."""
        while True:
            with self._changed:
                while not self._closed and not (self._is_waited_for and self._slot is not None):
                    self._changed.wait()
                if self._closed:
                    return
                taken, self._slot = self._slot, None
            assert taken is not None, "waited for"
            message = encode(taken, source=self.number, class_count=len(self.classes))
            with self._changed:
                self.message = message  # before its number, see Viewer
                self.message_number += 1
                self._is_waited_for = False  # until the hub has handed this one out
            self._on_message()


class LiveSink:
    """What the pipeline writes to; made by `LiveView.sink`."""

    needs = frozenset({"labels"})
    paths: Sequence[Path] = ()
    notes: Sequence[str] = ()

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._is_closed = False

    @property
    def name(self) -> str:
        """The source's name on the page, which is unique."""
        return self._channel.name

    def write(self, frame: Frame, result: ResultView) -> None:
        """Swap the frame into the slot; nobody who watches can hold this up."""
        check_takes(not self._is_closed, f"the live view of {self.name}")
        self._channel.offer(frame, result)

    def close(self, *, error: bool = False) -> None:
        """The source has ended; the page keeps its last picture."""
        self._is_closed = True
        self._channel.end(failed=error)

"""LiveSource: frames of something that comes by itself, may be lost, and may come back."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence

from segedge.errors import SourceError
from segedge.frames.frame import Frame
from segedge.frames.protocols import SourceFailure, SourceInfo
from segedge.video.live.clock import LiveClock
from segedge.video.live.connection import Connection, Picture
from segedge.video.live.pump import Pump, PumpStalled

FIRST_DELAY_SECONDS = 0.5
"""Before the first attempt to reconnect; doubled with each that fails."""

MAX_DELAY_SECONDS = 10.0
"""Between attempts, however many have failed."""

_MAX_NOTES = 100
"""Notes kept: a camera with a loose plug must not fill the memory."""

Wait = Callable[[float], bool]
"""Waits for some seconds; True at once when the source was closed."""


class LiveSource:
    """A camera, a network stream, a GStreamer pipeline.

    Opening it connects and decodes one frame, so that size and errors are known at once. What
    comes before `frames` is asked for is thrown away: a live source starts now. Lost, it is
    opened again with growing delays, until it is back or closed; `notes` tell of it. The size may
    change at any frame.
    """

    def __init__(
        self,
        name: str,
        connect: Callable[[], Connection],
        *,
        reconnect: bool = True,
        stall_seconds: float = 10.0,
        notes: Sequence[str] = (),
        on_note: Callable[[str], None] | None = None,
        wait: Wait | None = None,
        clock_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """Connect and take the first frame.

        What is lost is opened again with ``reconnect``, but never the first time, and never where
        it has an end of its own (a file on a web server). ``connect`` opens it, in a thread of the
        source; ``stall_seconds``: how long nothing may come, whatever driver or library does;
        ``on_note`` gets notes after the first in the thread that reads; ``name`` is shown, so
        without credentials.
        """
        self._connect = connect
        self._stall_seconds = stall_seconds
        self._closed = threading.Event()
        self._wait = wait or self._closed.wait
        self._clock_ns = clock_ns
        self._lock = threading.Lock()
        self._pump: Pump[Connection | Picture] | None = None
        self._first: Picture | None = None
        self._connection: Connection | None = None
        self._notes = deque(notes, maxlen=_MAX_NOTES)
        self.on_note = on_note
        self.reconnects = 0
        """How often it was lost and came back."""
        self.failures: list[SourceFailure] = []
        self._name = name
        opened = self._open()
        assert opened is not None, "nobody can have closed it yet"
        self._first = opened[1]
        self._finite = opened[0].seconds is not None
        self._reconnect = reconnect and not self._finite
        self.info = self._make_info(*opened)
        self._rest()

    @property
    def notes(self) -> tuple[str, ...]:
        """What happened, a line each: "...: lost (timed out after 5 s), reconnecting"."""
        return tuple(self._notes)

    def frames(self) -> Iterator[Frame]:
        """Frames from now on, across reconnections; ``index`` and times go on, too.

        `SourceError` where a live source is lost and shall not be opened again. Of one that has an
        end, `failures` tell what is missing, as of a file.
        """
        try:
            yield from self._frames()
        finally:
            self._note_damage()

    def _frames(self) -> Iterator[Frame]:
        index, clock, size = 0, LiveClock(), self.info.size
        picture = self._start()
        while picture is not None:
            frame = Frame(picture.image_hwc, index, self._name, captured_ns=picture.captured_ns)
            frame.pts_seconds = clock(picture.stream_seconds, picture.captured_ns)
            frame.motion_vectors = picture.motion_vectors
            frame.times.add("decode", picture.decode_ms)
            if size is not None and frame.size != size:
                self._note(f"size changed from {_text(size)} to {_text(frame.size)}")
            size = frame.size
            index += 1
            yield frame
            picture = self._next(index, clock)

    def close(self) -> None:
        """End a running iteration, also one that waits; returns at once."""
        self._closed.set()
        with self._lock:
            if self._pump is not None:
                self._pump.close()

    def _make_info(self, connection: Connection, first: Picture) -> SourceInfo:
        size = first.image_hwc.shape[0], first.image_hwc.shape[1]
        fps, count = connection.fps, None
        if connection.seconds is not None and fps:
            count = round(connection.seconds * fps) or None
        return SourceInfo(self._name, "video", size, fps, count, live=not self._finite)

    def _rest(self) -> None:
        """Until frames are asked for, a live source throws them away."""
        if self._pump is not None and not self._finite:
            self._pump.keep_newest()

    def _start(self) -> Picture | None:
        """The first picture: of a live source the newest, of a finite one the very first.

        The connection that the constructor made serves the first iteration.
        """
        self.failures.clear()
        first, self._first = self._first, None
        if self._closed.is_set():
            return None
        if first is None:
            opened = self._open()
            return opened[1] if opened else None
        return first if self._finite else self._next(0, LiveClock())

    def _open(self) -> tuple[Connection, Picture] | None:
        """A new connection with its first picture; None when closed meanwhile."""
        pump: Pump[Connection | Picture] = Pump(self._session)
        with self._lock:
            if self._pump is not None:
                self._pump.close()
            self._pump = pump
            if self._closed.is_set():
                pump.close()
        connection, picture = self._get(pump), self._get(pump)
        if isinstance(picture, Picture) and not isinstance(connection, Picture | None):
            self._connection = connection
            return connection, picture
        if self._closed.is_set():
            return None
        raise SourceError(
            f"no frame came from {self._name}",
            facts={"found": "it was opened, and ended before the first frame"},
            fix="check that it plays, e.g. ffplay",
        )

    def _session(self) -> Iterator[Connection | Picture]:
        """In the pump's thread: the connection itself, then what it gives."""
        connection = self._connect()
        try:
            yield connection
            yield from connection.pictures()
        finally:
            connection.close()

    def _get(self, pump: Pump[Connection | Picture]) -> Connection | Picture | None:
        try:
            return pump.get(self._stall_seconds)
        except PumpStalled:
            raise SourceError(
                f"nothing comes from {self._name}",
                facts={"found": f"timed out after {self._stall_seconds:g} s"},
                fix="check that it is on and sends, or wait longer: --timeout 20",
            ) from None

    def _next(self, index: int, clock: LiveClock) -> Picture | None:
        """The next picture, after as many reconnections as it takes; None at the end."""
        pump = self._pump
        assert pump is not None, "the constructor makes it"
        try:
            item = self._get(pump)
            if isinstance(item, Picture) or self._closed.is_set():
                return item if isinstance(item, Picture) else None
        except SourceError as error:
            if self._finite:
                self._cut_off(index, error.facts.get("found", error.headline))
                return None
            if not self._reconnect:
                raise self._broken(error, index) from None
            reason = error.facts.get("found", error.headline)
        else:
            if not self._reconnect:
                self._check_end(index)
                return None
            reason = "the other side ended it"
        clock.restart()
        return self._reopen(reason)

    def _broken(self, error: SourceError, index: int) -> SourceError:
        facts = {**error.facts, "after": f"{index} {'frame' if index == 1 else 'frames'}"}
        return SourceError(f"{self._name} was lost", facts=facts, fix=error.fix)

    def _check_end(self, index: int) -> None:
        """The other side ended it: of a file that may be too early."""
        expected = self.info.frame_count
        slack = 2 + (self.info.fps or 0)  # the count is estimated from the length
        if expected is not None and index < expected - slack:
            self._cut_off(index, "the other side ended it")

    def _cut_off(self, index: int, reason: str) -> None:
        expected = self.info.frame_count
        of = f" of about {expected}" if expected else ""
        text = f"truncated: {index}{of} frames; {reason}"
        self.failures.append(SourceFailure(self._name, text, cut=True))

    def _reopen(self, reason: str) -> Picture | None:
        """Try until it is back; None when closed meanwhile."""
        since_ns, attempts = self._clock_ns(), 0
        self._note_damage()
        self._note(f"lost ({reason}), reconnecting")
        while not self._wait(delay_seconds(attempts)) and not self._closed.is_set():
            attempts += 1
            try:
                opened = self._open()
            except SourceError as error:
                found = error.facts.get("found", error.headline)
                if found != reason:
                    reason = found
                    self._note(f"still lost ({reason}), reconnecting")
                continue
            if opened is None:
                return None
            self.reconnects += 1
            seconds = (self._clock_ns() - since_ns) / 1e9
            tries = "attempt" if attempts == 1 else "attempts"
            self._note(f"back after {seconds:.1f} s, {attempts} {tries}")
            return opened[1]
        return None

    def _note_damage(self) -> None:
        """Of one connection, when it has ended."""
        connection, self._connection = self._connection, None
        if connection is not None and connection.left_out:
            count = connection.left_out
            self._note(f"{count} damaged {'picture' if count == 1 else 'pictures'} left out")

    def _note(self, text: str) -> None:
        line = f"{self._name}: {text}"
        self._notes.append(line)
        if self.on_note is not None:
            self.on_note(line)


def delay_seconds(attempts: int) -> float:
    """How long to wait after so many failed attempts: 0.5 s, doubling, at most 10 s."""
    return float(min(MAX_DELAY_SECONDS, FIRST_DELAY_SECONDS * 2 ** min(attempts, 16)))


def _text(size: tuple[int, int]) -> str:
    return f"{size[1]}x{size[0]}"

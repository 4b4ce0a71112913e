"""LiveClock: the times of a live stream as one that begins at 0 and only goes forward."""

from __future__ import annotations

_MAX_GAP_SECONDS = 10.0
"""A longer step between two frames is a clock that was set, not a gap."""

_MIN_STEP_SECONDS = 1e-3
"""Between two frames that claim the same time: recordings need them apart."""


class LiveClock:
    """Maps stream times, which restart and jump, to seconds since the first frame.

    Within one connection the stream's own intervals hold (they are the camera's); across jumps
    and reconnections the time of arrival tells how long the gap was.
    """

    def __init__(self) -> None:
        self._seconds: float | None = None
        self._stream_seconds: float | None = None
        self._captured_ns = 0

    def restart(self) -> None:
        """What follows is of a new connection."""
        self._stream_seconds = None

    def __call__(self, stream_seconds: float | None, captured_ns: int) -> float:
        """Seconds since the first frame; by arrival where the stream has no times."""
        if self._seconds is None:
            seconds = 0.0
        else:
            step = (captured_ns - self._captured_ns) / 1e9
            if stream_seconds is not None and self._stream_seconds is not None:
                own = stream_seconds - self._stream_seconds
                step = own if 0 < own <= _MAX_GAP_SECONDS else step
            seconds = self._seconds + max(step, _MIN_STEP_SECONDS)
        self._seconds, self._stream_seconds = seconds, stream_seconds
        self._captured_ns = captured_ns
        return seconds

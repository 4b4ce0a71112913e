"""Pace: how far apart key frames lie."""

from __future__ import annotations

from segedge.options.motion import Motion

_FIRST = 2
_SMOOTH = 0.5
"""Share of the newest measurement in what is known of the scene."""
_LEAST_LOSS = 1e-4
"""Disagreement a frame that even a still scene is taken to have: it bounds the growth."""


class Pace:
    """Steers the frames from one key to the next by what was measured at the latest keys.

    Disagreement grows about evenly with the distance, so what one frame of it costs tells how many
    the bound allows. The distance doubles at most, and falls at once.
    """

    def __init__(self, motion: Motion, *, most: int | None = None) -> None:
        """Begin; ``most`` frames at most where they have to wait for the next key."""
        self._motion = motion
        self._most = most
        self._loss_a_frame: float | None = None
        self._distance = _FIRST if motion.every == "auto" else motion.every

    def distance(self, fps: float | None) -> int:
        """Frames from the latest key to the next one, 1 and up."""
        if self._motion.every != "auto":
            return self._distance
        limit = max(1, int(self._motion.gap_seconds * (fps or 25.0)))
        return min(self._distance, limit, self._most or limit)

    def measured(self, agreement: float | None, frames: int) -> None:
        """A key ``frames`` after the one before it was carried to with this agreement."""
        if agreement is None or frames < 1 or self._motion.every != "auto":
            return
        loss = (1.0 - agreement) / frames
        before = loss if self._loss_a_frame is None else self._loss_a_frame
        self._loss_a_frame = max(loss, before + _SMOOTH * (loss - before))
        allowed = (1.0 - self._motion.agreement) / max(self._loss_a_frame, _LEAST_LOSS)
        self._distance = max(1, min(int(allowed), 2 * self._distance))

    def new_scene(self) -> None:
        """Nothing is known of what comes."""
        self._loss_a_frame = None
        if self._motion.every == "auto":
            self._distance = _FIRST

"""DriftWatch: how the frames of a source compare with those that the network knows.

Every eighth frame is looked at, four a second at most, in the thread of its first sink: the next
frames are computed meanwhile.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from segedge.card.card import ModelCard
from segedge.card.familiar import Familiar
from segedge.card.geometry import Size
from segedge.drift.glance import Glance, glance, mean_of, thinned
from segedge.frames.frame import DriftNote, Frame

EVERY = 8
"""Frames from one that is looked at to the next."""
WINDOW = 64
"""Frames looked at that figures are of: the last 16 seconds or more."""
FEWEST = 4
"""Frames looked at below which nothing is said."""
_SECONDS = 0.25
"""From one look to the next, at least, once enough was seen."""


class DriftWatch:
    """Of one source. `look` by one thread, the rest by any."""

    def __init__(
        self,
        card: ModelCard,
        familiar: Familiar,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Nothing seen yet."""
        self._card, self._familiar, self._clock = card, familiar, clock
        self._window: deque[Glance] = deque(maxlen=WINDOW)
        self._lock = threading.Lock()
        self._count = self._looked = 0
        self._next = 0.0
        self.note: DriftNote | None = None
        """How it stands; None as long as too little was seen."""

    def look(self, frame: Frame, result: object) -> None:
        """A frame with its result, which is computed; most are passed over at once."""
        self._count += 1
        if (self._count - 1) % EVERY or frame.image_hwc.ndim != 3:
            return
        now = self._clock()
        if self._looked >= FEWEST and now < self._next:
            return
        logits = getattr(result, "logits", None)
        if logits is None or logits.ndim != 4:
            return
        self._next = now + _SECONDS
        found = glance(Size(*frame.size), thinned(frame.image_hwc), logits, self._card)
        with self._lock:
            self._window.append(found)
            self._looked += 1
            if self._looked >= FEWEST:
                confidence = float(np.mean([one.confidence for one in self._window]))
                known = self._familiar
                differs = confidence < known.alarm
                self.note = DriftNote(confidence, known.confidence, known.when, differs)

    def sample(self) -> dict[str, Any] | None:
        """How the last frames compare, in plain types; None as long as too little was seen."""
        with self._lock:
            note, known, window = self.note, self._familiar, list(self._window)
        if note is None:
            return None
        shares = mean_of(window, "class_shares")
        moved = float(np.abs(shares - known.class_shares).sum() / 2.0)
        brightness, contrast = (
            float(mean_of(window, name).mean() - np.mean(getattr(known, name)))
            for name in ("mean_bgr", "contrast_bgr")
        )
        return {
            "frames": self._looked,
            "confidence": round(note.confidence, 4),
            "familiar": known.confidence,
            "when": known.when,
            "alarm": round(known.alarm, 4),
            "differs": note.differs,
            "classes_moved": round(moved, 4),
            "brightness": round(brightness, 1),
            "contrast": round(contrast, 1),
        }


def sentence(facts: Mapping[str, Any], adapt: str) -> str:
    """``confidence 0.71, when exported 0.91: this camera differs; segedge adapt ...``.

    Of what `DriftWatch.sample` says; ``adapt`` is the command that meets it.
    """
    said = f"confidence {facts['confidence']:.2f}, when {facts['when']} {facts['familiar']:.2f}"
    if not facts["differs"]:
        return said
    how = [
        f"{abs(facts[name]):.0f} levels {word[facts[name] < 0]}"
        for name, word in _WORDS.items()
        if abs(facts[name]) >= _TOLD_LEVELS
    ]
    told = f" ({', '.join(how)})" if how else ""
    return f"{said}: this camera differs{told}; {adapt}"


_TOLD_LEVELS = 15.0
_WORDS = {
    "brightness": ("brighter", "darker"),
    "contrast": ("more contrast", "less contrast"),
}

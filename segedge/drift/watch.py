"""DriftWatch: how the frames of a source compare with those that the network knows.

Every eighth frame is looked at, off the hot path: `offer` keeps it, `settle` looks.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from segedge.card.card import ModelCard
from segedge.card.familiar import Familiar
from segedge.card.geometry import Size
from segedge.drift.glance import Glance, glance, mean_of, thinned
from segedge.frames.frame import DriftNote, Frame

EVERY = 8
"""Frames from one that is looked at to the next."""
WINDOW = 64
"""Frames looked at that figures are of: at 30 a second the last 17 seconds."""
FEWEST = 4
"""Frames looked at below which nothing is said."""
_WAITING = 4
"""Frames kept until `settle` comes; older ones are let go."""


class LogitsResult(Protocol):
    """A result with the network's output."""

    @property
    def logits(self) -> NDArray[Any]:
        """The network's raw output."""


class DriftWatch:
    """Of one source. `offer` by one thread, the rest by any."""

    def __init__(self, card: ModelCard, familiar: Familiar) -> None:
        """Nothing seen yet."""
        self._card, self._familiar = card, familiar
        self._waiting: deque[tuple[Frame, Any]] = deque(maxlen=_WAITING)
        self._window: deque[Glance] = deque(maxlen=WINDOW)
        self._settling = threading.Lock()
        self._count = self._looked = 0
        self.note: DriftNote | None = None
        """How it stands; None as long as too little was seen."""

    def offer(self, frame: Frame, result: object) -> None:
        """A frame with its result; most are passed over at once."""
        frame.drift = self.note
        if self._count % EVERY == 0 and frame.image_hwc.ndim == 3:
            self._waiting.append((frame, result))
        self._count += 1

    def settle(self) -> None:
        """Look at the frames that wait."""
        with self._settling:
            while self._waiting:
                frame, result = self._waiting.popleft()
                logits = getattr(result, "logits", None)
                if logits is None or logits.ndim != 4:
                    continue
                thin = thinned(frame.image_hwc)
                self._window.append(glance(Size(*frame.size), thin, logits, self._card))
                self._looked += 1
            if len(self._window) >= FEWEST:
                confidence = float(np.mean([one.confidence for one in self._window]))
                known = self._familiar
                differs = confidence < known.alarm
                self.note = DriftNote(confidence, known.confidence, known.when, differs)

    def sample(self) -> dict[str, Any] | None:
        """How the last frames compare, in plain types; None as long as too little was seen."""
        self.settle()
        if self.note is None:
            return None
        known, window = self._familiar, list(self._window)
        shares = mean_of(window, "class_shares")
        moved = float(np.abs(shares - known.class_shares).sum() / 2.0)
        brightness, contrast = (
            float(mean_of(window, name).mean() - np.mean(getattr(known, name)))
            for name in ("mean_bgr", "contrast_bgr")
        )
        return {
            "frames": self._looked,
            "confidence": round(self.note.confidence, 4),
            "familiar": known.confidence,
            "when": known.when,
            "alarm": round(known.alarm, 4),
            "differs": self.note.differs,
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

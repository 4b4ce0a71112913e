"""MotionSummary: what a run's key frames and carried frames amounted to."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Mapping
from statistics import median
from typing import Any

import numpy as np

from segedge.frames.frame import MotionNote

_BINS = 1000
"""Agreements are counted by tenths of a percent, so that a run of days takes no more memory."""
_NETWORK_TIMES = 1024
"""The newest times of a network in a thread of its own, of which the median is told."""


class MotionSummary:
    """Counts of one video; written by one thread, read by any."""

    def __init__(self) -> None:
        """Nothing yet."""
        self._lock = threading.Lock()
        self.keys = 0
        """Frames that the network saw."""
        self.frames = 0
        """All frames."""
        self.asked = 0
        """Frames of which the codec was asked for motion vectors."""
        self.answered = 0
        """Those of which it had some."""
        self.newest: float | None = None
        """The latest agreement at clear points."""
        self._agreements = np.zeros(_BINS + 1, np.int64)
        self._sum = self._sum_all = 0.0
        self._count_all = 0
        self._oldest_ms = self._age_ms = 0.0
        self._network_ms: deque[float] = deque(maxlen=_NETWORK_TIMES)

    def key(self, note: MotionNote, *, shown: bool = True) -> None:
        """The network has seen a frame; live, that was shown before with carried logits."""
        with self._lock:
            self.keys += 1
            self.frames += shown
            if note.agreement is not None:
                self.newest = note.agreement
                self._agreements[round(note.agreement * _BINS)] += 1
                self._sum += note.agreement
            if note.agreement_all is not None:
                self._sum_all += note.agreement_all
                self._count_all += 1

    def carried(self, note: MotionNote) -> None:
        """A frame that was carried to."""
        with self._lock:
            self.frames += 1
            self._age_ms = note.key_age_ms
            self._oldest_ms = max(self._oldest_ms, note.key_age_ms)

    def network(self, milliseconds: float) -> None:
        """What the network took beside the frames, in a thread of its own."""
        with self._lock:
            self._network_ms.append(milliseconds)

    def codec(self, asked: int, answered: int) -> None:
        """How often the codec was asked for vectors, and had some."""
        with self._lock:
            self.asked, self.answered = asked, answered

    @property
    def agreement(self) -> float | None:
        """Mean over the key frames at which it was measured, of clear points; None without any."""
        count = int(self._agreements.sum())
        return self._sum / count if count else None

    @property
    def agreement_p5(self) -> float | None:
        """The agreement that 95 % of these key frames reach."""
        counts = np.cumsum(self._agreements)
        if counts[-1] == 0:
            return None
        return float(np.searchsorted(counts, max(1.0, 0.05 * counts[-1])) / _BINS)

    def sample(self) -> dict[str, Any]:
        """How it stands: counts so far, the newest agreement, the age of the key in use."""
        with self._lock:
            return {
                "frames": self.frames,
                "network_frames": self.keys,
                "agreement": _rounded(self.newest),
                "key_age_ms": round(self._age_ms, 3),
            }

    def to_dict(self) -> dict[str, Any]:
        """In plain types, for JSON."""
        with self._lock:
            every = self._sum_all / self._count_all if self._count_all else None
            return {
                "frames": self.frames,
                "network_frames": self.keys,
                "agreement": _rounded(self.agreement),
                "agreement_p5": _rounded(self.agreement_p5),
                "agreement_all": _rounded(every),
                "measured": int(self._agreements.sum()),
                "agreement_newest": _rounded(self.newest),
                "oldest_key_ms": round(self._oldest_ms, 1),
                "network_ms": round(median(self._network_ms), 3) if self._network_ms else None,
                "codec_asked": self.asked,
                "codec_answered": self.answered,
            }

    def sentence(self) -> str:
        """See `sentence`."""
        return sentence(self.to_dict())


def sentence(facts: Mapping[str, Any]) -> str:
    """``network 84 of 250 frames; carried labels agree 98.7 % (p5 97.1 %) ...``.

    Of what `MotionSummary.to_dict` says.
    """
    said = f"network {facts['network_frames']} of {facts['frames']} frames"
    if facts["agreement"] is None:
        return said
    worst = facts.get("agreement_p5")
    agree = f"{facts['agreement']:.1%}" + ("" if worst is None else f" (p5 {worst:.1%})")
    return (
        f"{said}; carried labels agree {agree.replace('%', ' %')} with the network's at key frames"
    )


def no_vectors(facts: Mapping[str, Any]) -> str:
    """Of how many frames the codec was asked in vain; empty: of none."""
    lacking = facts["codec_asked"] - facts["codec_answered"]
    if not lacking:
        return ""
    return f"the codec gives none for {lacking} of {facts['codec_asked']} frames: flow instead"


def added(parts: Iterable[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Several summaries (`MotionSummary.to_dict`) as one: counts, and the mean agreement."""
    known = list(parts)
    if not known:
        return None
    counts = ("frames", "network_frames", "measured", "codec_asked", "codec_answered")
    total: dict[str, Any] = {name: sum(part[name] for part in known) for name in counts}
    weighed = sum(part["measured"] * (part["agreement"] or 0.0) for part in known)
    agreement = weighed / total["measured"] if total["measured"] else None
    return {**total, "agreement": _rounded(agreement)}


def _rounded(share: float | None) -> float | None:
    return None if share is None else round(share, 5)

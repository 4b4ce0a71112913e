"""Harvest and HarvestSink: score every frame, keep the few that are worth a label."""

from __future__ import annotations

import math
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np

from segedge.card.card import ModelCard
from segedge.frames.closing import check_takes
from segedge.frames.frame import Frame
from segedge.frames.protocols import ResultView
from segedge.harvest.entry import Entry
from segedge.harvest.grid import LogitsView, grid_of
from segedge.harvest.hashing import difference_hash
from segedge.harvest.options import HarvestOptions
from segedge.harvest.scores import (
    SPREAD,
    Baseline,
    Presence,
    Reason,
    Scorer,
    Scores,
    Usual,
    read_baseline,
)
from segedge.harvest.store import MOST_INDEXED, Store, used_text
from segedge.machine.files import sink_error
from segedge.video.sinks.png import encode_labels_png

_JPEG_QUALITY = 95
_LEAST_SHARE = 0.0005
"""Classes below this share of a frame are not in its line."""
_SAVE_EVERY = 500
"""Frames between two saves of what was learned: a killed run loses at most these."""


@dataclass(frozen=True)
class _Candidate:
    """A frame that may be worth a label."""

    dhash: int
    values: dict[str, float]
    bits: dict[str, float]
    reasons: list[str]
    rare: int | None

    @property
    def score(self) -> float:
        return sum(self.bits.values())


class Harvest:
    """One folder, for the sources of a run; each writes through a sink of its own.

    A frame is scored on the grid of the logits, cheaply; only one that is unusual, and no picture
    that is there already, is encoded and written. When the disk refuses, the harvest ends with a
    note and the run goes on: its other outputs matter more.
    """

    def __init__(
        self,
        options: HarvestOptions,
        card: ModelCard,
        *,
        model: str = "",
        wall: Callable[[], float] = time.time,
    ) -> None:
        """Open the folder.

        Args:
            options: What is kept.
            card: The model's.
            model: Its name, for the manifest.
            wall: The time of day, in seconds since 1970.

        Raises:
            UsageError: The folder holds something else, or the baseline cannot be read.
            SinkError: The folder cannot be written, or another run has it.
        """
        self._options, self._card, self._model, self._wall = options, card, model, wall
        given = options.baseline
        baseline = None if given is None else read_baseline(given, card.classes)
        self._store = Store(
            options.folder,
            card.classes,
            card.palette_rgb,
            budget_bytes=options.budget_bytes,
            distance=options.distance,
        )
        self._lock = threading.RLock()
        self._usual: dict[Reason, Usual] = {reason: Usual() for reason in SPREAD}
        self._presence = Presence(np.zeros(len(card.classes), np.int64))
        self._baseline = Baseline.unknown(len(card.classes))
        self._restore(self._store.state)
        self._baseline = baseline or self._baseline
        self._open_sinks = 0
        self._is_closed = False
        self._stopped: str | None = None
        self._seen = 0
        self._kept: Counter[str] = Counter()
        self._refused_for_room = 0

    @property
    def folder(self) -> Path:
        """Where it goes."""
        return self._options.folder

    def sink(self, label: str) -> HarvestSink:
        """A sink for one source.

        Args:
            label: The source's short name, which the files begin with.
        """
        with self._lock:
            self._open_sinks += 1
            return HarvestSink(self, label, first=self._open_sinks == 1)

    def notes(self) -> list[str]:
        """How it went, for people."""
        with self._lock:
            text = f"harvest: {len(self._store.entries)} frames, {used_text(self._store)}"
            why = ", ".join(f"{count} for {reason}" for reason, count in self._kept.most_common())
            text += f"; {sum(self._kept.values())} of {self._seen} frames of this run were kept"
            notes = [text + (f" ({why})" if why else "")]
            if self._refused_for_room and not self._store.entries:
                notes.append("harvest: the budget is too small for a single frame")
            return [*notes, *([self._stopped] if self._stopped else []), *self._store.notes]

    def take(self, frame: Frame, result: LogitsView, scorer: Scorer, label: str) -> None:
        """Score a frame, and keep it if it is worth it."""
        with self._lock:
            if self._is_closed or self._stopped:
                return
        grid = grid_of(frame, result)
        dhash = difference_hash(frame)
        with self._lock:
            scores = scorer(grid, self._baseline, moving=frame.pts_seconds is not None)
            candidate = self._judge(dhash, scores)
            self._learn(scores, grid.shares)
            wanted = candidate is not None and self._store.room_for(
                dhash, candidate.score, self._rate
            )
        if candidate is None or not wanted:
            return
        shares = dict(zip(self._card.classes, grid.shares.tolist(), strict=True))
        entry, image, labels = self._encode(frame, result, candidate, shares, label)
        with self._lock:
            if not self._is_closed:
                self._keep(entry, image, labels)

    def close(self) -> None:
        """Write what the next run goes on with, and the archive for CVAT; once."""
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
            try:
                self._store.finish(self._facts())
            except OSError as error:
                self._stop(error)

    def leave(self) -> None:
        """A sink is closed; the last one closes the harvest."""
        with self._lock:
            self._open_sinks -= 1
            if self._open_sinks <= 0:
                self.close()

    def _judge(self, dhash: int, scores: Scores) -> _Candidate | None:
        values: dict[str, float] = {reason: v for reason, v in scores.values.items()}
        bits = {str(reason): self._usual[reason].bits(v) for reason, v in scores.values.items()}
        rare = self._presence.rarest(scores.present)
        if rare is not None:
            values["rare"], bits["rare"] = self._presence.share(rare), self._presence.bits(rare)
        least = -math.log2(self._options.top_share)
        high = sorted((reason for reason in bits if bits[reason] >= least), key=lambda r: -bits[r])
        return _Candidate(dhash, values, bits, high, rare) if high else None

    def _rate(self, entry: Entry) -> float:
        """The score of a kept frame by all that was seen since, too."""
        score = sum(
            self._usual[reason].bits(entry.values[reason])
            for reason in SPREAD
            if reason in entry.values
        )
        if entry.rare_class is None:
            return score
        return score + self._presence.bits(self._card.classes.index(entry.rare_class))

    def _learn(self, scores: Scores, shares: Any) -> None:
        for reason, value in scores.values.items():
            self._usual[reason].add(value)
        self._presence.add(scores.present)
        self._baseline.add(shares)
        self._seen += 1
        if self._seen % _SAVE_EVERY == 0:
            with suppress(OSError):  # a full disk will be told of when a frame is written
                self._store.save(self._facts())

    def _encode(
        self,
        frame: Frame,
        result: ResultView,
        candidate: _Candidate,
        shares: dict[str, float],
        label: str,
    ) -> tuple[Entry, bytes, bytes]:
        """The entry and its two files; labels are those that the user sees, in full size."""
        quality = [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY]
        image = bytes(cv2.imencode(".jpg", frame.image_hwc, quality)[1])
        palette = None if len(self._card.classes) > MOST_INDEXED else self._store.palette_rgb
        labels = encode_labels_png(np.ascontiguousarray(result.labels), palette_rgb=palette)
        height, width = frame.size
        rare = candidate.rare
        kept = datetime.fromtimestamp(self._wall(), tz=timezone.utc)
        entry = Entry(
            name=_name(frame, label, candidate.dhash),
            source=frame.name,
            index=frame.index,
            pts_seconds=frame.pts_seconds,
            kept=kept.isoformat(timespec="seconds"),
            model=self._model,
            height=height,
            width=width,
            dhash=f"{candidate.dhash:016x}",
            score=round(candidate.score, 3),
            reasons=candidate.reasons,
            values={r: round(v, 6) for r, v in candidate.values.items()},
            bits={r: round(v, 3) for r, v in candidate.bits.items()},
            rare_class=None if rare is None else self._card.classes[rare],
            class_shares={n: round(s, 4) for n, s in shares.items() if s >= _LEAST_SHARE},
            image_bytes=len(image),
            label_bytes=len(labels),
        )
        return entry, image, labels

    def _keep(self, entry: Entry, image: bytes, labels: bytes) -> None:
        # Another source may have kept the same picture meanwhile.
        if not self._store.room_for(entry.hash, entry.score, self._rate):
            return
        try:
            kept = self._store.keep(entry, image, labels, self._rate)
        except OSError as error:
            self._stop(error)
            return
        if kept:
            self._kept[entry.reasons[0]] += 1
        else:
            self._refused_for_room += 1

    def _stop(self, error: OSError) -> None:
        told = sink_error(self.folder, error)
        reason = told.headline if "full" in told.headline else f"{told.headline}: {error.strerror}"
        self._stopped = f"harvest ended early: {reason}"

    def _facts(self) -> dict[str, Any]:
        """What is learned, as the next run reads it."""
        shares = zip(self._card.classes, self._baseline.shares.tolist(), strict=True)
        return {
            "frames": self._presence.frames,
            "frames_with": dict(
                zip(self._card.classes, self._presence.counts.tolist(), strict=True)
            ),
            "class_shares": {name: round(share, 8) for name, share in shares},
            "usual": {reason: _sparse(usual) for reason, usual in self._usual.items()},
        }

    def _restore(self, state: dict[str, Any]) -> None:
        """Go on with what was learned; a state that is not whole is begun anew."""
        with suppress(KeyError, TypeError, ValueError, IndexError):
            shares = [float(state["class_shares"][name]) for name in self._card.classes]
            present = [int(state["frames_with"][name]) for name in self._card.classes]
            usual = {reason: Usual() for reason in SPREAD}
            for reason in SPREAD:
                for number, count in state["usual"][reason].items():
                    usual[reason].counts[int(number)] = int(count)
            self._baseline = Baseline(np.array(shares), int(state["frames"]))
            self._presence = Presence(np.array(present, np.int64), int(state["frames"]))
            self._usual = usual


class HarvestSink:
    """One source's way into a harvest."""

    def __init__(self, harvest: Harvest, label: str, *, first: bool) -> None:
        """Made by `Harvest.sink`."""
        self._harvest: Harvest | None = harvest
        self._made = harvest
        self._label, self._first = label, first
        self._scorer = Scorer()
        self.needs = frozenset[str]()

    @property
    def paths(self) -> Sequence[Path]:
        """The folder; of several sinks the first one tells."""
        return (self._made.folder,) if self._first else ()

    @property
    def notes(self) -> Sequence[str]:
        """How it went; of several sinks the first one tells."""
        return self._made.notes() if self._first else ()

    def write(self, frame: Frame, result: ResultView) -> None:
        """Score the frame, and keep it if it is worth it. A full disk is no error here."""
        check_takes(self._harvest is not None, f"the harvest of {self._label}")
        with frame.times.measure("harvest"):
            self._made.take(frame, cast(LogitsView, result), self._scorer, self._label)

    def close(self, *, error: bool = False) -> None:
        """Finish; what is there is whole, also after an error."""
        harvest, self._harvest = self._harvest, None
        if harvest is not None:
            harvest.leave()


def _name(frame: Frame, label: str, dhash: int) -> str:
    """A stem fit for every file system: a still image's own, else the source's with the index."""
    stem = f"{label}-{frame.index:06d}" if frame.pts_seconds is not None else Path(frame.name).stem
    stem = re.sub(r"[^A-Za-z0-9_.-]+", "-", stem).strip("-.")[:80] or f"{frame.index:06d}"
    return f"{stem}-{dhash:016x}"


def _sparse(usual: Usual) -> dict[str, int]:
    return {str(n): int(usual.counts[n]) for n in np.flatnonzero(usual.counts)}

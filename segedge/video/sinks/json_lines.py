"""JsonLinesSink: the facts of every frame, one JSON object a line."""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from segedge.errors import SinkError, UsageError
from segedge.frames.closing import check_takes
from segedge.frames.frame import DriftNote, Frame, MotionNote
from segedge.frames.protocols import Analysis, EndOfRun, ResultView
from segedge.machine.files import prepare_folder, sink_error, writing

STDOUT = "-"
"""The path that stands for standard output."""

_KEYS = (
    "source",
    "index",
    "pts_seconds",
    "captured",
    "latency_ms",
    "stages_ms",
    "class_pixels",
)
"""What every line has."""
_MOTION = "motion"
"""What lines of frames have whose logits may be carried from frame to frame."""
_DRIFT = "drift"
"""What lines have once enough frames were compared with those that the network knows."""


class JsonLinesSink:
    """One line a frame, each of them whole and on its way when `write` returns.

    The keys: ``source``, ``index``, ``pts_seconds`` (null for still images), ``captured`` (UTC,
    ISO 8601), ``latency_ms`` (capture to this line), ``stages_ms``, ``class_pixels``; where the
    network sees some frames only, ``motion``: ``key`` (whether it saw this one), ``frames`` to the
    nearest that it saw, ``key_age_ms``, ``agreement`` (see `MotionNote`); where the model's file
    says what it knows, ``drift``: ``confidence`` over the last frames, ``when_exported`` or
    ``when_adapted``, ``differs``.
    Each analysis adds one under its name, and a stage of that name to the frame's times.
    A file that was there is replaced. On a full disk the last line is whole, too.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        analyses: Sequence[Analysis] = (),
        clock_ns: Callable[[], int] = time.monotonic_ns,
        wall_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        """Open the file, or ``-``: standard output; analyses keep state for this sink alone.

        The time of day is read once: `captured` does not jump with it.
        """
        _check_names(analyses)
        self._path = Path(path)
        self._analyses = tuple(analyses)
        self._clock_ns = clock_ns
        self._offset_ns = wall_ns() - clock_ns()
        self._to_stdout = str(path) == STDOUT
        self._fd: int | None = self._open()
        self._size = 0
        self._is_closed = False
        self.needs = frozenset({"class_pixels"}).union(*(a.needs for a in self._analyses))
        self.paths: Sequence[Path] = () if self._to_stdout else (self._path,)
        self.notes: Sequence[str] = ()

    def write(self, frame: Frame, result: ResultView) -> None:
        """Write one line; `EndOfRun` where nobody reads standard output any more."""
        check_takes(not self._is_closed, self._path)
        if self._fd is None:
            return
        facts = self._facts(frame, result)
        line = json.dumps(facts, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        self._put(line.encode("utf-8", "replace") + b"\n")

    def close(self, *, error: bool = False) -> None:
        """Close the file; what is there is whole either way."""
        self._is_closed = True
        if self._fd is not None and not self._to_stdout:
            os.close(self._fd)
        self._fd = None

    def _open(self) -> int:
        if self._to_stdout:
            sys.stdout.flush()
            return 1
        prepare_folder(self._path.parent, purpose=self._path)
        with writing(self._path):
            return os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)

    def _facts(self, frame: Frame, result: ResultView) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for analysis in self._analyses:
            with frame.times.measure(analysis.name):
                found[analysis.name] = analysis(frame, result)
        captured = datetime.fromtimestamp(
            (frame.captured_ns + self._offset_ns) / 1e9, tz=timezone.utc
        )
        return {
            "source": frame.name,
            "index": frame.index,
            "pts_seconds": _number(frame.pts_seconds, 6),
            "captured": captured.isoformat(timespec="microseconds"),
            "latency_ms": _number((self._clock_ns() - frame.captured_ns) / 1e6, 3),
            "stages_ms": _numbers(frame.times.milliseconds),
            "class_pixels": {name: int(count) for name, count in result.class_pixels.items()},
            **_motion(frame.motion),
            **_drift(frame.drift),
            **found,
        }

    def _put(self, line: bytes) -> None:
        """The whole line, or nothing of it."""
        assert self._fd is not None, "write() has looked"
        done = 0
        try:
            while done < len(line):
                done += os.write(self._fd, line[done:])
        except BrokenPipeError:
            self._fd = None
            raise EndOfRun("standard output was closed") from None
        except OSError as error:
            raise self._refused(error) from error
        self._size += len(line)

    def _refused(self, error: OSError) -> SinkError:
        if self._to_stdout:
            return SinkError("cannot write to standard output", facts={"found": str(error)})
        assert self._fd is not None, "write() has looked"
        os.ftruncate(self._fd, self._size)
        return sink_error(self._path, error, facts={"kept": f"{self._size} bytes of whole lines"})


def _check_names(analyses: Sequence[Analysis]) -> None:
    names = [*_KEYS, _MOTION, _DRIFT, *(analysis.name for analysis in analyses)]
    twice = next((name for number, name in enumerate(names) if name in names[:number]), None)
    if twice is not None:
        raise UsageError(f"two facts of the name {twice!r} in a JSON line")


def _motion(note: MotionNote | None) -> dict[str, Any]:
    """Nothing where every frame goes through the network."""
    if note is None:
        return {}
    facts = {
        "key": note.is_key,
        "frames": note.frames,
        "key_age_ms": _number(note.key_age_ms, 3),
        "agreement": _number(note.agreement, 5),
    }
    return {_MOTION: facts}


def _drift(note: DriftNote | None) -> dict[str, Any]:
    """Nothing where the network's file does not say what it knows, or too little was seen."""
    if note is None:
        return {}
    facts = {
        "confidence": _number(note.confidence, 4),
        f"when_{note.when}": _number(note.familiar, 4),
        "differs": note.differs,
    }
    return {_DRIFT: facts}


def _number(value: float | None, digits: int) -> float | None:
    """Rounded; what JSON cannot say is null."""
    return None if value is None or not math.isfinite(value) else round(value, digits)


def _numbers(values: Mapping[str, float]) -> dict[str, float | None]:
    # a copy: other sinks add to the stages meanwhile
    return {name: _number(value, 3) for name, value in dict(values).items()}

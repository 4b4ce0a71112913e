"""Store: the folder of a harvest. Whole files only, within a budget, no picture twice."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from segedge.card.labels import Rgb
from segedge.card.plain import parse_json
from segedge.errors import SinkError, UsageError
from segedge.harvest.cvat import ARCHIVE, ENTRY_BYTES, label_map, unique_palette, write_archive
from segedge.harvest.entry import Entry
from segedge.harvest.hashing import distances
from segedge.machine.files import locked, megabytes, prepare_folder, replace_file, writing

MANIFEST, STATE = "manifest.jsonl", "harvest.json"
SCHEMA = 1
MOST_INDEXED = 256
"""Classes that an indexed PNG holds; labels of more are 16-bit grey, and make no archive."""

_OURS = re.compile(r"\.?[\w.-]+-[0-9a-f]{16}(\.part-[0-9a-f]{8})?\.(jpg|png)")
"""Names that a harvest gives."""
_STATE_BYTES = 40_000
"""Room for what is no frame: the state, class names, the head of the archive."""

Rate = Callable[[Entry], float]
"""The score of an entry by what is known now."""


class Store:
    """The kept frames of one folder; one harvest at a time has it.

    Nothing here is thread-safe: `segedge.harvest.harvest.Harvest` has the lock.
    """

    def __init__(
        self,
        folder: Path,
        classes: Sequence[str],
        palette_rgb: Sequence[Rgb],
        *,
        budget_bytes: int,
        distance: int,
    ) -> None:
        """Open the folder, or go on with one.

        Hashes of one picture may differ in ``distance`` bits; other classes than before are
        refused.
        """
        self.folder, self.budget_bytes = folder, budget_bytes
        self.classes, self.palette_rgb = tuple(classes), unique_palette(palette_rgb)
        self.notes: list[str] = []
        self._distance = distance
        self.entries: list[Entry] = []
        self.state: dict[str, Any] = {}
        prepare_folder(folder, purpose=folder)
        text = f"another run harvests into {folder}"
        busy = SinkError(text, fix="--harvest ANOTHER/, or wait for its end")
        self._lock = locked(folder, busy=busy)
        try:
            self._open()
        except BaseException:
            self._unlock()
            raise

    @property
    def bytes_used(self) -> int:
        """What the files take, with the archive of the labels as it will be."""
        return _STATE_BYTES + sum(map(_cost, self.entries))

    def room_for(self, dhash: int, score: float, rate: Rate) -> bool:
        """Whether a frame of this hash and score would be kept; of equals the older one is.

        ``rate`` scores the kept ones anew.
        """
        return all(rate(entry) < score and not entry.edited for entry in self._like(dhash))

    def keep(self, entry: Entry, image: bytes, labels: bytes, rate: Rate) -> bool:
        """Write a frame, and drop what is of the same picture or beyond the budget.

        False where all others are worth more and there is no room. OSError where the disk refuses
        it; what is there is whole then.
        """
        going = self._like(entry.hash)
        going += self._least_worth(_cost(entry), going, entry.score, rate)
        staying = self.bytes_used - sum(map(_cost, going))
        if staying + _cost(entry) > self.budget_bytes:
            return False
        (self.folder / ARCHIVE).unlink(missing_ok=True)  # it will not hold any more
        if going:
            gone = {id(entry) for entry in going}
            self.entries = [entry for entry in self.entries if id(entry) not in gone]
            self._write_manifest()
            for old in going:
                self._unlink(old)
        # The manifest comes last: a frame without its line is swept up by the next run.
        replace_file(self._label(entry), labels)
        replace_file(self._image(entry), image)
        self._append(entry)
        self.entries.append(entry)
        return True

    def save(self, state: dict[str, Any]) -> None:
        """Write what the next run goes on with."""
        head = {"schema": SCHEMA, "classes": list(self.classes)}
        replace_file(self.folder / STATE, (json.dumps({**head, **state}) + "\n").encode())

    def finish(self, state: dict[str, Any]) -> None:
        """Save, and write the archive; the folder is free for another run."""
        try:
            self.save(state)
            self._write_manifest()
            archive = self.folder / ARCHIVE
            if len(self.classes) > MOST_INDEXED:
                return
            if self.entries and not archive.exists():
                labels = [self._label(entry) for entry in self.entries]
                write_archive(archive, labels, self.classes, self.palette_rgb)
        finally:
            self._unlock()

    def _open(self) -> None:
        state_path = self.folder / STATE
        if not state_path.exists():
            self._check_empty()
            for name in ("images", "labels"):
                (self.folder / name).mkdir(exist_ok=True)
            (self.folder / "labelmap.txt").write_text(label_map(self.classes, self.palette_rgb))
            with writing(state_path):
                self.save({})
            return
        self.state = self._read_state(state_path)
        self._read_manifest()
        self._sweep()
        with writing(self.folder):
            self._trim()

    def _check_empty(self) -> None:
        found = sorted(p.name for p in self.folder.iterdir() if not p.name.startswith("."))
        if found:
            raise UsageError(
                f"{self.folder} holds files that no harvest made",
                facts={"found": ", ".join(found[:6])},
                fix=f"--harvest {self.folder / 'harvest'}",
            )

    def _read_state(self, path: Path) -> dict[str, Any]:
        try:
            state = parse_json(path.read_text("utf-8"))
            classes, schema = tuple(state["classes"]), int(state["schema"])
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise UsageError(
                f"{path} cannot be read", facts={"found": str(error)}, fix="--harvest ANOTHER/"
            ) from error
        if schema > SCHEMA:
            raise UsageError(
                f"{path} is of a newer segedge",
                facts={"found": f"schema {schema}", "expected": f"at most {SCHEMA}"},
                fix="pip install --upgrade segedge",
            )
        if classes != self.classes:
            raise UsageError(
                f"{self.folder} was harvested with other classes",
                facts={"found": ", ".join(classes), "model": ", ".join(self.classes)},
                fix="--harvest ANOTHER/",
            )
        return dict(state)

    def _read_manifest(self) -> None:
        """The entries whose files are there; those whose labels were changed are marked."""
        manifest = self.folder / MANIFEST
        lines = manifest.read_text("utf-8").splitlines() if manifest.exists() else []
        lost = 0
        for line in lines:
            entry = Entry.of_line(line)
            if entry is None:
                continue
            try:
                label_bytes = self._label(entry).stat().st_size
                self._image(entry).stat()
            except OSError:
                lost += 1
                continue
            entry.edited = label_bytes != entry.label_bytes
            self.entries.append(entry)
        edited = sum(entry.edited for entry in self.entries)
        if lost:
            self.notes.append(f"{lost} kept frames are no longer in {self.folder}")
        if edited:
            self.notes.append(f"{edited} frames whose labels were edited stay whatever comes")

    def _sweep(self) -> None:
        """Remove what a run that was killed left: files of ours that no line tells of."""
        known = {self._image(e).name for e in self.entries} | {
            self._label(e).name for e in self.entries
        }
        for name in ("images", "labels"):
            (self.folder / name).mkdir(exist_ok=True)
            for path in (self.folder / name).iterdir():
                if path.name not in known and _OURS.fullmatch(path.name):
                    with suppress(OSError):
                        path.unlink()

    def _trim(self) -> None:
        """Drop the least worth where the budget is smaller than it was."""
        count = len(self.entries)
        for entry in sorted(self.entries, key=lambda e: e.score):
            if self.bytes_used <= self.budget_bytes:
                break
            if not entry.edited:
                self.entries.remove(entry)
                self._unlink(entry)
        if len(self.entries) < count:
            (self.folder / ARCHIVE).unlink(missing_ok=True)
            self._write_manifest()
            self.notes.append(f"{count - len(self.entries)} frames dropped: the budget is smaller")

    def _like(self, dhash: int) -> list[Entry]:
        """The entries of the same picture."""
        hashes = np.array([entry.hash for entry in self.entries], np.uint64)
        near: NDArray[np.intp] = np.flatnonzero(distances(hashes, dhash) <= self._distance)
        return [self.entries[n] for n in near]

    def _least_worth(
        self, needed: int, going: Sequence[Entry], score: float, rate: Rate
    ) -> list[Entry]:
        """What must go for a frame to fit, beside what goes anyway; only what is worth less."""
        excess = self.bytes_used - sum(map(_cost, going)) + needed - self.budget_bytes
        if excess <= 0:
            return []
        for entry in self.entries:
            entry.score = round(rate(entry), 3)
        gone = {id(entry) for entry in going}
        chosen: list[Entry] = []
        for entry in sorted(self.entries, key=lambda e: e.score):
            if excess <= 0 or entry.score >= score:
                break
            if id(entry) not in gone and not entry.edited:
                chosen.append(entry)
                excess -= _cost(entry)
        return chosen if excess <= 0 else []

    def _image(self, entry: Entry) -> Path:
        return self.folder / "images" / f"{entry.name}.jpg"

    def _label(self, entry: Entry) -> Path:
        return self.folder / "labels" / f"{entry.name}.png"

    def _unlink(self, entry: Entry) -> None:
        self._image(entry).unlink(missing_ok=True)
        self._label(entry).unlink(missing_ok=True)

    def _append(self, entry: Entry) -> None:
        path = self.folder / MANIFEST
        size = path.stat().st_size if path.exists() else 0
        try:
            with path.open("a", encoding="utf-8") as file:
                file.write(entry.line())
        except OSError:
            with suppress(OSError), path.open("r+b") as file:
                file.truncate(size)
            self._unlink(entry)
            raise

    def _write_manifest(self) -> None:
        lines = "".join(entry.line() for entry in self.entries)
        replace_file(self.folder / MANIFEST, lines.encode())

    def _unlock(self) -> None:
        self._lock.close()


def _cost(entry: Entry) -> int:
    """What an entry takes on the disk: its files, its line, and its labels in the archive."""
    line = len(entry.line().encode())
    return entry.image_bytes + 2 * entry.label_bytes + ENTRY_BYTES + line


def used_text(store: Store) -> str:
    """``4.1 of 500.0 MB``."""
    return f"{megabytes(store.bytes_used).removesuffix(' MB')} of {megabytes(store.budget_bytes)}"

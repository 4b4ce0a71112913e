"""The archive's books: its manifest, which shards are finished, what failed.

DIR/manifest.json       model, version and options: what every later run must have too
DIR/plan.jsonl          the sources with their names and cuts
DIR/masks/NAME/*.png    DIR/overlays/NAME/*.jpg
DIR/shards/ID.parquet   facts of a shard's frames
DIR/shards/ID.json      written last: this shard is finished
DIR/frames.parquet      all facts, made of the finished shards at the end
DIR/failures.jsonl      what failed, a line each
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from segedge.batch.options import SCHEMA, Job
from segedge.batch.plan import Planned
from segedge.batch.store import Store
from segedge.card.plain import from_plain, parse_json
from segedge.errors import UsageError
from segedge.frames.protocols import SourceFailure

MANIFEST, PLAN, FAILURES, TABLE = "manifest.json", "plan.jsonl", "failures.jsonl", "frames.parquet"
SHARDS, MASKS, OVERLAYS = "shards", "masks", "overlays"
"""Folders of the archive."""
_READERS = 16
"""Commit marks that are read side by side."""


@dataclass(frozen=True)
class Done:
    """A finished shard."""

    shard_id: str
    frames: int
    """How many were written."""
    failures: tuple[SourceFailure, ...] = ()
    """What of it could not be read; it is finished nevertheless."""
    seconds: float = 0.0
    """What it took."""
    worker: str = ""
    """Who did it: host and process."""
    motion: dict[str, Any] | None = None
    """Of a video whose network saw some frames: how many, and how far carried labels agree with
    its own; see `MotionSummary.to_dict`."""

    def to_json(self) -> bytes:
        """The commit mark."""
        failures = [{"source": f.name, "reason": f.reason} for f in self.failures]
        return json.dumps({**vars(self), "failures": failures}).encode()

    @classmethod
    def of(cls, data: bytes) -> Done:
        """From a commit mark; ValueError where it is damaged."""
        values = parse_json(data)
        try:
            failures = [SourceFailure(f["source"], f["reason"]) for f in values.pop("failures")]
            return from_plain(cls, {**values, "failures": failures})
        except (AttributeError, KeyError, TypeError) as error:
            raise ValueError(f"{type(error).__name__}: {error}") from error


def manifest_of(job: Job) -> dict[str, Any]:
    """What must stay the same over all runs into one archive."""
    return {
        "schema": SCHEMA,
        "kind": "segedge batch",
        "version": job.version,
        "model": job.model.name,
        "model_sha256": job.model_sha256,
        "classes": list(job.classes),
        "options": job.options.to_dict(),
    }


def open_archive(store: Store, manifest: Mapping[str, Any]) -> bool:
    """Begin an archive, or go on with one of the same manifest; whether it was there before."""
    data = store.read(MANIFEST)
    if data is None:
        store.write(MANIFEST, json.dumps(manifest, indent=2).encode() + b"\n")
        return False
    try:
        found = parse_json(data)
        differences = dict(_differences(found, manifest))
    except (ValueError, AttributeError, TypeError) as error:
        raise UsageError(
            f"{store}/{MANIFEST} is damaged", facts={"found": str(error)}, fix="--out ANOTHER"
        ) from error
    if differences:
        raise UsageError(
            f"{store} was begun with {' and '.join(_kinds(differences))}",
            facts=differences,
            fix="go on with what it was begun with, or choose another --out",
        )
    return True


def _differences(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    """Label to "there ..., now ..."."""
    for key in ("schema", "version"):
        if found.get(key) != wanted[key]:
            yield key, f"there {found.get(key)}, now {wanted[key]}"
    if found.get("model_sha256") != wanted["model_sha256"]:
        before, now = (
            f"{m.get('model')} ({str(m.get('model_sha256'))[:12]})" for m in (found, wanted)
        )
        yield "model", f"there {before}, now {now}"
    old, new = found.get("options") or {}, wanted["options"]
    for name in sorted({*old, *new}):
        if old.get(name) != new.get(name):
            yield name, f"there {_text(old.get(name))}, now {_text(new.get(name))}"


def _kinds(differences: Mapping[str, str]) -> list[str]:
    heads = [key for key in ("model", "version", "schema") if key in differences]
    others = ["other options"] if len(heads) < len(differences) else []
    return [f"another {head}" for head in heads] + others


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def marked(store: Store, wanted: Sequence[str]) -> list[str]:
    """Those of the wanted shards that are finished, in order; no mark is read."""
    there = set(store.names(SHARDS, ".json")) if wanted else set()
    return [shard_id for shard_id in wanted if f"{shard_id}.json" in there]


def finished(store: Store, wanted: Sequence[str]) -> dict[str, Done]:
    """Those of the wanted shards that are finished, by their ids."""
    names = marked(store, wanted)
    with ThreadPoolExecutor(_READERS) as pool:
        marks = pool.map(lambda name: store.read(f"{SHARDS}/{name}.json"), names)
        return {
            name: _done(store, name, mark)
            for name, mark in zip(names, marks, strict=True)
            if mark is not None
        }


def _done(store: Store, name: str, mark: bytes) -> Done:
    try:
        return Done.of(mark)
    except ValueError as error:
        path = f"{store}/{SHARDS}/{name}.json"
        raise UsageError(
            f"{path} is damaged",
            facts={"found": str(error)},
            fix=f"rm {path}: its frames are done again",
        ) from error


def forget(store: Store, source: Planned) -> None:
    """Take away what was made of a video that has changed since: its marks first.

    Other frames come under the same names; if the old file came back, marks that were left would
    call them its own.
    """
    for shard_id in source.shards:
        store.remove(f"{SHARDS}/{shard_id}.json")
    for kind, suffix in ((MASKS, ".png"), (OVERLAYS, ".jpg")):
        folder = f"{kind}/{source.name}"
        for name in store.names(folder, suffix):
            store.remove(f"{folder}/{name}")
    for shard_id in source.shards:
        store.remove(f"{SHARDS}/{shard_id}.parquet")


def read_failures(store: Store) -> list[dict[str, Any]]:
    """What `write_failures` wrote; none where there is no file."""
    data = store.read(FAILURES) or b""
    found: list[dict[str, Any]] = []
    for line in data.decode("utf-8", "replace").splitlines():
        with suppress(ValueError):
            found.append(parse_json(line))
    return found


def write_failures(store: Store, failures: Sequence[Mapping[str, Any]]) -> None:
    """Write ``failures.jsonl`` anew; an empty file says that nothing failed."""
    lines = (json.dumps(failure, ensure_ascii=False) for failure in failures)
    store.write(FAILURES, "".join(f"{line}\n" for line in lines).encode("utf-8", "replace"))

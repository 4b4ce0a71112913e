"""The table: facts of every frame, as Parquet."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from segedge.batch.ledger import SHARDS, TABLE
from segedge.batch.plan import Shard
from segedge.batch.store import Store
from segedge.card.geometry import Size
from segedge.cpu.regions.clean import RegionFinder
from segedge.cpu.workers import Workers
from segedge.errors import SourceError
from segedge.frames.closing import check_takes
from segedge.frames.frame import Frame
from segedge.frames.protocols import ResultView
from segedge.machine.optional import require
from segedge.segment.drawing import MEAN

_GROUP_ROWS = 65_536
"""Rows of a row group: parts of a shard are put together up to this."""


class FactsSink:
    """Collects a row a frame; a Sink."""

    def __init__(
        self, shard: Shard, *, model_sha256: str, confidence: bool = True, threads: int = 1
    ) -> None:
        """Begin a shard's rows; ``confidence``: whether that column is filled."""
        self._needs_confidence = confidence
        self.needs = facts_needs(confidence)
        self.paths: Sequence[Any] = ()
        self.notes: Sequence[str] = ()
        self.rows: list[dict[str, Any]] = []
        self._shard, self._model = shard, model_sha256
        self._workers = Workers(threads)
        self._finders: dict[Size, RegionFinder] = {}
        self._is_closed = False

    def write(self, frame: Frame, result: ResultView) -> None:
        """Add a row."""
        check_takes(not self._is_closed, f"the table of {self._shard.label}")
        with frame.times.measure("facts"):
            self.rows.append(self._row(frame, result))

    def close(self, *, error: bool = False) -> None:
        """End the threads."""
        self._is_closed = True
        self._workers.close()

    def _row(self, frame: Frame, result: ResultView) -> dict[str, Any]:
        shard, position = self._shard, frame.index - self._shard.first_index
        is_image = shard.kind == "images"
        labels = result.labels
        confidence: float | None = None
        if self._needs_confidence:
            confidence = result.mean_confidence  # type: ignore[attr-defined]
        return {
            "source": shard.paths[position if is_image else 0],
            "name": shard.source,
            "file": stem_of(shard, frame.index),
            "frame": frame.index,
            "pts_seconds": frame.pts_seconds,
            "height": labels.shape[0],
            "width": labels.shape[1],
            "confidence": confidence,
            "model": self._model,
            "shard": shard.shard_id,
            **{f"pixels_{name}": int(n) for name, n in result.class_pixels.items()},
            **self._regions(labels, result.classes),
        }

    def _regions(self, labels: NDArray[Any], classes: Sequence[str]) -> dict[str, int]:
        """Connected regions of each class: pixels of one share a side."""
        size = Size(*labels.shape)
        if size not in self._finders:
            self._finders[size] = RegionFinder(size, workers=self._workers)
        counts = self._finders[size].count_by_label(labels, len(classes))
        named = {f"regions_{n}": int(c) for n, c in zip(classes, counts, strict=True)}
        return {"regions": int(counts.sum()), **named}


def facts_needs(confidence: bool) -> frozenset[str]:
    """What a row is made of, in the words of `segedge.segment.drawing.checked_outputs`."""
    return frozenset({"labels", "class_pixels"} | ({MEAN} if confidence else set()))


def stem_of(shard: Shard, index: int) -> str:
    """Name of a frame's files, as `segedge run` gives it."""
    if shard.kind == "images":
        return shard.stems[index - shard.first_index]
    return f"{index:06d}"


def schema_of(classes: Sequence[str]) -> Any:
    """The table's Arrow schema for a model's classes."""
    pa = require("pyarrow", purpose="write the table of facts")
    head = [
        ("source", pa.string()),
        ("name", pa.string()),
        ("file", pa.string()),
        ("frame", pa.int64()),
        ("pts_seconds", pa.float64()),
        ("height", pa.int32()),
        ("width", pa.int32()),
        ("confidence", pa.float32()),
        ("model", pa.string()),
        ("shard", pa.string()),
    ]
    pixels = [(f"pixels_{name}", pa.int64()) for name in classes]
    regions = [("regions", pa.int32()), *((f"regions_{name}", pa.int32()) for name in classes)]
    return pa.schema([*head, *pixels, *regions])


def encode_rows(rows: Sequence[dict[str, Any]], classes: Sequence[str]) -> bytes:
    """A Parquet file of rows."""
    pa = require("pyarrow", purpose="write the table of facts")
    parquet = require("pyarrow.parquet", purpose="write the table of facts")
    buffer = io.BytesIO()
    parquet.write_table(pa.Table.from_pylist(list(rows), schema_of(classes)), buffer)
    return buffer.getvalue()


def merge_parts(store: Store, shards: Sequence[str], classes: Sequence[str]) -> int:
    """Make ``frames.parquet`` of the shards' parts, in the given order; the number of rows."""
    pa = require("pyarrow", purpose="write the table of facts")
    parquet = require("pyarrow.parquet", purpose="write the table of facts")
    rows = 0
    with store.staging() as folder:
        path = folder / TABLE
        with parquet.ParquetWriter(path, schema_of(classes)) as writer:
            waiting: list[Any] = []
            for shard_id in shards:
                waiting.append(_part(store, shard_id))
                rows += waiting[-1].num_rows
                if sum(part.num_rows for part in waiting) >= _GROUP_ROWS:
                    writer.write_table(pa.concat_tables(waiting))
                    waiting.clear()
            if waiting:
                writer.write_table(pa.concat_tables(waiting))
        store.publish(path, TABLE)
    return rows


def _part(store: Store, shard_id: str) -> Any:
    pa = require("pyarrow", purpose="write the table of facts")
    parquet = require("pyarrow.parquet", purpose="write the table of facts")
    name = f"{SHARDS}/{shard_id}.parquet"
    data = store.read(name)
    try:
        if data is None:
            raise ValueError("it is not there")
        return parquet.read_table(io.BytesIO(data))
    except (ValueError, OSError, pa.ArrowException) as error:
        raise SourceError(
            f"the facts of a shard are lost: {store}/{name}",
            facts={"found": str(error)},
            fix=f"delete {SHARDS}/{shard_id}.json too: it is done again",
        ) from error

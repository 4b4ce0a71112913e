"""Videos, archives of them that are made in this process, and what is in those."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from segedge.batch.local import LocalPool, do_shard
from segedge.batch.options import BatchOptions, Job
from segedge.batch.plan import Shard
from segedge.batch.pool import Event, Failed, Finished, Lost, Started
from segedge.batch.run import BatchReport, run_batch
from segedge.batch.work import Worker
from tests.video.video_clips import write_clip

OPTIONS = BatchOptions(shard_frames=6, backend="onnxruntime")


def moving(count: int, *, seed: int = 0, height: int = 48, width: int = 64) -> list[NDArray]:
    """Images with a bright square on its way through noise."""
    random = np.random.default_rng(seed)
    ground = random.integers(0, 90, (height, width, 3), np.uint8)
    images = []
    for index in range(count):
        image = ground.copy()
        x, y = (index * 3) % (width - 16), (index * 2) % (height - 16)
        image[y : y + 16, x : x + 16] = 230
        images.append(image)
    return images


def write_video(
    path: Path, images: list[NDArray], *, key_every: int, b_frames: int = 2, options: str = ""
) -> Path:
    """H.264 with key frames every so many frames."""
    parameters = f"keyint={key_every}:min-keyint=1:scenecut=0:bframes={b_frames}"
    parameters += f":{options}" if options else ""
    return write_clip(path, images, options={"x264-params": parameters})


def files_below(folder: Path) -> dict[str, bytes]:
    """Relative name to bytes of every file."""
    found = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(found)}


class HerePool:
    """A worker in this process."""

    workers = 1

    def __init__(self, job: Job) -> None:
        self._worker = Worker(job)
        self._shard: Shard | None = None
        self.given: list[str] = []
        self._said = False

    @property
    def free(self) -> int:
        return int(self._shard is None)

    def give(self, shard: Shard) -> None:
        self._shard = shard
        self.given.append(shard.label)

    def wait(self) -> Sequence[Event]:
        events: list[Event] = []
        if not self._said:
            self._said = True
            events.append(Started("here", "here"))
        shard, self._shard = self._shard, None
        return [*events, *([] if shard is None else [self._do(shard)])]

    def _do(self, shard: Shard) -> Event:
        kind, *values = do_shard(self._worker, shard, None)
        return Finished(shard, values[0]) if kind == "done" else Failed(shard, *values)

    def close(self) -> None:
        self._worker.close()


class CrashingPool(HerePool):
    """Loses its worker whenever it does a shard of this source."""

    bad = "drives/short"

    def _do(self, shard: Shard) -> Event:
        if shard.source == self.bad:
            return Lost(shard, "its worker was ended by SIGSEGV")
        return super()._do(shard)


def archive(model: Path, inputs: Path, out: Path | str, **changes: Any) -> BatchReport:
    arguments: dict[str, Any] = {"options": OPTIONS, "make_pool": HerePool, **changes}
    return run_batch(model, [str(inputs)], str(out), **arguments)


def rows(out: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pq.read_table(out / "frames.parquet").to_pylist()
    return found


def failures(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "failures.jsonl").read_text().splitlines()]


def local_one(job: Job) -> LocalPool:
    return LocalPool(job, workers=1)

"""Workers that die, runs that are interrupted, parts that are lost: nothing is doubled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from segedge.batch.options import Job
from segedge.batch.plan import Shard
from segedge.batch.pool import Event, Finished, Lost
from segedge.batch.store import LocalStore
from segedge.errors import BackendError, SinkError, SourceError, UsageError
from tests.batch.archives import (
    OPTIONS,
    CrashingPool,
    HerePool,
    archive,
    failures,
    files_below,
    local_one,
)
from tests.small_model import write_model


def test_an_interrupted_run_goes_on(model: Path, inputs: Path, tmp_path: Path) -> None:
    class Broken(HerePool):
        def _do(self, shard: Shard) -> Event:
            if len(self.given) == 4:
                raise KeyboardInterrupt
            return super()._do(shard)

    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        archive(model, inputs, out, make_pool=Broken)
    assert not (out / "frames.parquet").exists()
    assert not [name for name in files_below(out) if name.startswith((".parts", ".segedge"))]
    pools: list[HerePool] = []

    def pool(job: Job) -> HerePool:
        pools.append(HerePool(job))
        return pools[0]

    report = archive(model, inputs, out, make_pool=pool)
    assert (report.shards_before, report.shards_done, report.rows) == (3, 5, 49)
    assert len(pools[0].given) == 5


def test_a_mark_without_a_message_counts(model: Path, inputs: Path, tmp_path: Path) -> None:
    """A worker that is lost after its mark has done its shard."""

    class LostAfter(HerePool):
        def _do(self, shard: Shard) -> Event:
            assert isinstance(super()._do(shard), Finished)
            return Lost(shard, "killed")

    report = archive(model, inputs / "stills", tmp_path / "out", make_pool=LostAfter)
    assert (report.shards_done, report.frames, report.workers_lost) == (1, 5, 1)


def test_a_shard_that_kills_its_workers_is_given_up(
    model: Path, inputs: Path, tmp_path: Path
) -> None:
    notes: list[str] = []
    out = tmp_path / "out"
    report = archive(model, inputs, out, make_pool=CrashingPool, tries=2, on_note=notes.append)
    assert (report.shards_given_up, report.rows, report.workers_lost) == (1, 41, 2)
    assert failures(out) == [
        {
            "source": str(inputs / "short.mp4"),
            "reason": "its worker was ended by SIGSEGV",
            "shard": "drives/short",
            "tries": 2,
        }
    ]
    assert notes[0].endswith("again (1 of 2 tries)")
    assert notes[1].endswith("given up after 2 tries")
    report = archive(model, inputs, out)  # the next run tries it again
    assert (report.shards_done, report.rows, report.failures) == (1, 49, ())
    assert failures(out) == []


def test_workers_that_cannot_start_end_the_run(model: Path, inputs: Path, tmp_path: Path) -> None:
    class Dying(HerePool):
        free = 0

        def wait(self) -> Sequence[Event]:
            return [Lost(None, "its worker ended with code 1", had_started=False)]

    with pytest.raises(BackendError, match="3 workers in a row"):
        archive(model, inputs, tmp_path / "out", make_pool=Dying)
    bad = replace(OPTIONS, backend="onnxruntim")
    with pytest.raises(UsageError, match="no backend 'onnxruntim'"):
        archive(model, inputs, tmp_path / "b", options=bad, make_pool=local_one)


def test_two_runs_at_once_are_refused(model: Path, inputs: Path, tmp_path: Path) -> None:
    with (
        LocalStore(tmp_path / "out").lock(),
        pytest.raises(SinkError, match="another run is at work"),
    ):
        archive(model, inputs, tmp_path / "out")


def test_a_place_that_is_not_shared_is_told(model: Path, inputs: Path, tmp_path: Path) -> None:
    def elsewhere(job: Job) -> HerePool:
        return HerePool(replace(job, out=str(tmp_path / "another")))

    with pytest.raises(SinkError, match="does not see"):
        archive(model, inputs, tmp_path / "out", make_pool=elsewhere)

    def older(job: Job) -> HerePool:
        return HerePool(replace(job, version="0.0.1"))

    with pytest.raises(UsageError, match="another version of segedge"):
        archive(model, inputs, tmp_path / "out", make_pool=older)

    def swapped(job: Job) -> HerePool:
        return HerePool(replace(job, model=write_model(tmp_path / "swapped.onnx", opset=18)))

    with pytest.raises(UsageError, match="another model under the name"):
        archive(model, inputs, tmp_path / "out", make_pool=swapped)


def test_a_lost_part_is_told(model: Path, inputs: Path, tmp_path: Path) -> None:
    archive(model, inputs / "stills", tmp_path / "out")
    part = next((tmp_path / "out" / "shards").glob("*.parquet"))
    part.write_bytes(b"PAR1")
    with pytest.raises(SourceError, match="facts of a shard are lost"):
        archive(model, inputs / "stills", tmp_path / "out")

"""Archives on this machine: the same masks as `segedge run`, resumed, refused, with bad files."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import pyarrow.parquet as pq
import pytest

from segedge.batch.ledger import Done
from segedge.batch.local import LocalPool, do_shard, usual_workers
from segedge.batch.options import BatchOptions, Job, model_hash
from segedge.batch.plan import Shard
from segedge.batch.pool import Event, Failed, Finished, Lost, Started
from segedge.batch.run import BatchReport, run_batch
from segedge.batch.store import LocalStore
from segedge.batch.work import Worker
from segedge.errors import BackendError, ModelError, SinkError, SourceError, UsageError
from segedge.options.motion import Motion
from tests.batch.conftest import files_below, moving, write_video
from tests.small_model import run_verb, write_model

OPTIONS = BatchOptions(shard_frames=6, backend="onnxruntime")


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


@pytest.fixture(scope="module")
def whole(model: Path, inputs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The archive of `inputs`, by the command with two worker processes."""
    out = tmp_path_factory.mktemp("whole") / "out"
    done = run_verb(
        "batch", model, inputs, "-o", out, "--shard", 6, "--overlays", "--workers", 2,
        "--backend", "onnxruntime", "--json",
    )  # fmt: skip
    report = json.loads(done.stdout)
    assert (report["frames"], report["rows"], report["shards"], report["workers"]) == (49, 49, 8, 2)
    assert report["failures"] == []
    return out


def test_the_same_files_as_run(whole: Path, model: Path, inputs: Path, tmp_path: Path) -> None:
    sources = [inputs / name for name in ("long.mp4", "short.mp4", "stills")]
    for kind, words in (("masks", ["--masks", "palette"]), ("overlays", [])):
        target = tmp_path / kind / "{name}"
        run_verb("run", model, *sources, "-o", f"{target}/", *words, "--backend", "onnxruntime")
        assert files_below(whole / kind / "drives") == files_below(tmp_path / kind)
    assert set(files_below(whole / "masks" / "drives" / "stills")) == {
        f"{number}.png" for number in range(7, 12)
    }
    assert not (whole / ".parts").exists()


def test_the_table(whole: Path, model: Path, inputs: Path) -> None:
    table = rows(whole)
    assert [(row["name"], row["frame"]) for row in table] == [
        *(("drives/long", n) for n in range(36)),
        *(("drives/short", n) for n in range(8)),
        *(("drives/stills", n) for n in range(5)),
    ]
    assert [row["pts_seconds"] for row in table[:3]] == [0.0, 0.04, 0.08]
    still = table[-1]
    assert still["pts_seconds"] is None
    assert (still["source"], still["file"]) == (str(inputs / "stills" / "11.png"), "11")
    for row in table:
        assert row["pixels_dark"] + row["pixels_bright"] == row["height"] * row["width"] == 48 * 64
        assert row["regions"] == row["regions_dark"] + row["regions_bright"] >= 1
        assert 0.5 <= row["confidence"] <= 1.0
        assert row["model"] == model_hash(model)


def test_facts_are_those_of_the_result(whole: Path, model: Path, inputs: Path) -> None:
    from segedge.segment.load import load
    from segedge.video.sources.file import VideoFile

    by_frame = {row["frame"]: row for row in rows(whole) if row["name"] == "drives/short"}
    with load(model, backend="onnxruntime") as segmenter:
        for frame in VideoFile(inputs / "short.mp4").frames():
            result, row = segmenter(frame), by_frame[frame.index]
            assert row["pixels_bright"] == result.class_pixels["bright"]
            assert row["confidence"] == pytest.approx(result.confidence.mean(), abs=1e-6)
            regions = [region.class_name for region in result.regions()]
            assert (row["regions"], row["regions_dark"]) == (len(regions), regions.count("dark"))


def test_nothing_is_done_again(whole: Path, model: Path, inputs: Path) -> None:
    before = files_below(whole)
    report = archive(model, inputs, whole, options=replace(OPTIONS, overlays=True))
    assert (report.shards_before, report.shards_done, report.workers) == (8, 0, 0)
    assert files_below(whole).keys() == before.keys()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"shard_frames": 7}, "there 6, now 7"),
        ({"overlays": False}, "there true, now false"),
        ({"masks": "labels"}, "there palette, now labels"),
        (
            {"motion": Motion(every=4)},
            'there null, now {"every": 4, "source": "auto", "agreement": 0.97, "gap_seconds": 2.0,'
            ' "fuse": 0.0, "independent": true}',
        ),
    ],
)
def test_other_options_are_refused(
    whole: Path, model: Path, inputs: Path, changes: dict[str, Any], said: str
) -> None:
    options = replace(OPTIONS, **{"overlays": True, **changes})
    with pytest.raises(UsageError, match="was begun with other options") as refused:
        archive(model, inputs, whole, options=options)
    assert list(refused.value.facts.values()) == [said]


def test_another_model_is_refused(model: Path, inputs: Path, tmp_path: Path) -> None:
    archive(model, inputs / "stills", tmp_path / "out")
    other = write_model(tmp_path / "other.onnx", opset=18)
    with pytest.raises(UsageError, match="another model") as refused:
        archive(other, inputs / "stills", tmp_path / "out")
    assert model_hash(model)[:12] in refused.value.facts["model"]
    assert model_hash(other)[:12] in refused.value.facts["model"]
    manifest = tmp_path / "out" / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"version": "', '"version": "9.'))
    with pytest.raises(UsageError, match="another version"):
        archive(model, inputs / "stills", tmp_path / "out")
    manifest.write_text("[")
    with pytest.raises(UsageError, match="damaged"):
        archive(model, inputs / "stills", tmp_path / "out")


def test_a_killed_worker_loses_and_doubles_nothing(
    whole: Path, model: Path, inputs: Path, tmp_path: Path
) -> None:
    """kill -9 while shards are in work: they are done again, by others."""
    pools: list[LocalPool] = []
    killed: list[int] = []
    notes: list[str] = []

    class Killed(LocalPool):
        def give(self, shard: Shard) -> None:
            super().give(shard)
            if len(killed) < 2 and shard.source == "drives/long":
                child = next(c for c in self._children if c.shard is shard)
                killed.append(child.process.pid)
                os.kill(child.process.pid, signal.SIGKILL)

    def pool(job: Job) -> LocalPool:
        pools.append(Killed(job, workers=2))
        return pools[0]

    options = replace(OPTIONS, overlays=True)
    out = tmp_path / "out"
    report = archive(model, inputs, out, options=options, make_pool=pool, on_note=notes.append)
    assert (report.workers_lost, report.frames, report.shards_given_up) == (2, 49, 0)
    assert len(notes) == 2
    assert "SIGKILL" in notes[0]
    assert killed[0] not in pools[0].pids()
    skipped = ("shards/", "plan", "manifest", ".lock")
    mine, theirs = (
        {k: v for k, v in files_below(folder).items() if not k.startswith(skipped)}
        for folder in (out, whole)
    )
    assert mine == theirs


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


def local_one(job: Job) -> LocalPool:
    return LocalPool(job, workers=1)


def test_bad_files_are_named_and_the_rest_goes_on(model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    write_video(folder / "good.mp4", moving(8), key_every=4)
    data = (folder / "good.mp4").read_bytes()
    (folder / "cut.mp4").write_bytes(data[:300])
    (folder / "empty.png").write_bytes(b"")
    (folder / "text.png").write_bytes(b"no image")
    (tmp_path / "list.txt").write_text(
        "\ufeff# drives\r\nin/good.mp4\r\nin/gone.mp4\r\nin/cut.mp4\r\n"
    )
    done = run_verb(
        "batch", model, tmp_path / "list.txt", folder, "-o", tmp_path / "out", "--workers", 1,
        "--shard", 100, "--backend", "onnxruntime", code=1,
    )  # fmt: skip
    found = {Path(f["source"]).name: f["reason"] for f in failures(tmp_path / "out")}
    assert set(found) == {"gone.mp4", "cut.mp4", "empty.png", "text.png"}
    assert "not found (listed in list.txt, line 3)" in found["gone.mp4"]
    assert "empty file (0 bytes)" in found["empty.png"]
    assert "4 failures" in done.stdout
    assert "failed" in done.stdout
    assert [row["name"] for row in rows(tmp_path / "out")] == ["good"] * 8


def test_a_damaged_video_keeps_what_decodes(model: Path, tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.ts", moving(30), key_every=6)
    data = bytearray(path.read_bytes())
    path.write_bytes(data[: len(data) // 2])
    report = archive(model, path, tmp_path / "out")
    assert 0 < report.rows < 30
    frames = [row["frame"] for row in rows(tmp_path / "out")]
    assert frames == sorted(set(frames))


def test_outputs_are_not_inputs(model: Path, inputs: Path, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for path in (inputs / "stills").iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    assert archive(model, folder, folder / "out").rows == 5
    assert archive(model, folder, folder / "out").rows == 5
    with pytest.raises(UsageError, match="all inputs are outputs"):
        archive(model, folder / "out", folder / "out")


def test_an_archive_grows(model: Path, inputs: Path, tmp_path: Path) -> None:
    """More inputs: what was finished stays, and keeps its names."""
    folder = tmp_path / "in"
    (folder / "a").mkdir(parents=True)
    (folder / "a.mp4").write_bytes((inputs / "short.mp4").read_bytes())
    out = tmp_path / "out"
    assert archive(model, folder, out).rows == 8
    (folder / "a" / "7.png").write_bytes((inputs / "stills" / "7.png").read_bytes())
    (folder / "A.mkv").write_bytes((inputs / "short.mp4").read_bytes())
    report = archive(model, folder, out)
    assert (report.shards_before, report.shards_done, report.rows) == (1, 2, 17)
    assert {row["name"] for row in rows(out)} == {"in/a", "in/A-2", "in/a-2"} or {
        row["name"].casefold() for row in rows(out)
    } == {"in/a", "in/a-2", "in/a-3"}


def test_other_inputs_join_the_table(model: Path, tmp_path: Path) -> None:
    """What earlier runs made stays in the table, and what failed stays named until it is right."""
    first, second, out = tmp_path / "a", tmp_path / "b", tmp_path / "out"
    first.mkdir()
    second.mkdir()
    write_video(first / "x.mp4", moving(9), key_every=6)
    (first / "bad.png").write_bytes(b"")
    write_video(second / "y.mp4", moving(4), key_every=6)
    assert archive(model, first, out).rows == 9
    report = archive(model, second, out)
    assert (report.rows, report.frames, report.failures) == (13, 4, ())
    assert [row["name"] for row in rows(out)] == ["a/x"] * 9 + ["b/y"] * 4
    assert [f["source"] for f in failures(out)] == [str(first / "bad.png")]
    write_video(first / "x.mp4", moving(3), key_every=6)
    (first / "bad.png").write_bytes(cv2.imencode(".png", moving(1)[0])[1].tobytes())
    assert archive(model, first, out).rows == 4 + 4
    assert failures(out) == []


def test_a_replaced_video_leaves_nothing(model: Path, inputs: Path, tmp_path: Path) -> None:
    """A shorter video under the same name, and the old one back again."""
    video, out = tmp_path / "x.mp4", tmp_path / "out"
    old = (inputs / "long.mp4").read_bytes()
    video.write_bytes(old)
    times = video.stat()
    options = replace(OPTIONS, overlays=True)
    archive(model, video, out, options=options)
    before = files_below(out / "masks")
    write_video(video, moving(4, seed=3), key_every=6)
    assert archive(model, video, out, options=options).rows == 4
    for kind in ("masks", "overlays"):
        assert len(files_below(out / kind)) == 4
    assert len(files_below(out / "shards")) == 2
    video.write_bytes(old)
    os.utime(video, ns=(times.st_atime_ns, times.st_mtime_ns))
    report = archive(model, video, out, options=options)
    assert (report.shards_before, report.rows) == (0, 36)
    assert files_below(out / "masks") == before


def test_a_replaced_video_that_is_broken(model: Path, inputs: Path, tmp_path: Path) -> None:
    """What was made of the good one is kept."""
    video, out = tmp_path / "x.mp4", tmp_path / "out"
    video.write_bytes((inputs / "short.mp4").read_bytes())
    archive(model, video, out)
    video.write_bytes(b"not yet whole")
    report = archive(model, video, out)
    assert (report.rows, len(report.failures), len(files_below(out / "masks"))) == (8, 1, 8)


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


def test_a_strict_archive_wants_a_proof(model: Path, inputs: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot be checked"):
        archive(model, inputs, tmp_path / "out", strict=True)
    assert archive(model, inputs, tmp_path / "out", check=False).frames


def test_wrong_words(model: Path, inputs: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(SourceError, match="did you mean"):
        archive(model, inputs.parent / "drive", out)
    with pytest.raises(UsageError, match="is a stream"):
        run_batch(model, ["rtsp://camera/1"], str(out))
    with pytest.raises(UsageError, match="takes a model file"):
        run_batch("grpc://host:8001/model", [str(inputs)], str(out))
    with pytest.raises(SourceError, match="no video or image in"):
        archive(model, tmp_path, out)
    with pytest.raises(SourceError, match="of no known kind"):
        archive(model, model, out)
    with pytest.raises(UsageError, match="no input"):
        run_batch(model, [], str(out))
    with pytest.raises(UsageError, match="no masks 'pink'"):
        BatchOptions(masks="pink")  # type: ignore[arg-type]
    assert not out.exists()


def test_videos_may_be_carried_by_motion(model: Path, inputs: Path, tmp_path: Path) -> None:
    """Each shard begins anew; images go through the network one by one."""
    out = tmp_path / "out"
    words = ("batch", model, inputs, "-o", out, "--shard", 6, "--backend", "onnxruntime")
    every = ("--every", 3, "--motion", "codec", "--workers", 1)
    first = run_verb(*words, *every)
    said = " ".join(first.stdout.split())
    assert "motion network 22 of 44 frames; carried labels agree " in said, (
        "3 of 6, 6 times; 4 of 8"
    )
    again = json.loads(run_verb(*words, *every, "--json").stdout)
    assert (again["shards_done"], again["shards_before"]) == (0, 8)
    assert (again["motion"]["frames"], again["motion"]["network_frames"]) == (44, 22)
    asked, answered = again["motion"]["codec_asked"], again["motion"]["codec_answered"]
    assert asked == 37
    assert answered == 37  # frame threads would lose one in some runs: see findings/
    assert "the codec gives none" not in said
    assert len(rows(out)) == 49
    refused = run_verb(*words, "--every", 2, code=2).stderr
    assert "was begun with other options" in refused
    assert "motion" in refused


def test_motion_is_of_videos_and_logits(model: Path, inputs: Path, tmp_path: Path) -> None:
    common = ("batch", model, inputs, "-o", tmp_path / "out")
    cases: list[tuple[tuple[object, ...], str]] = [
        (("--every", 0), "every frame or every so many, found 0"),
        (("--every", 2, "--slide", "auto"), "sliding windows are not carried by motion"),
        (("--motion", "flow"), "--motion without --every"),
    ]
    for words, message in cases:
        assert message in run_verb(*common, *words, code=2).stderr
    stills = ("batch", model, inputs / "stills", "-o", tmp_path / "out", "--every", 2)
    said = " ".join(run_verb(*stills, code=2).stderr.split())
    assert "nothing moves from one to the next found 5 images, no video fix leave --every" in said
    assert not (tmp_path / "out").exists()


def test_a_lost_part_is_told(model: Path, inputs: Path, tmp_path: Path) -> None:
    archive(model, inputs / "stills", tmp_path / "out")
    part = next((tmp_path / "out" / "shards").glob("*.parquet"))
    part.write_bytes(b"PAR1")
    with pytest.raises(SourceError, match="facts of a shard are lost"):
        archive(model, inputs / "stills", tmp_path / "out")


def test_done_survives_json() -> None:
    from segedge.frames.protocols import SourceFailure

    done = Done("ab", 3, (SourceFailure("x.png", "bad"),), 1.5, "node:1", {"frames": 3})
    assert Done.of(done.to_json()) == done


def test_workers_by_cores_and_gpus() -> None:
    assert [usual_workers(cores, 0) for cores in (1, 2, 3, 16)] == [1, 1, 1, 8]
    assert usual_workers(16, 4) == 4

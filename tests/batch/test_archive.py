"""Archives on this machine: the same masks as `segedge run`, resumed, refused, with bad files."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from segedge.batch.ledger import Done
from segedge.batch.local import LocalPool, usual_workers
from segedge.batch.options import BatchOptions, Job, model_hash
from segedge.batch.plan import Shard
from segedge.batch.run import run_batch
from segedge.errors import ModelError, SourceError, UsageError
from segedge.options.motion import Motion
from tests.batch.archives import OPTIONS, archive, files_below, rows
from tests.small_model import run_verb, write_model


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


def test_done_survives_json() -> None:
    from segedge.frames.protocols import SourceFailure

    done = Done("ab", 3, (SourceFailure("x.png", "bad"),), 1.5, "node:1", {"frames": 3})
    assert Done.of(done.to_json()) == done


def test_workers_by_cores_and_gpus() -> None:
    assert [usual_workers(cores, 0) for cores in (1, 2, 3, 16)] == [1, 1, 1, 8]
    assert usual_workers(16, 4) == 4

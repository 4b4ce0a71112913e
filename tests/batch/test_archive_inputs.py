"""Inputs that are broken, damaged, replaced, or come later."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import cv2
import pytest

from segedge.errors import UsageError
from tests.batch.archives import OPTIONS, archive, failures, files_below, moving, rows, write_video
from tests.small_model import run_verb


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

"""`segedge run` and `segedge batch` on sources that break, and outputs that cannot be written."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from test_run import Run, model, segedge
from test_run_motion import SIZE, pan, write_pan

from tests.video.video_clips import write_clip

__all__ = ["model", "segedge"]  # fixtures

WHOLE = 12
"""Frames before the one that cannot be taken."""


def write_broken(path: Path) -> Path:
    """Two recordings joined, the second smaller: no frame of it can follow those of the first."""
    parts = []
    for number, (height, width) in enumerate((SIZE, (SIZE[0] // 2, SIZE[1] // 2))):
        part = path.with_suffix(f".{number}.ts")
        images = [np.ascontiguousarray(pan(index)[:height, :width]) for index in range(WHOLE)]
        write_clip(part, images, fps=10, options={})
        parts.append(part.read_bytes())
        part.unlink()
    path.write_bytes(b"".join(parts))
    return path


@pytest.mark.parametrize("every", [(), ("--every", "4")])
def test_all_frames_before_a_source_broke_are_written(
    segedge: Run, model: Path, tmp_path: Path, every: tuple[str, ...]
) -> None:
    clip = write_broken(tmp_path / "in.ts")
    options = ("--backend", "onnxruntime", *every)
    out = ("-o", "out.mp4", "-o", "facts.jsonl", "-o", "pictures/")
    done = segedge("run", model, clip, *options, *out, code=2)
    assert "changes size in mid-stream" in done.stderr
    assert f"the {WHOLE} frames written before" in done.stderr
    lines = [json.loads(line) for line in (tmp_path / "facts.jsonl").read_text().splitlines()]
    assert [line["index"] for line in lines] == list(range(WHOLE))
    assert len(list((tmp_path / "pictures").iterdir())) == WHOLE
    assert not (tmp_path / "out.mp4").exists()
    from segedge.video.sources.open import open_source

    kept = open_source(tmp_path / "out.partial.mp4")
    assert sum(1 for _ in kept.frames()) == WHOLE


def test_one_of_several_that_breaks_has_its_frames(
    segedge: Run, model: Path, tmp_path: Path
) -> None:
    write_broken(tmp_path / "bad.ts")
    write_pan(tmp_path / "good.mp4", frames=9)
    common = ("run", model, "bad.ts", "good.mp4", "--backend", "onnxruntime")
    done = segedge(*common, "-o", "all/", "--json", code=1)
    reports = json.loads(done.stdout)["sources"]
    assert [(report["read"], report["written"]) for report in reports] == [(WHOLE, WHOLE), (9, 9)]
    assert "changes size" in reports[0]["error"]


def test_an_archive_keeps_what_was_read_before_a_video_broke(
    segedge: Run, model: Path, tmp_path: Path
) -> None:
    pytest.importorskip("pyarrow", reason="pip install 'segedge[batch]'")
    pytest.importorskip("fsspec", reason="pip install 'segedge[batch]'")
    import pyarrow.parquet as pq

    write_broken(tmp_path / "in.ts")
    common = ("batch", model, "in.ts", "-o", "archive", "--backend", "onnxruntime")
    segedge(*common, "--workers", "1", code=1)
    (line,) = (tmp_path / "archive/failures.jsonl").read_text().splitlines()
    assert f"frame {WHOLE} is 64x48" in json.loads(line)["reason"]
    table = pq.read_table(tmp_path / "archive/frames.parquet")
    assert table["frame"].to_pylist() == list(range(WHOLE))
    assert len(list((tmp_path / "archive/masks").rglob("*.png"))) == WHOLE


def test_a_fault_of_ours_in_one_of_several_is_told(
    segedge: Run, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from segedge.video.sinks.json_lines import JsonLinesSink

    write_pan(tmp_path / "a.mp4", frames=3)
    write_pan(tmp_path / "b.mp4", frames=3)
    put = JsonLinesSink._put

    def fail(self: JsonLinesSink, line: bytes) -> None:
        if b"a.mp4" in line:
            raise RuntimeError("not foreseen")
        put(self, line)

    monkeypatch.setattr(JsonLinesSink, "_put", fail)
    common = ("run", model, "a.mp4", "b.mp4", "--backend", "onnxruntime")
    done = segedge(*common, "-o", "{name}.jsonl", code=1)
    assert "a.mp4 ended by an error\n  found  RuntimeError: not foreseen" in done.stderr
    assert (tmp_path / "b.jsonl").read_text().count("\n") == 3

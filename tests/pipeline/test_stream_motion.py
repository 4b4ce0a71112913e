"""`segedge.stream(motion=...)`: frames that the network sees, and those that it does not."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "cli"))
pytest.importorskip("onnxruntime")
pytest.importorskip("av")

from test_run import model
from test_run_motion import write_pan

import segedge

__all__ = ["model"]


def test_a_stream_with_motion(model: Path, tmp_path: Path) -> None:
    clip = write_pan(tmp_path / "in.mp4", frames=9)
    motion = segedge.Motion(every=4, source="codec")
    with segedge.stream(model, clip, backend="onnxruntime", motion=motion) as shown:
        notes = [frame.motion for frame, _ in shown]
        assert shown.motion is not None
        assert shown.motion.asked == 8
        assert shown.motion.answered > 4
    assert [note is not None and note.is_key for note in notes] == [n % 4 == 0 for n in range(9)]


def test_samples_tell_how_it_stands(model: Path, tmp_path: Path) -> None:
    clip = write_pan(tmp_path / "in.mp4", frames=9)
    samples: list[dict[str, Any]] = []
    with segedge.load(model, backend="onnxruntime", motion=segedge.Motion(every=4)) as segmenter:
        report = segedge.Pipeline(
            segedge.open_source(clip), segmenter, on_sample=samples.append
        ).run()
    told = samples[-1]["sources"][0]["motion"]
    assert (told["frames"], told["network_frames"]) == (9, 3)
    assert 0.5 < told["agreement"] <= 1.0
    assert report.motion is not None
    assert 0.0 < told["key_age_ms"] <= report.motion["oldest_key_ms"] + 0.1


def test_an_open_segmenter_brings_its_own(model: Path, tmp_path: Path) -> None:
    clip = write_pan(tmp_path / "in.mp4", frames=5)
    motion = segedge.Motion(every=2, source="codec")
    with segedge.load(model, backend="onnxruntime", motion=motion) as segmenter:
        with pytest.raises(segedge.SegedgeError, match="has its own motion"):
            segedge.stream(segmenter, clip, motion=motion)
        with segedge.stream(segmenter, clip) as shown:
            assert [frame.motion is not None for frame, _ in shown] == [True] * 5
            assert shown.motion is not None
            assert shown.motion.keys == 3
            assert shown.motion.asked == 4, "the source was asked for the codec's vectors"

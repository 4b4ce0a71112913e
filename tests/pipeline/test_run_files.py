"""The pipeline on real files: read, segmented by a stand-in, written, read back."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from segedge.errors import SinkError
from segedge.frames.frame import Frame
from segedge.frames.protocols import ResultView
from segedge.pipeline.runner import Pipeline
from segedge.video.memory import MemorySource
from segedge.video.sinks.open import open_sink
from segedge.video.sources.open import open_source

REAL_CLIP = Path(__file__).parents[3] / "shared/data/video/car-detection.mp4"
needs_clip = pytest.mark.skipif(
    not REAL_CLIP.exists(), reason=f"{REAL_CLIP} is absent: real data is not in the repository"
)


@dataclass
class Brightness:
    """Labels by brightness: dark, middle, bright."""

    frame: Frame
    palette_rgb: tuple[tuple[int, int, int], ...] = ((255, 0, 0), (0, 255, 0), (0, 0, 255))
    classes: tuple[str, ...] = ("dark", "middle", "bright")

    @property
    def labels(self) -> NDArray[Any]:
        return np.asarray(self.frame.image_hwc[..., 1] // 86, np.uint8)

    def wait(self) -> None:
        pass

    def overlay(self) -> NDArray[np.uint8]:
        table = np.zeros((1, 256, 3), np.uint8)
        table[0, : len(self.palette_rgb)] = np.array(self.palette_rgb)[:, ::-1]
        colors = cv2.LUT(cv2.merge([self.labels] * 3), table)
        return np.asarray(cv2.addWeighted(self.frame.image_hwc, 0.5, colors, 0.5, 0), np.uint8)


def segment(frame: Frame, *, outputs: frozenset[str]) -> ResultView:
    return Brightness(frame)


@needs_clip
def test_real_clip_to_video_and_masks(tmp_path: Path) -> None:
    source = open_source(REAL_CLIP)
    video = open_sink(tmp_path / "out.mp4", info=source.info)
    masks = open_sink(tmp_path / "masks", info=source.info, masks="palette")
    report = Pipeline(source, segment, [video, masks]).run()
    assert (report.read, report.written, report.dropped, report.failed) == (377, 377, 0, 0)
    assert report.paths == (tmp_path / "out.mp4", tmp_path / "masks")
    assert list(report.stages) == ["decode", "encode"]
    files = sorted(path.name for path in (tmp_path / "masks").iterdir())
    assert files == [f"{index:06d}.png" for index in range(377)]

    overlays = open_source(tmp_path / "out.mp4")
    assert overlays.info.fps == 12.5
    assert overlays.info.frame_count == 377
    for original, overlay in zip(open_source(REAL_CLIP).frames(), overlays.frames(), strict=True):
        assert overlay.pts_seconds == pytest.approx(original.pts_seconds, abs=1e-3)
        if original.index % 50 == 0:
            expected = Brightness(original)
            assert cv2.PSNR(overlay.image_hwc, expected.overlay()) > 24
            mask = cv2.imread(str(tmp_path / "masks" / files[original.index]))
            assert np.array_equal(
                mask[..., ::-1], np.array(expected.palette_rgb, np.uint8)[expected.labels]
            )


def test_interrupted_video_is_playable_under_its_name(tmp_path: Path) -> None:
    class Interrupted:
        def __call__(self, frame: Frame, *, outputs: frozenset[str]) -> ResultView:
            if frame.index == 20:
                raise KeyboardInterrupt
            return segment(frame, outputs=outputs)

    source = MemorySource([np.full((48, 64, 3), k, np.uint8) for k in range(100)], fps=10)
    sink = open_sink(tmp_path / "out.mp4", info=source.info)
    report = Pipeline(source, Interrupted(), [sink]).run()
    assert report.interrupted
    assert report.paths == (tmp_path / "out.mp4",)
    assert sum(1 for _ in open_source(tmp_path / "out.mp4").frames()) == 20
    assert len(list(tmp_path.iterdir())) == 1


def test_a_failing_network_leaves_no_file_under_the_name(tmp_path: Path) -> None:
    """The frames written until then are kept aside."""
    written = threading.Event()
    source = MemorySource([np.full((48, 64, 3), k, np.uint8) for k in range(100)], fps=10)
    sink = open_sink(tmp_path / "out.mp4", info=source.info)
    original = sink.write

    def write(frame: Frame, result: ResultView) -> None:
        original(frame, result)
        written.set()

    sink.write = write  # type: ignore[method-assign]

    def broken(frame: Frame, *, outputs: frozenset[str]) -> ResultView:
        if frame.index == 3:
            assert written.wait(20)
            raise RuntimeError("network")
        return segment(frame, outputs=outputs)

    pipeline = Pipeline(source, broken, [sink])
    with pytest.raises(RuntimeError, match="network"):
        pipeline.run()
    assert [path.name for path in tmp_path.iterdir()] == ["out.partial.mp4"]
    assert pipeline.report is not None
    assert pipeline.report.paths == (tmp_path / "out.partial.mp4",)


def test_folder_with_an_unreadable_image(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for index in range(4):
        cv2.imwrite(str(folder / f"{index}.png"), np.full((8, 9, 3), 60 * index, np.uint8))
    (folder / "2.png").write_bytes(b"junk")
    source = open_source(folder)
    sink = open_sink(tmp_path / "masks", info=source.info, masks="labels")
    report = Pipeline(source, segment, [sink]).run()
    assert (report.read, report.written) == (3, 3)
    assert [Path(failure.name).name for failure in report.failures] == ["2.png"]
    masks = {p.name: cv2.imread(str(p), 0)[0, 0] for p in (tmp_path / "masks").iterdir()}
    assert masks == {"0.png": 0, "1.png": 0, "3.png": 2}


def test_sink_error_comes_through(tmp_path: Path) -> None:
    source = MemorySource([np.zeros((8, 8, 3), np.uint8)] * 3)
    sink = open_sink(tmp_path / "a.png", info=open_source_info(1))
    with pytest.raises(SinkError, match="the source has more frames"):
        Pipeline(source, segment, [sink]).run()


def open_source_info(frames: int) -> Any:
    return MemorySource([np.zeros((8, 8, 3), np.uint8)] * frames).info

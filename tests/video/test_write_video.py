"""Overlay videos: what is written is what is read back, and never half a file under its name."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from video_clips import FakeResult, feed, gradient_images, noise_images

from segedge.errors import SinkError, UsageError
from segedge.frames.frame import Frame
from segedge.video.sinks.video import VideoOptions, VideoSink
from segedge.video.sources.file import VideoFile

Images = Sequence[NDArray[np.uint8]]


def read(path: Path) -> list[Frame]:
    source = VideoFile(path)
    frames = list(source.frames())
    assert source.failures == []
    return frames


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov", ".m4v"])
def test_round_trip(tmp_path: Path, suffix: str) -> None:
    """Frames, order, times, rate, and the folder holds nothing else."""
    images = gradient_images(40)
    sink = VideoSink(tmp_path / f"out{suffix}", fps=25)
    feed(sink, images)
    assert sink.paths == ()
    sink.close()
    sink.close()
    assert list(tmp_path.iterdir()) == list(sink.paths) == [tmp_path / f"out{suffix}"]
    frames = read(sink.paths[0])
    assert len(frames) == 40
    assert [f.pts_seconds for f in frames] == pytest.approx([k / 25 for k in range(40)], abs=1e-3)
    assert VideoFile(sink.paths[0]).info.fps == 25
    assert all(cv2.PSNR(f.image_hwc, i) > 35 for f, i in zip(frames, images, strict=True))


@pytest.mark.parametrize(
    "bgr", [(0, 0, 255), (0, 255, 0), (255, 0, 0), (128, 64, 128), (0, 0, 0), (255, 255, 255)]
)
def test_colours(tmp_path: Path, bgr: tuple[int, int, int]) -> None:
    """Swapped channels, a wrong matrix or a wrong range would be off by 15 and more."""
    sink = VideoSink(tmp_path / "a.mp4", fps=25, options=VideoOptions(crf=1))
    feed(sink, [np.full((48, 64, 3), bgr, np.uint8)] * 3)
    sink.close()
    mean = read(sink.paths[0])[1].image_hwc.reshape(-1, 3).mean(axis=0)
    assert np.abs(mean - bgr).max() <= 5


def test_colour_of_a_real_frame(tmp_path: Path, real_clip: Path) -> None:
    images = [f.image_hwc for f, _ in zip(VideoFile(real_clip).frames(), range(5), strict=False)]
    sink = VideoSink(tmp_path / "a.mp4", fps=12.5, options=VideoOptions(crf=18))
    feed(sink, images)
    sink.close()
    for frame, image in zip(read(sink.paths[0]), images, strict=True):
        assert cv2.PSNR(frame.image_hwc, image) > 36
        error = frame.image_hwc.reshape(-1, 3).mean(0) - image.reshape(-1, 3).mean(0)
        assert np.abs(error).max() < 1.5


def test_the_file_says_what_its_colours_are(tmp_path: Path) -> None:
    sink = VideoSink(tmp_path / "a.mp4", fps=25)
    feed(sink, gradient_images(3))
    sink.close()
    with av.open(str(sink.paths[0])) as container:
        codec = container.streams.video[0].codec_context
        assert (codec.name, codec.pix_fmt) == ("h264", "yuv420p")
        assert (codec.colorspace, codec.color_range) == (6, 1)


@pytest.mark.parametrize("fps", [12.5, 24000 / 1001, 30000 / 1001, 59.94, 1, 240])
def test_rates_are_exact(tmp_path: Path, fps: float) -> None:
    sink = VideoSink(tmp_path / "a.mp4", fps=fps)
    feed(sink, gradient_images(20), [k / fps for k in range(20)])
    sink.close()
    assert VideoFile(sink.paths[0]).info.fps == pytest.approx(fps, rel=1e-5)
    with av.open(str(sink.paths[0])) as container:
        assert container.duration / 1e6 == pytest.approx(20 / fps, abs=2e-3)


def test_variable_rate_is_kept_and_starts_at_zero(tmp_path: Path) -> None:
    times = [100.0, 100.04, 100.12, 101.5, 101.51]
    sink = VideoSink(tmp_path / "a.mp4", fps=25)
    feed(sink, gradient_images(5), times)
    sink.close()
    found = [frame.pts_seconds for frame in read(sink.paths[0])]
    assert found == pytest.approx([t - 100 for t in times], abs=1e-4)


def test_still_images_follow_at_the_rate(tmp_path: Path) -> None:
    sink = VideoSink(tmp_path / "a.mp4", fps=10)
    feed(sink, gradient_images(5), [None] * 5)
    sink.close()
    found = [frame.pts_seconds for frame in read(sink.paths[0])]
    assert found == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])


def test_time_that_jumps_back_goes_on_at_the_rate(tmp_path: Path) -> None:
    sink = VideoSink(tmp_path / "a.mp4", fps=10)
    feed(sink, gradient_images(6), [5.0, 5.1, 5.2, 1.0, 1.1, 1.1])
    sink.close()
    found = [frame.pts_seconds for frame in read(sink.paths[0])]
    assert found == pytest.approx([0, 0.1, 0.2, 0.3, 0.4, 0.5])


@pytest.mark.parametrize(("height", "width"), [(47, 63), (48, 63), (47, 64), (17, 33), (1, 1)])
def test_odd_sizes_get_one_more(tmp_path: Path, height: int, width: int) -> None:
    images = gradient_images(4, height, width)
    sink = VideoSink(tmp_path / "a.mp4", fps=25, options=VideoOptions(crf=5))
    feed(sink, images)
    sink.close()
    frame = read(sink.paths[0])[0].image_hwc
    assert frame.shape[:2] == (height + height % 2, width + width % 2)
    assert np.abs(frame[:height, :width].astype(int) - images[0]).mean() < 6


def test_a_frame_of_another_size_is_letterboxed_and_told_once(tmp_path: Path) -> None:
    white = np.full((60, 30, 3), 255, np.uint8)
    sink = VideoSink(tmp_path / "a.mp4", fps=25)
    feed(sink, [*gradient_images(2, 48, 64), white, white])
    sink.close()
    assert sink.notes == [
        "a.mp4: frame 2 is 30x60; frames of another size than 64x48 are letterboxed onto it"
    ]
    frames = read(sink.paths[0])
    assert [frame.size for frame in frames] == [(48, 64)] * 4
    assert frames[2].image_hwc[:, 22:42].mean() > 240
    assert frames[2].image_hwc[:, :16].mean() < 10
    assert frames[2].image_hwc[:, 48:].mean() < 10


def test_times_are_measured(tmp_path: Path) -> None:
    sink = VideoSink(tmp_path / "a.mp4", fps=25)
    frame = Frame(gradient_images(1)[0])
    sink.write(frame, FakeResult(image=frame.image_hwc))
    sink.close()
    assert frame.times.milliseconds["encode"] > 0


def test_unicode_and_missing_folders(tmp_path: Path) -> None:
    sink = VideoSink(tmp_path / "neu" / "straße 街.mp4", fps=25)
    feed(sink, gradient_images(3))
    sink.close()
    assert len(read(tmp_path / "neu" / "straße 街.mp4")) == 3


def test_a_failed_run_keeps_a_playable_part_under_another_name(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"an older result")
    sink = VideoSink(tmp_path / "a.mp4", fps=25)
    feed(sink, gradient_images(7))
    sink.close(error=True)
    assert sink.paths == (tmp_path / "a.partial.mp4",)
    assert len(read(sink.paths[0])) == 7
    assert (tmp_path / "a.mp4").read_bytes() == b"an older result"
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("error", [False, True])
def test_without_a_frame_nothing_is_left(tmp_path: Path, error: bool) -> None:
    sink = VideoSink(tmp_path / "a.mp4", fps=25)
    sink.close(error=error)
    assert sink.paths == ()
    assert list(tmp_path.iterdir()) == []


def test_a_killed_process_leaves_a_playable_part(tmp_path: Path) -> None:
    """Fragments: what is on disk before `close` can be read up to the last key frame."""
    sink = VideoSink(tmp_path / "a.mp4", fps=25)
    feed(sink, noise_images(130))
    (part,) = tmp_path.iterdir()
    assert part.name.startswith(".a.part-")
    copy = tmp_path / "copy.mp4"
    copy.write_bytes(part.read_bytes())
    assert sum(1 for _ in VideoFile(copy).frames()) >= 50
    sink.close()


def test_really_full_disk(tiny_disk: Path) -> None:
    """What was recorded stays playable, beside the final name."""
    sink = VideoSink(
        tiny_disk / "a.mp4", fps=25, options=VideoOptions(key_seconds=0.4), frame_count=1000
    )
    with pytest.raises(SinkError, match="the disk is full: cannot write") as caught:
        feed(sink, noise_images(1000))
    sink.close(error=True)
    facts = caught.value.facts
    assert facts["free"].startswith("0.0 kB on the disk of")
    assert "more for 1000 frames" in facts["needed"]
    assert [path.name for path in tiny_disk.iterdir()] == ["a.partial.mp4"]
    assert sink.paths == (tiny_disk / "a.partial.mp4",)
    assert sum(1 for _ in VideoFile(sink.paths[0]).frames()) >= 10


def test_disk_full_from_the_start(tiny_disk: Path) -> None:
    with pytest.raises(OSError, match="No space"):
        (tiny_disk / "filler").write_bytes(bytes(600_000))
    with pytest.raises(SinkError, match="the disk is full"):
        feed(VideoSink(tiny_disk / "a.mp4", fps=25), noise_images(300))
    assert [path.name for path in tiny_disk.iterdir()] == ["filler"]


@pytest.mark.parametrize("when", ["first", "later", "finish"])
def test_refused_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str) -> None:
    """The same without a real full disk, at each place where it can happen."""

    class Refusing:
        def __init__(self, container: Any) -> None:
            self._container = container
            self.calls = 0

        def __getattr__(self, name: str) -> Any:
            return getattr(self._container, name)

        def mux(self, packets: Any) -> None:
            self.calls += 1
            if self.calls > {"first": 0, "later": 30, "finish": 40}[when]:
                raise av.error.OSError(errno.ENOSPC, "No space left on device")
            self._container.mux(packets)

    original = av.open
    monkeypatch.setattr(
        "segedge.video.sinks.video.av.open",
        lambda *args, **kw: Refusing(original(*args, **kw)) if args[1:] else original(*args, **kw),
    )

    def run(sink: VideoSink) -> None:
        feed(sink, gradient_images(40))
        sink.close()

    sink = VideoSink(tmp_path / "a.mp4", fps=25)
    with pytest.raises(SinkError, match="the disk is full"):
        run(sink)
    sink.close(error=True)
    left = [path.name for path in tmp_path.iterdir()]
    assert left == ([] if when == "first" else ["a.partial.mp4"])


def test_arguments() -> None:
    with pytest.raises(UsageError, match="positive rate, found 0"):
        VideoSink("a.mp4", fps=0)
    with pytest.raises(UsageError, match="no video ending"):
        VideoSink("a.avi", fps=25)

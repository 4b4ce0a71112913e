"""`segedge.stream`: a plain loop over frames and results; no clock, no sleep, no camera."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator

import numpy as np
import pytest

import segedge
from segedge.errors import UsageError
from segedge.frames.frame import Frame

WAIT_SECONDS = 20.0


def card() -> segedge.ModelCard:
    return segedge.ModelCard(
        classes=("dark", "bright"),
        palette_rgb=((0, 0, 0), (255, 255, 255)),
        input_height=16,
        input_width=16,
        stride=8,
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
    )


@pytest.fixture
def segmenter() -> Iterator[segedge.Segmenter]:
    with segedge.Segmenter(card(), segedge.FakeBackend(card()), threads=1) as made:
        yield made


def images(number: int) -> list[np.ndarray]:
    return [np.full((16, 16, 3), 255 * (k % 2), np.uint8) for k in range(number)]


def assert_no_reader() -> None:
    for thread in threading.enumerate():
        if thread.name == "segedge-source":
            thread.join(WAIT_SECONDS)
            assert not thread.is_alive()


def test_every_frame_of_a_file_and_results_stay_usable(segmenter: segedge.Segmenter) -> None:
    pairs = list(segedge.stream(segmenter, segedge.MemorySource(images(9))))
    assert [frame.index for frame, _ in pairs] == list(range(9))
    for frame, result in pairs:  # long after their step
        assert (result.labels == frame.index % 2).all()
        assert result.overlay().shape == (16, 16, 3)
    assert_no_reader()


def test_latest_gives_the_newest(segmenter: segedge.Segmenter) -> None:
    """All 50 frames come before the first step: the loop sees the last one alone."""
    all_read = threading.Event()

    class Live(segedge.MemorySource):
        def frames(self) -> Iterator[Frame]:
            yield from super().frames()
            all_read.set()

    stream = segedge.stream(segmenter, Live(images(50), live=True))
    assert all_read.wait(WAIT_SECONDS)
    assert [frame.index for frame, _ in stream] == [49]
    progress = stream.progress
    assert (progress.read, progress.written, progress.dropped) == (50, 1, 49)


def test_leaving_early_closes_the_source(segmenter: segedge.Segmenter) -> None:
    source = segedge.MemorySource(images(100))
    with segedge.stream(segmenter, source) as stream:
        frame, result = next(stream)
    assert source._closed.is_set()
    assert_no_reader()
    assert result.labels.shape == frame.size
    assert list(stream) == []
    progress = stream.progress
    assert progress.read == progress.written + progress.dropped
    assert next(iter(segedge.stream(segmenter, segedge.MemorySource(images(1)))))[0].index == 0


def test_an_abandoned_loop_frees_the_source(segmenter: segedge.Segmenter) -> None:
    source = segedge.MemorySource(images(100))
    stream = segedge.stream(segmenter, source)
    next(stream)
    del stream
    gc.collect()
    assert source._closed.is_set()
    assert_no_reader()


def test_an_error_of_the_source_comes_after_the_frames_before_it_at_the_latest(
    segmenter: segedge.Segmenter,
) -> None:
    class Breaking(segedge.MemorySource):
        def frames(self) -> Iterator[Frame]:
            yield from super().frames()
            raise RuntimeError("unplugged")

    stream = segedge.stream(segmenter, Breaking(images(2)))
    with pytest.raises(RuntimeError, match="unplugged"):
        list(stream)
    with pytest.raises(StopIteration):
        next(stream)
    assert_no_reader()


def test_an_error_of_the_network_ends_it() -> None:
    closed: list[int] = []

    def broken(frame: Frame, *, outputs: frozenset[str]) -> segedge.Result:
        raise RuntimeError("network")

    source = segedge.MemorySource(images(30))
    from segedge.pipeline.stream import FrameStream

    stream = FrameStream(source, broken, on_close=lambda: closed.append(1))
    with pytest.raises(RuntimeError, match="network"):
        next(stream)
    assert closed == [1]
    assert stream.progress.failed == stream.progress.read >= 1
    assert_no_reader()


def test_an_unknown_policy_closes_the_source(segmenter: segedge.Segmenter) -> None:
    source = segedge.MemorySource(images(1))
    with pytest.raises(UsageError, match="did you mean 'latest'"):
        segedge.stream(segmenter, source, policy="lates")  # type: ignore[arg-type]
    assert source._closed.is_set()


def test_it_closes_a_model_that_it_opened(tmp_path) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(segedge.SegedgeError, match="does not exist"):
        segedge.stream(tmp_path / "gone.onnx", segedge.MemorySource(images(1)))

"""`segedge.stream`: a plain loop over frames and results; no clock, no sleep, no camera."""

from __future__ import annotations

import gc
import signal
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


@pytest.mark.parametrize("motion", [None, segedge.Motion(every=4)])
def test_an_error_of_the_source_comes_after_the_frames_before_it(
    motion: segedge.Motion | None,
) -> None:
    """All of them, also those that wait for a key frame."""
    broken = threading.Event()

    class Breaking(segedge.MemorySource):
        def frames(self) -> Iterator[Frame]:
            yield from super().frames()
            broken.set()
            raise RuntimeError("unplugged")

    from segedge.options.frame import FrameOptions

    options = FrameOptions(motion=motion)
    with segedge.Segmenter(card(), segedge.FakeBackend(card()), options=options) as segmenter:
        stream = segedge.stream(segmenter, Breaking(panning(7)))
        seen = [next(stream)[0].index for _ in range(4)]
        assert broken.wait(WAIT_SECONDS)
        seen += [next(stream)[0].index for _ in range(3)]
        with pytest.raises(RuntimeError, match="unplugged"):
            next(stream)
        assert seen == list(range(7))
        assert stream.progress.written == stream.progress.read == 7
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


def panning(number: int) -> list[np.ndarray]:
    """A texture that moves by a pixel a frame: it can be carried along."""
    rng = np.random.default_rng(0)
    wide = np.kron(rng.integers(0, 256, (12, 40)), np.ones((8, 8))).astype(np.uint8)
    return [np.repeat(wide[:, k : k + 96, None], 3, axis=2) for k in range(number)]


@pytest.mark.parametrize("motion", [None, segedge.Motion(every=4)])
def test_another_thread_closes_it_in_the_midst_of_a_frame(motion: segedge.Motion | None) -> None:
    """The loop ends, and the model is not closed under it."""
    closers: list[threading.Thread] = []
    computing: list[bool] = []
    closed: list[bool] = []
    backend = segedge.FakeBackend(card())
    plain = backend.run

    def run(*given: object) -> object:
        computing.append(True)
        if len(computing) == 3:
            closer = threading.Thread(target=stream.close)
            closers.append(closer)
            closer.start()
            source._closed.wait(WAIT_SECONDS)  # it is on its way
            closer.join(0.05)  # it must wait, and would be done if it did not
        made = plain(*given)  # type: ignore[arg-type]
        computing.append(False)
        return made

    backend.run = run  # type: ignore[method-assign, assignment]
    source = segedge.MemorySource(panning(40))
    from segedge.options.frame import FrameOptions
    from segedge.pipeline.stream import FrameStream

    with segedge.Segmenter(card(), backend, options=FrameOptions(motion=motion), threads=2) as made:
        stream = FrameStream(source, made, on_close=lambda: closed.append(computing[-1]))
        shown = [frame.index for frame, _ in stream]
        closers[0].join(WAIT_SECONDS)
    assert shown == list(range(len(shown)))
    assert len(shown) < 40
    assert closed == [False]
    assert_no_reader()


def test_a_signal_handler_closes_it_in_the_midst_of_a_frame() -> None:
    """It runs in the thread that computes: what that needs is let go of after the frame."""
    closed: list[int] = []

    def interrupted(frame: Frame, *, outputs: frozenset[str]) -> segedge.Result:
        if frame.index == 1:
            signal.raise_signal(signal.SIGUSR1)
        assert not closed
        return made(frame, outputs=outputs)

    from segedge.pipeline.stream import FrameStream

    with segedge.Segmenter(card(), segedge.FakeBackend(card()), threads=1) as made:
        source = segedge.MemorySource(images(30))
        stream = FrameStream(source, interrupted, on_close=lambda: closed.append(1))
        before = signal.signal(signal.SIGUSR1, lambda *_: stream.close())
        try:
            assert [frame.index for frame, _ in stream] == [0, 1]
        finally:
            signal.signal(signal.SIGUSR1, before)
    assert closed == [1]
    assert stream.progress.written == 2
    assert_no_reader()

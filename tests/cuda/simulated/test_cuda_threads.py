"""CudaSegmenter where other threads and other libraries are at work on the same GPU."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from cuda.bindings import driver as cu
from helpers import ok
from test_cuda_segmenter import CARD, assert_like_the_host, device, image_of

from segedge import segmenter_cuda
from segedge.backends.fake_cuda import FakeCudaBackend
from segedge.cuda import program
from segedge.cuda.device import Device
from segedge.geometry import Size
from segedge.result import OUTPUTS, OverlayStyle
from segedge.segmenter_cuda import CudaSegmenter

__all__ = ["device"]


class Watched(FakeCudaBackend):
    """Lets another thread do something each time the network is enqueued."""

    def __init__(self, device: Device) -> None:
        super().__init__(CARD, device)
        self.meanwhile: Any = None
        self.failures: list[BaseException] = []

    def run(
        self, inputs: Sequence[Any], outputs: Sequence[Any] | None = None, *, stream: int = 0
    ) -> Sequence[Any]:
        done = super().run(inputs, outputs, stream=stream)
        if self.meanwhile is not None:
            thread = threading.Thread(target=self._try)
            thread.start()
            thread.join()
        return done

    def _try(self) -> None:
        try:
            self.meanwhile()
        except BaseException as error:
            self.failures.append(error)


def test_results_are_looked_at_while_another_slot_of_the_lane_is_captured(device: Device) -> None:
    image, backend = image_of(40, 56), Watched(device)
    with CudaSegmenter(CARD, backend, slots=1) as segmenter:
        kept = segmenter(image, outputs=("labels",))
        expected = kept.labels.copy()
        seen = []
        backend.meanwhile = lambda: seen.append(kept.labels_of(4, 4, 10, 12))
        other = segmenter(image_of(40, 56, 1), outputs=("labels",))  # a second slot, captured
        backend.meanwhile = None
        assert not backend.failures
        assert not segmenter.notes
        assert len(seen) >= 2
        for labels in seen:
            np.testing.assert_array_equal(labels, expected[4:14, 4:16])
        assert_like_the_host(CARD, image_of(40, 56, 1), other)
    backend.meanwhile = None


def test_another_context_is_current_meanwhile(device: Device) -> None:
    """Another library makes its own context current in our thread, as PyTorch on a second GPU."""
    image = image_of(40, 56)
    with CudaSegmenter(CARD, FakeCudaBackend(CARD, device)) as segmenter:
        other = ok(cu.cuCtxCreate(None, 0, 0))
        try:
            assert device.context != int(other)
            assert_like_the_host(CARD, image, segmenter(image, outputs=OUTPUTS))
        finally:
            ok(cu.cuCtxDestroy(other))
            device.core.set_current()


def test_styles_of_two_threads_share_a_table(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The table that one thread was told of stays, though another made the same at once."""
    style = OverlayStyle(opacity=0.25)
    together = threading.Barrier(2, timeout=10)
    uploaded = segmenter_cuda._uploaded

    def upload(*arguments: Any) -> Any:
        together.wait()
        return uploaded(*arguments)

    with CudaSegmenter(CARD, FakeCudaBackend(CARD, device)) as segmenter:
        result = segmenter(image_of(40, 56))
        monkeypatch.setattr(segmenter_cuda, "_uploaded", upload)
        found: list[int] = []
        threads = [
            threading.Thread(target=lambda: found.append(result._tints(style))) for _ in range(2)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert found[0] == found[1] == result._tints(style)


def test_a_kernel_that_two_threads_load_at_once(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first one stays: a graph may have it already."""
    together = threading.Barrier(2, timeout=10)
    compile_for = program.compile_for

    def compiled(*arguments: Any, **options: Any) -> bytes:
        together.wait()
        return compile_for(*arguments, **options)

    monkeypatch.setattr(program, "compile_for", compiled)
    kernel = FakeCudaBackend(CARD, device).kernel
    found: list[Any] = []

    def load() -> None:
        device.make_current()
        found.append(device.programs.get(kernel))

    threads = [threading.Thread(target=load) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found[0] is found[1] is device.programs.get(kernel)


@pytest.mark.parametrize("flip", [np.s_[::-1], np.s_[::2], np.s_[:, ::-1]])
def test_pinned_frames_with_other_strides(device: Device, flip: Any) -> None:
    """CUDA copies rows forwards only."""
    with CudaSegmenter(CARD, FakeCudaBackend(CARD, device)) as segmenter:
        frame = segmenter.frame_memory(Size(40, 56))[:, :, 0]
        frame[...] = image_of(40, 56)[:, :, 0]
        memory = segmenter.frame_memory(Size(40, 56)).reshape(40, 168)[:, :56]
        memory[...] = frame
        result = segmenter(memory[flip], outputs=OUTPUTS[:1], pixel_format="gray")
        image = np.ascontiguousarray(memory[flip])
        expected = segmenter(image, outputs=OUTPUTS[:1], pixel_format="gray").labels.copy()
        np.testing.assert_array_equal(result.labels, expected)

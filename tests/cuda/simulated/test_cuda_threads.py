"""CudaSegmenter where other threads and other libraries are at work on the same GPU."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from around import assert_like_the_host
from cuda.bindings import driver as cu
from cuda.core.utils import StridedMemoryView
from driver.simulated import Control
from helpers import ok

from segedge.backends.fake_cuda import FakeCudaBackend
from segedge.card.geometry import Size
from segedge.cuda.plan import FramePlan, Tensor
from segedge.cuda.runtime import program
from segedge.cuda.runtime.device import Device
from segedge.errors import BackendError, UsageError
from segedge.options.style import OverlayStyle
from segedge.segment.drawing import OUTPUTS
from segedge.segment.on_gpu import CudaSegmenter
from tests.brightness import CARD, image_of

SHAPES = (1, 3, 48, 64), (1, 4, 6, 8)


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
    uploaded = Device.uploaded

    def upload(*arguments: Any) -> Any:
        together.wait()
        return uploaded(*arguments)

    with CudaSegmenter(CARD, FakeCudaBackend(CARD, device)) as segmenter:
        render = segmenter(image_of(40, 56)).drawing.renderer.render
        monkeypatch.setattr(Device, "uploaded", upload)
        found: list[int] = []
        threads = [
            threading.Thread(target=lambda: found.append(render(("overlay",), style).tints))
            for _ in range(2)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert found[0] == found[1] == render(("overlay",), style).tints


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


def test_strides_are_those_of_the_memory(device: Device) -> None:
    for shape, dtype in (((5, 7, 3), "uint8"), ((5, 7), "uint16"), ((4, 8), "float32")):
        array = device.pitched(shape, dtype)
        expected = np.empty(shape, dtype).strides[1:]
        assert array.pitch % 16 == 0
        assert array.strides in (None, (array.pitch, *expected))
        assert (array.strides is None) == (array.pitch == array.row_bytes)


@pytest.mark.parametrize("options", [{}, {"max_version": (1, 0)}])
@pytest.mark.parametrize("integrated", [0, 1])
def test_dlpack_says_cuda_also_where_memory_is_shared(
    device: Device, sim: Control, integrated: int, options: dict[str, Any]
) -> None:
    """PyTorch and CuPy refuse "CUDA host", which cuda-core says of mapped memory."""
    sim.set("integrated", integrated)
    shared = Device.open()
    with CudaSegmenter(CARD, FakeCudaBackend(CARD, shared)) as segmenter:
        result = segmenter(image_of(40, 50), outputs=("overlay",), to_host=False)
        (overlay,) = result.on_device("overlay")
        assert overlay.__dlpack_device__() == (2, 0)
        array = Capsule(overlay.__dlpack__(stream=1, **options))
        view = StridedMemoryView(array, stream_ptr=-1)
        assert (view.ptr, view.device_id, view.is_device_accessible) == (overlay.pointer, 0, True)
        assert view.strides in (None, (overlay.side[1], 3, 1))
        del view, array, overlay, result


class Capsule:
    """What a library sees of an array: its DLPack capsule."""

    def __init__(self, capsule: Any) -> None:
        self.capsule = capsule

    def __dlpack__(self, **_: Any) -> Any:
        return self.capsule

    def __dlpack_device__(self) -> tuple[int, int]:
        return 2, 0


def test_page_locked_frames_are_not_staged(device: Device) -> None:
    with CudaSegmenter(CARD, FakeCudaBackend(CARD, device)) as segmenter:
        frame = segmenter.frame_memory(Size(40, 56))
        frame[...] = image_of(40, 56)
        result = segmenter(frame, outputs=OUTPUTS)
        assert_like_the_host(CARD, frame, result)
        assert not result.drawing.slot.frame._staging
        del result, frame


def test_a_network_that_fails_does_not_lose_the_frame_that_is_being_read(device: Device) -> None:
    """Its copy is enqueued already; freed memory would break the context, see the fixture."""
    backend = FakeCudaBackend(CARD, device)
    run = backend.run

    def fail(*_: Any, **__: Any) -> Any:
        raise BackendError("no")

    with CudaSegmenter(CARD, backend, slots=1) as segmenter:
        frame = segmenter.frame_memory(Size(40, 56))
        backend.run = fail  # type: ignore[method-assign]
        with pytest.raises(BackendError):
            segmenter(frame, outputs=OUTPUTS)
        del frame
        backend.run = run  # type: ignore[method-assign]
        assert_like_the_host(CARD, image_of(40, 56), segmenter(image_of(40, 56), outputs=OUTPUTS))


@pytest.mark.parametrize("size", [Size(65536, 2), Size(2, 65536)])
def test_sides_that_no_grid_of_blocks_covers(size: Size) -> None:
    tensor, logits = (Tensor(shape, np.dtype("float32")) for shape in SHAPES)
    with pytest.raises(UsageError, match="this large"):
        FramePlan(CARD, size, tensor=tensor, outputs=(logits,), head=0)


def test_a_dropped_array_is_not_written_while_the_default_stream_reads_it(device: Device) -> None:
    import cuda.core

    reader = cuda.core.LEGACY_DEFAULT_STREAM
    with CudaSegmenter(CARD, FakeCudaBackend(CARD, device), slots=1) as segmenter:
        segmenter.warm_up(Size(40, 56), outputs=("labels",))
        expected = segmenter(image_of(40, 56), outputs=("labels",)).labels.copy()
        host = device.pinned(expected.shape, np.uint8)
        (labels,) = segmenter(image_of(40, 56), outputs=("labels",)).on_device("labels")
        reader.wait(cuda.core.Stream.from_handle(labels.stream))
        device.copy(host, labels, reader)
        del labels  # the copy has not run yet
        segmenter(image_of(40, 56, 7), outputs=("labels",)).wait()
        reader.sync()
        np.testing.assert_array_equal(host.array(), expected)


def test_threads_that_share_a_segmenter_get_the_frames_that_they_gave(device: Device) -> None:
    images = [image_of(40, 56, seed) for seed in range(3)]
    failures: list[BaseException] = []
    with CudaSegmenter(CARD, FakeCudaBackend(CARD, device), slots=2) as segmenter:
        expected = [segmenter(image, outputs=("labels",)).labels.copy() for image in images]
        assert not np.array_equal(expected[0], expected[1])

        def work(number: int) -> None:
            try:
                for _ in range(6):
                    found = segmenter(images[number], outputs=("labels",)).labels
                    np.testing.assert_array_equal(found, expected[number])
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert failures == []
    with pytest.raises(UsageError, match="the segmenter is closed"):
        segmenter(images[0])
    segmenter.close()

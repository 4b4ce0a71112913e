"""CudaSegmenter on frames that lie on the device, and its results there."""

from __future__ import annotations

import gc
from typing import Any

import numpy as np
import pytest
from around import assert_like_the_host
from driver.simulated import Control
from numpy.typing import NDArray

from segedge.backends.fake_cuda import FakeCudaBackend
from segedge.card.geometry import Size
from segedge.cuda.runtime.device import Device
from segedge.errors import DeviceError, UsageError
from segedge.segment.drawing import OUTPUTS
from segedge.segment.on_gpu import CudaSegmenter
from tests.brightness import CARD, image_of


@pytest.mark.parametrize("size", [(48, 64), (41, 57)])
def test_gpus_that_share_the_memory_copy_nothing(
    sim: Control, no_leaks: None, size: tuple[int, int]
) -> None:
    sim.set("integrated", 1)
    device = Device.open()
    assert device.gpu.integrated
    with CudaSegmenter(CARD, FakeCudaBackend(CARD, device), slots=1) as segmenter:
        for seed in range(4):
            image = image_of(*size, seed)
            copies = sim.counter("copies")
            result = segmenter(image, outputs=OUTPUTS)
            assert_like_the_host(CARD, image, result)
            if seed > 1:
                assert sim.counter("copies") == copies
            del result
        frame = segmenter(image, outputs=("labels",), to_host=False)
        (labels,) = frame.on_device("labels")
        assert labels.shape == size
        del labels, frame
    del segmenter, device


class Foreign:
    """An array of another library: nothing but the interface."""

    def __init__(self, array: Any, **changes: Any) -> None:
        self.kept = array
        self.__cuda_array_interface__ = {**array.__cuda_array_interface__, **changes}


def to_numpy(device: Device, array: Any) -> NDArray[Any]:
    """What another library's copy to the CPU would give: after the producer's stream."""
    stream = device.stream()
    import cuda.core

    stream.wait(cuda.core.Stream.from_handle(array.stream))
    return device.download(array, stream)


def test_frames_and_results_on_the_device(device: Device) -> None:
    image = image_of(40, 56, 2)
    with CudaSegmenter(CARD, FakeCudaBackend(CARD, device)) as segmenter:
        expected = segmenter(image, outputs=OUTPUTS)
        frame = Foreign(device.uploaded(image), stream=None)
        for _ in range(3):
            result = segmenter(frame, outputs=OUTPUTS, to_host=False)
            for name in ("labels", "overlay", "confidence"):
                (array,) = result.on_device(name)
                wanted = expected.overlay() if name == "overlay" else getattr(expected, name)
                np.testing.assert_array_equal(to_numpy(device, array), wanted)
                view = array.__cuda_array_interface__
                assert view["shape"] == wanted.shape
            (counts,) = result.on_device("class_pixels")
            assert to_numpy(device, counts).sum() == 40 * 56
            (logits,) = result.on_device("logits")
            np.testing.assert_array_equal(to_numpy(device, logits), expected.logits)
        with pytest.raises(UsageError, match="was not asked for"):
            segmenter(frame, to_host=False).on_device("labels")


def test_an_array_alone_keeps_its_slot(device: Device) -> None:
    with CudaSegmenter(CARD, FakeCudaBackend(CARD, device)) as segmenter:
        expected = segmenter(image_of(40, 56), outputs=("labels",)).labels.copy()
        result = segmenter(image_of(40, 56), outputs=("labels",), to_host=False)
        (labels,) = result.on_device("labels")
        del result
        for seed in range(1, 20):
            segmenter(image_of(40, 56, seed), outputs=("labels",), to_host=False)
        np.testing.assert_array_equal(to_numpy(device, labels), expected)


def test_frames_stay_until_the_gpu_has_read_them(device: Device) -> None:
    """Nobody but the slot knows the frame any more, and its copy has not run yet."""
    with CudaSegmenter(CARD, FakeCudaBackend(CARD, device), slots=1) as segmenter:
        for seed in range(5):
            frame = segmenter.frame_memory(Size(40, 56))
            frame[...] = image_of(40, 56, seed)
            (labels,) = segmenter(frame, outputs=("labels",), to_host=False).on_device("labels")
            del frame
            gc.collect()
            found = to_numpy(device, labels)
            expected = segmenter(image_of(40, 56, seed), outputs=("labels",)).labels
            np.testing.assert_array_equal(found, expected)
            del labels, expected


def test_crops_and_foreign_streams(device: Device) -> None:
    """A region of a larger frame, produced on another stream that is not done yet."""
    large = image_of(80, 120, 4)
    array, host = device.empty(large.shape, np.uint8), device.pinned(large.shape, np.uint8)
    host.array()[...] = large
    producer = device.stream()
    device.copy(array, host, producer)
    pointer = array.pointer + 10 * 360 + 3 * 20
    crop = Foreign(array, shape=(40, 56, 3), strides=(360, 3, 1), data=(pointer, False))
    with CudaSegmenter(CARD, FakeCudaBackend(CARD, device)) as segmenter:
        result = segmenter(crop, outputs=("labels",), stream=int(producer.handle))
        expected = segmenter(np.ascontiguousarray(large[10:50, 20:76]), outputs=("labels",))
        np.testing.assert_array_equal(result.labels, expected.labels)


def test_frames_that_name_no_stream_are_the_default_streams(device: Device) -> None:
    """As PyTorch's, whose copy has not run yet."""
    import cuda.core

    image = image_of(40, 56, 6)
    array, host = device.empty(image.shape, np.uint8), device.pinned(image.shape, np.uint8)
    host.array()[...] = image
    with CudaSegmenter(CARD, FakeCudaBackend(CARD, device), slots=1) as segmenter:
        expected = segmenter(image, outputs=("labels",)).labels.copy()
        segmenter(Foreign(array), outputs=("labels",)).wait()  # allocating waits for that stream
        producer = cuda.core.LEGACY_DEFAULT_STREAM
        device.copy(array, host, producer)
        result = segmenter(Foreign(array), outputs=("labels",))
        np.testing.assert_array_equal(result.labels, expected)


def test_dlpack(device: Device) -> None:
    """NumPy refuses GPU memory, but cuda-core's own view takes the capsule."""
    from cuda.core.utils import StridedMemoryView

    with CudaSegmenter(CARD, FakeCudaBackend(CARD, device)) as segmenter:
        result = segmenter(image_of(40, 50), outputs=("labels", "overlay"), to_host=False)
        (labels,) = result.on_device("labels")
        assert labels.__dlpack_device__() == (2, 0)
        view = StridedMemoryView(labels, stream_ptr=-1)
        assert view.ptr == labels.pointer
        assert view.shape == (40, 50)
        del view, labels, result


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"shape": (40, 56, 4)}, "40x56x4"),
        ({"typestr": "<f4"}, "must be uint8"),
        ({"strides": (168, 1, 56)}, "rows must be contiguous"),
        ({"strides": (100, 3, 1)}, "rows must be contiguous"),
        ({"data": (64, False)}, "not in this process's GPU memory"),
    ],
)
def test_frames_that_do_not_fit(device: Device, changes: dict[str, Any], words: str) -> None:
    array = device.uploaded(image_of(40, 56))
    with (
        CudaSegmenter(CARD, FakeCudaBackend(CARD, device)) as segmenter,
        pytest.raises((UsageError, DeviceError)) as caught,
    ):
        segmenter(Foreign(array, **changes))
    assert words in str(caught.value)


def test_pinned_frames_are_read_where_they_are(device: Device) -> None:
    with CudaSegmenter(CARD, FakeCudaBackend(CARD, device), slots=1) as segmenter:
        frame = segmenter.frame_memory(Size(40, 56))
        for seed in range(3):
            frame[...] = image = image_of(40, 56, seed)
            result = segmenter(frame, outputs=OUTPUTS)
            assert_like_the_host(CARD, image, result)
            assert "staging" in result.times.milliseconds
        del frame, result

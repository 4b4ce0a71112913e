"""What is measured one at a time: the network alone, a frame, the stages of a frame on a GPU."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from segedge.errors import BackendError
from segedge.measure.bench.durations import Milliseconds
from segedge.segment.fitting import check_network, network_size

if TYPE_CHECKING:
    from segedge.segment.on_gpu import CudaSegmenter
    from segedge.segment.segmenter import Segmenter

_TIMED_FRAMES = 30


def network_step(segmenter: Segmenter | CudaSegmenter, batch: int = 1) -> Callable[[], object]:
    """What runs the network once on random numbers, into memory that is already there."""
    card, backend = segmenter.card, segmenter.backend
    spec, _ = check_network(card, backend)
    if spec.shape[0] not in (None, batch):
        raise BackendError(
            f"the network does not take a batch of {batch}",
            facts={"input": str(spec)},
            fix="segedge export ... --dynamic batch",
        )
    shape = card.input_shape(network_size(card, spec), batch=batch)
    tensor = np.random.default_rng(0).standard_normal(shape).astype(np.dtype(spec.dtype))
    if backend.memory == "cuda":
        return _device_step(cast("CudaSegmenter", segmenter), tensor)
    # A backend's first answer is its own memory; later ones go into copies that are ours.
    outputs = [np.array(array) for array in backend.run([tensor])]
    return lambda: backend.run([tensor], outputs)


def _device_step(segmenter: CudaSegmenter, tensor: NDArray[Any]) -> Callable[[], Milliseconds]:
    """The same on a GPU, timed by events around what is enqueued; launches are not a graph."""
    backend = segmenter.backend
    device, stream = backend.device, backend.device.stream()
    host, given = (
        device.pinned(tensor.shape, tensor.dtype),
        device.empty(tensor.shape, tensor.dtype),
    )
    host.array()[...] = tensor
    device.copy(given, host, stream)
    stream.sync()
    shapes = backend.output_shapes([tensor.shape])
    outputs = [
        device.empty(shape, spec.dtype)
        for shape, spec in zip(shapes, backend.specs[1], strict=True)
    ]
    before, after = device.event(), device.event()

    def step() -> Milliseconds:
        stream.record(before)
        backend.run([given], outputs, stream=int(stream.handle))
        stream.record(after)
        after.sync()
        return Milliseconds(after - before)

    return step


@dataclass
class FrameStep:
    """From image to overlay, one at a time; keeps the stages of each frame."""

    segmenter: Segmenter | CudaSegmenter
    image_hwc: NDArray[np.uint8]
    stages: list[dict[str, float]]

    def __call__(self) -> None:
        """Do it once."""
        result = self.segmenter(self.image_hwc, outputs=("overlay",))
        result.overlay()
        self.stages.append(dict(result.times.milliseconds))


def device_stages(segmenter: CudaSegmenter, image_hwc: NDArray[np.uint8]) -> list[dict[str, float]]:
    """Stages of frames on a GPU, by events: their kernels are launched one by one for it."""
    from segedge.segment.on_gpu import CudaSegmenter

    timed = CudaSegmenter(segmenter.card, segmenter.backend, slots=1, timed=True)
    step = FrameStep(timed, image_hwc, [])
    for _ in range(_TIMED_FRAMES):
        step()
    return step.stages[_TIMED_FRAMES // 3 :]

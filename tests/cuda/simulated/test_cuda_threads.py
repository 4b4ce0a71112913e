"""CudaSegmenter where other threads and other libraries are at work on the same GPU."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from test_cuda_segmenter import CARD, assert_like_the_host, device, image_of

from segedge.backends.fake_cuda import FakeCudaBackend
from segedge.cuda.device import Device
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
        del kept, other
        backend.meanwhile = None

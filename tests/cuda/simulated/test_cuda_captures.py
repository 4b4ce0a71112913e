"""CudaSegmenter's graphs: a frame is one launch, and what cannot be captured still runs."""

from __future__ import annotations

import gc
from typing import Any

import numpy as np
import pytest
from around import assert_like_the_host
from driver.simulated import Control

from segedge.backends.fake_cuda import FakeCudaBackend
from segedge.card.geometry import Size
from segedge.cuda.runtime.device import Device
from segedge.cuda.runtime.graph import capture
from segedge.segment.drawing import OUTPUTS
from segedge.segment.on_gpu import CudaSegmenter
from tests.brightness import CARD, image_of


def test_a_frame_is_one_launch(device: Device, sim: Control) -> None:
    with CudaSegmenter(CARD, FakeCudaBackend(CARD, device), slots=1) as segmenter:
        segmenter(image_of(96, 128), outputs=("labels", "overlay")).wait()
        launches, graphs = sim.counter("launches"), sim.counter("graph_launches")
        for seed in range(4):
            segmenter(image_of(96, 128, seed), outputs=("labels", "overlay")).wait()
        assert sim.counter("graph_launches") == graphs + 4
        assert sim.counter("launches") == launches, "kernels were launched one by one"


def test_after_warming_up_every_frame_is_one_launch(device: Device, sim: Control) -> None:
    with CudaSegmenter(CARD, FakeCudaBackend(CARD, device), slots=3) as segmenter:
        segmenter.warm_up(Size(96, 128), outputs=("overlay",))
        launches = sim.counter("launches")
        results = [segmenter(image_of(96, 128, seed), outputs=("overlay",)) for seed in range(3)]
        for result in results:
            result.wait()
        assert sim.counter("launches") == launches
        del result, results


def test_refused_capture_is_said_and_frames_go_on(device: Device) -> None:
    image = image_of(40, 56)
    backend = FakeCudaBackend(CARD, device, capturable=False)
    with CudaSegmenter(CARD, backend) as segmenter:
        for _ in range(3):
            assert_like_the_host(CARD, image, segmenter(image, outputs=OUTPUTS))
        (note,) = segmenter.notes
        assert "the network's library does not allow it" in note


@pytest.mark.parametrize("stage", [0, 1, 2])
def test_a_capture_that_cuda_refuses(device: Device, sim: Control, stage: int) -> None:
    image = image_of(40, 56)
    with CudaSegmenter(CARD, FakeCudaBackend(CARD, device)) as segmenter:
        sim.refuse_capture(stage)
        for _ in range(3):
            assert_like_the_host(CARD, image, segmenter(image, outputs=OUTPUTS))
        assert len(segmenter.notes) == 1
        assert "CUDA_ERROR" in segmenter.notes[0]


def test_garbage_waits_for_the_end_of_a_capture(device: Device) -> None:
    """Collected meanwhile, its page-locked memory would be refused, lost, and end the capture."""

    class Ring:
        def __init__(self) -> None:
            self.ring, self.memory = self, device.pinned((64,), np.uint8)

    stream, target = device.stream(), device.empty((64,), np.uint8)

    def work(aside: Any) -> None:
        device.fill(target.pointer, 7, 64, aside)
        kept = [[number] for number in range(5000)]  # enough to set the collector off
        device.fill(target.pointer, len(kept) % 256, 64, aside)

    def nested() -> None:
        capture(stream, lambda: work(stream)).close()

    gc.collect()
    Ring()
    capture(device.stream(), nested).close()
    assert gc.isenabled()
    capture(stream, lambda: work(stream)).close()
    gc.disable()
    try:
        capture(stream, lambda: work(stream)).close()
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_a_slot_keeps_the_graphs_of_its_last_requests(device: Device, sim: Control) -> None:
    image = image_of(40, 56)
    asked = [("labels",), ("overlay",), ("confidence",), ("class_pixels",), ("labels", "overlay")]
    with CudaSegmenter(CARD, FakeCudaBackend(CARD, device), slots=1) as segmenter:
        for outputs in (*asked[:4], asked[0], asked[4]):
            segmenter(image, outputs=outputs).wait()
            assert sim.counter("graph_execs") <= 4
        kernels = sim.counter("launches")
        segmenter(image, outputs=asked[0]).wait()
        assert sim.counter("launches") == kernels  # none by itself: its graph is there
        segmenter(image, outputs=asked[1]).wait()
        assert sim.counter("launches") > kernels
        assert_like_the_host(CARD, image, segmenter(image, outputs=asked[0]))


@pytest.mark.parametrize("outputs", [("labels",), ("overlay",), OUTPUTS])
def test_a_graph_that_computes_something_else_is_not_used(
    device: Device, sim: Control, outputs: tuple[str, ...]
) -> None:
    image = image_of(40, 56)
    with CudaSegmenter(CARD, FakeCudaBackend(CARD, device)) as segmenter:
        sim.break_replay(1 + len(outputs))  # the tail's last kernel, and the copies
        for _ in range(3):
            assert_like_the_host(CARD, image, segmenter(image, outputs=outputs))
        sim.break_replay(0)
        assert "replayed, it gives other" in segmenter.notes[0]

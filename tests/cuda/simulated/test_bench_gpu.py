"""`segedge bench` on a GPU: events, stages and timelines, on the simulated driver."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from segedge.backends.fake_cuda import FakeCudaBackend
from segedge.card.card import ModelCard
from segedge.card.geometry import Size
from segedge.cuda.runtime.device import Device
from segedge.errors import BackendError
from segedge.measure.bench.durations import Milliseconds, repeat
from segedge.measure.bench.worker.flow import FlowOptions, flow
from segedge.measure.bench.worker.job import Job
from segedge.measure.bench.worker.measure import Bench, _device_memory_mb, _figures
from segedge.measure.bench.worker.modes import device_stages, network_step
from segedge.measure.bench.worker.trace import Recorder
from segedge.segment.on_gpu import CudaSegmenter

CARD = ModelCard(("a", "b"), ((0, 0, 0), (255, 255, 0)), 48, 64, stride=8)
IMAGE = np.random.default_rng(0).integers(0, 256, (32, 48, 3), dtype=np.uint8)


def test_the_network_is_timed_by_events(device: Device) -> None:
    segmenter = CudaSegmenter(CARD, FakeCudaBackend(CARD, device), slots=1)
    step = network_step(segmenter)
    assert isinstance(step(), Milliseconds)
    assert all(value >= 0.0 for value in repeat(step, seconds=0.0, at_least=3))
    with pytest.raises(BackendError, match="does not take a batch of 4"):
        network_step(segmenter, 4)
    segmenter.close()


def test_stages_of_a_frame_are_those_of_the_gpu(device: Device) -> None:
    with CudaSegmenter(CARD, FakeCudaBackend(CARD, device)) as segmenter:
        stages = device_stages(segmenter, IMAGE)
    assert len(stages) == 20
    wanted = {"staging", "upload", "preprocess", "network", "tail", "download"}
    assert all(set(frame) == wanted for frame in stages)


def test_a_worker_measures_all_modes(device: Device, tmp_path: Path) -> None:
    job = Job("m.onnx", "tensorrt", ("network", "frame", "rate"), Size(32, 48), 0.01)
    with CudaSegmenter(CARD, FakeCudaBackend(CARD, device)) as segmenter:
        bench = Bench(job, segmenter, IMAGE, tmp_path)
        for mode in job.modes:
            assert len(_figures(bench, mode)["samples_ms"]) >= 10
        assert _device_memory_mb(segmenter) is not None


@pytest.mark.parametrize("timed", [True, False])
def test_the_timeline_has_the_work_of_the_gpu(device: Device, tmp_path: Path, timed: bool) -> None:
    recorder = Recorder()
    options = FlowOptions(0.01, at_least=3, recorder=recorder)
    with CudaSegmenter(CARD, FakeCudaBackend(CARD, device), timed=timed) as segmenter:
        flow(segmenter, IMAGE, options, folder=tmp_path)
    on_gpu = [span for span in recorder.spans if span.process == 2]
    assert {span.name for span in on_gpu} == (
        {"upload", "preprocess", "network", "tail", "download"} if timed else {"gpu"}
    )
    assert all(span.start_ns <= span.end_ns for span in on_gpu)
    frames = {span.frame for span in recorder.spans if span.name == "write"}
    assert {span.frame for span in on_gpu} == frames

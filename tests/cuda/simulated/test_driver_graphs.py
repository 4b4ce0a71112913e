"""The simulated driver, by the real cuda-core and cuda-bindings: graphs and capture."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from cuda.bindings import driver as cu
from cuda.core import Device, Stream
from driver.simulated import Control
from helpers import Error, Job, device, ok

__all__ = ["device"]

Mode = cu.CUstreamCaptureMode
GLOBAL, LOCAL, RELAXED = (
    Mode.CU_STREAM_CAPTURE_MODE_GLOBAL,
    Mode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL,
    Mode.CU_STREAM_CAPTURE_MODE_RELAXED,
)


def built(stream: Stream, enqueue: Callable[[Any], object]) -> Any:
    """A graph of cuda-core's builder."""
    builder = stream.create_graph_builder()
    builder.begin_building("relaxed")
    enqueue(builder)
    graph = builder.end_building().complete()
    builder.close()
    return graph


class Captured:
    """A graph captured by the driver's functions, as work of other libraries is."""

    def __init__(self, stream: Stream, enqueue: Callable[[Any], object], mode: Any = LOCAL) -> None:
        ok(cu.cuStreamBeginCapture(stream.handle, mode))
        try:
            enqueue(stream)
        finally:
            error, graph = cu.cuStreamEndCapture(stream.handle)
        ok((error, graph))
        self.size = ok(cu.cuGraphGetNodes(graph, 0))[1]
        self.exec = ok(cu.cuGraphInstantiate(graph, 0))
        ok(cu.cuGraphDestroy(graph))

    def launch(self, stream: Stream) -> None:
        ok(cu.cuGraphLaunch(self.exec, stream.handle))

    def close(self) -> None:
        ok(cu.cuGraphExecDestroy(self.exec))


@pytest.mark.parametrize("make", [built, Captured])
@pytest.mark.parametrize("defer", [0, 1])
def test_a_graph_is_replayed_with_new_input(
    stream: Stream, job: Job, sim: Control, make: Any, defer: int
):
    sim.set("defer", defer)
    graph = make(stream, job.enqueue)
    stream.sync()
    assert job.is_fresh(), "a captured kernel does not run"
    for _ in range(3):
        job.fill()
        assert not job.is_right()
        graph.launch(stream)
        assert job.is_right() == (not defer)
        stream.sync()
        assert job.is_right()
    assert sim.counter("graph_launches") == sim.counter("kernels") == 3
    assert sim.counter("launches") == 0
    graph.close()


def test_parameters_are_those_of_the_capture(stream: Stream, job: Job):
    pointer = int(job.tensor.handle)
    value = [1]
    graph = Captured(stream, lambda s: ok(cu.cuMemsetD8Async(pointer, value[0], 64, s.handle)))
    value[0] = 2
    graph.launch(stream)
    stream.sync()
    assert job.raw[0] == 1
    graph.close()


def test_info_while_capturing(stream: Stream, job: Job):
    def enqueue(s: Stream) -> None:
        status, _, graph, nodes, *_ = ok(cu.cuStreamGetCaptureInfo(s.handle))
        assert status == cu.CUstreamCaptureStatus.CU_STREAM_CAPTURE_STATUS_ACTIVE
        assert int(graph)
        assert not nodes
        job.preprocess(s)
        *_, count = ok(cu.cuStreamGetCaptureInfo(s.handle))
        assert count == 1

    Captured(stream, enqueue).close()
    status = ok(cu.cuStreamIsCapturing(stream.handle))
    assert status == cu.CUstreamCaptureStatus.CU_STREAM_CAPTURE_STATUS_NONE


@pytest.mark.parametrize(
    "call",
    [
        lambda s: cu.cuStreamSynchronize(s.handle)[0],
        lambda s: cu.cuStreamQuery(s.handle)[0],
        lambda s: cu.cuCtxSynchronize()[0],
        lambda s: cu.cuMemAlloc(64)[0],
        lambda s: cu.cuMemAllocHost(64)[0],
        lambda s: cu.cuModuleLoadData(b"SHIM:no\0")[0],
        lambda s: cu.cuMemcpyHtoD(0, 0, 64)[0],
    ],
)
def test_what_a_capture_forbids(device: Device, stream: Stream, job: Job, call: Any):
    def enqueue(s: Stream) -> None:
        job.preprocess(s)
        assert call(s) == Error.CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED
        with pytest.raises(Exception, match="CUDA_ERROR_STREAM_CAPTURE_INVALIDATED"):
            job.preprocess(s)

    with pytest.raises(AssertionError, match="CUDA_ERROR_STREAM_CAPTURE_INVALIDATED"):
        Captured(stream, enqueue, GLOBAL)
    job.enqueue(stream)  # the stream is as before
    stream.sync()
    assert job.is_right()


def test_a_relaxed_capture_forbids_less(stream: Stream, job: Job):
    def enqueue(s: Stream) -> None:
        ok(cu.cuMemFree(ok(cu.cuMemAlloc(64))))
        job.enqueue(s)

    graph = Captured(stream, enqueue, RELAXED)
    graph.launch(stream)
    stream.sync()
    assert job.is_right()
    graph.close()


@pytest.mark.parametrize(("mode", "is_refused"), [(GLOBAL, True), (LOCAL, False)])
def test_another_thread_during_a_capture(
    device: Device, stream: Stream, job: Job, mode: Any, is_refused: bool
):
    found: list[Any] = []

    def allocate() -> None:
        device.set_current()
        found.append(cu.cuMemAllocHost(64))

    def enqueue(s: Stream) -> None:
        thread = threading.Thread(target=allocate)
        thread.start()
        thread.join()
        job.enqueue(s)

    if is_refused:
        with pytest.raises(Exception, match="CUDA_ERROR_STREAM_CAPTURE_INVALIDATED"):
            Captured(stream, enqueue, mode)
        assert found[0][0] == Error.CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED
    else:
        Captured(stream, enqueue, mode).close()
        ok(cu.cuMemFreeHost(ok(found[0])))


def test_events_of_a_capture_cannot_be_waited_for(stream: Stream, job: Job):
    event = ok(cu.cuEventCreate(0))

    def enqueue(s: Stream) -> None:
        ok(cu.cuEventRecord(event, s.handle))
        assert cu.cuEventQuery(event)[0] == Error.CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED

    with pytest.raises(AssertionError, match="INVALIDATED"):
        Captured(stream, enqueue)
    assert cu.cuEventSynchronize(event)[0] == Error.CUDA_ERROR_CAPTURED_EVENT
    ok(cu.cuEventDestroy(event))


def forked(job: Job, other: Stream, *, waits: bool, joins: bool) -> Callable[[Stream], None]:
    """Copies in on one stream, the kernel on another."""
    fork, join = ok(cu.cuEventCreate(0)), ok(cu.cuEventCreate(0))

    def enqueue(s: Stream) -> None:
        ok(cu.cuEventRecord(fork, s.handle))
        job.frame.copy_to(job.device_frame, stream=s)
        if waits:
            ok(cu.cuEventRecord(fork, s.handle))
        ok(cu.cuStreamWaitEvent(other.handle, fork, 0))
        job.preprocess(other)
        if joins:
            ok(cu.cuEventRecord(join, other.handle))
            ok(cu.cuStreamWaitEvent(s.handle, join, 0))
        job.device_tensor.copy_to(job.tensor, stream=s)
        ok(cu.cuEventDestroy(fork))
        ok(cu.cuEventDestroy(join))

    return enqueue


@pytest.mark.parametrize("waits", [True, False])
def test_a_capture_spreads_to_a_stream_that_waits(
    device: Device, stream: Stream, job: Job, waits: bool
):
    other = device.create_stream()
    graph = Captured(stream, forked(job, other, waits=waits, joins=True))
    graph.launch(stream)
    stream.sync()
    assert job.is_right() == waits, "a dependency that was not captured shows"
    graph.close()
    other.close()


def test_a_capture_must_be_joined(device: Device, stream: Stream, job: Job):
    other = device.create_stream()
    with pytest.raises(AssertionError, match="CUDA_ERROR_STREAM_CAPTURE_UNJOINED"):
        Captured(stream, forked(job, other, waits=True, joins=False))
    job.enqueue(other)
    other.sync()
    assert job.is_right()
    other.close()


def test_cuda_core_splits_and_joins(stream: Stream, job: Job):
    def enqueue(builder: Any) -> None:
        job.frame.copy_to(job.device_frame, stream=builder)
        left, right = builder.split(2)
        job.preprocess(left)
        builder.join(left, right)
        job.device_tensor.copy_to(job.tensor, stream=left)

    graph = built(stream, enqueue)
    graph.launch(stream)
    stream.sync()
    assert job.is_right()
    graph.close()


def test_the_legacy_stream_spoils_the_capture_of_a_blocking_stream(device: Device, job: Job):
    blocking = Stream.from_handle(int(ok(cu.cuStreamCreate(0))))

    def enqueue(s: Stream) -> None:
        job.preprocess(s)
        result = cu.cuMemsetD8Async(int(job.tensor.handle), 1, 64, 0)[0]
        assert result == Error.CUDA_ERROR_STREAM_CAPTURE_IMPLICIT

    with pytest.raises(AssertionError, match="INVALIDATED"):
        Captured(blocking, enqueue)
    ok(cu.cuStreamDestroy(blocking.handle))


@pytest.mark.parametrize("stage", [0, 1, 2])
def test_a_capture_can_be_refused(stream: Stream, job: Job, sim: Control, stage: int):
    sim.refuse_capture(stage)
    with pytest.raises(Exception, match=r"CUDA_ERROR_(STREAM_CAPTURE|NOT_SUPPORTED)"):
        built(stream, job.enqueue)
    if ok(cu.cuStreamIsCapturing(stream.handle)).value:
        cu.cuStreamEndCapture(stream.handle)
    graph = built(stream, job.enqueue)  # only once
    graph.launch(stream)
    stream.sync()
    assert job.is_right()
    graph.close()


def test_a_replay_can_be_broken(stream: Stream, job: Job, sim: Control):
    graph = built(stream, job.enqueue)
    sim.break_replay()
    graph.launch(stream)
    stream.sync()
    assert job.is_fresh(), "the last node is the copy back"
    sim.break_replay(0)
    graph.launch(stream)
    stream.sync()
    assert job.is_right()
    graph.close()


def test_an_update_must_have_the_same_shape(stream: Stream, job: Job):
    graph = Captured(stream, job.enqueue)
    assert graph.size == 3
    ok(cu.cuStreamBeginCapture(stream.handle, LOCAL))
    job.frame.copy_to(job.device_frame, stream=stream)
    job.preprocess(stream)
    shorter = ok(cu.cuStreamEndCapture(stream.handle))
    ok(cu.cuStreamBeginCapture(stream.handle, LOCAL))
    job.enqueue(stream)
    same = ok(cu.cuStreamEndCapture(stream.handle))
    result = cu.cuGraphExecUpdate(graph.exec, shorter)[0]
    assert result == Error.CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE
    ok(cu.cuGraphExecUpdate(graph.exec, same))
    ok(cu.cuGraphDestroy(shorter))
    ok(cu.cuGraphDestroy(same))
    graph.launch(stream)
    stream.sync()
    assert job.is_right()
    graph.close()


def test_launches_of_one_graph_follow_each_other(device: Device, stream: Stream, job: Job):
    other = device.create_stream()
    graph = Captured(stream, job.enqueue)
    graph.launch(stream)
    graph.launch(other)
    other.sync()
    job.raw[:] = 0
    stream.sync()
    assert not job.raw.any(), "the first launch was done before the second"
    graph.close()
    other.close()


def test_host_functions_are_captured_and_kept(stream: Stream, job: Job, sim: Control):
    seen: list[int] = []
    pointer = int(job.tensor.handle)

    def enqueue(builder: Any) -> None:
        ok(cu.cuMemsetD8Async(pointer, 5, 64, builder.stream.handle))
        builder.callback(lambda: seen.append(int(job.raw[0])))

    graph = built(stream, enqueue)
    for _ in range(2):
        graph.launch(stream)
        stream.sync()
    assert seen == [5, 5]
    graph.close()


def test_a_pending_graph_may_be_closed(stream: Stream, job: Job):
    graph = built(stream, job.enqueue)
    graph.launch(stream)
    graph.close()
    stream.sync()
    assert job.is_right()


def test_memory_that_a_graph_uses_must_live(stream: Stream, job: Job, sim: Control):
    memory = ok(cu.cuMemAlloc(64))
    graph = Captured(stream, lambda s: ok(cu.cuMemsetD8Async(memory, 1, 64, s.handle)))
    graph.launch(stream)
    stream.sync()
    assert np.all(sim.view(int(memory), (64,)) == 1)
    ok(cu.cuMemFree(memory))
    graph.launch(stream)
    with pytest.raises(Exception, match="CUDA_ERROR_ILLEGAL_ADDRESS"):
        stream.sync()
    sim.reset()
    graph.close()

"""The simulated driver, by the real cuda-core and cuda-bindings: threads and host functions."""

from __future__ import annotations

import ctypes
import threading

from cuda.bindings import driver as cu
from cuda.core import Device, Stream
from driver.simulated import Control
from helpers import Error, Job, device, ok

__all__ = ["device"]


def test_threads_need_a_context(device: Device):
    found: list[Error] = []
    thread = threading.Thread(target=lambda: found.append(cu.cuMemAlloc(64)[0]))
    thread.start()
    thread.join()
    assert found == [Error.CUDA_ERROR_INVALID_CONTEXT]


def test_threads_share_the_driver(device: Device, sim: Control):
    right: list[bool] = []

    def work() -> None:
        device.set_current()
        stream = device.create_stream()
        job = Job(device, stream)
        for _ in range(10):
            job.fill()
            job.enqueue(stream)
            stream.sync()
            right.append(job.is_right())
        job.close(stream)
        stream.close()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert right == [True] * 40


def test_a_host_function_runs_in_order_and_without_the_driver(stream: Stream, job: Job):
    seen: list[object] = []

    def look(_: int) -> None:
        seen.append(int(job.raw[0]))
        seen.append(cu.cuCtxSynchronize()[0])

    function = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(look)
    pointer = ctypes.cast(function, ctypes.c_void_p).value
    ok(cu.cuMemsetD8Async(int(job.tensor.handle), 1, 64, stream.handle))
    ok(cu.cuLaunchHostFunc(stream.handle, cu.CUhostFn(pointer), 0))
    ok(cu.cuMemsetD8Async(int(job.tensor.handle), 2, 64, stream.handle))
    assert not seen
    stream.sync()
    assert seen == [1, Error.CUDA_ERROR_NOT_PERMITTED]
    assert job.raw[0] == 2


def test_other_threads_go_on_during_a_host_function(device: Device, stream: Stream, job: Job):
    """And those that wait for the same stream wait for it."""
    entered, used, order = threading.Event(), threading.Event(), []

    def slow(_: int) -> None:
        entered.set()
        used.wait(10)
        order.append("function")

    def use_the_driver() -> None:
        device.set_current()
        entered.wait(10)
        for _ in range(20):
            device.allocate(64, stream=stream).close(stream)
            stream.record().close()
        order.append("used")
        used.set()
        stream.sync()
        order.append("waited")

    function = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(slow)
    pointer = ctypes.cast(function, ctypes.c_void_p).value
    ok(cu.cuLaunchHostFunc(stream.handle, cu.CUhostFn(pointer), 0))
    job.enqueue(stream)
    thread = threading.Thread(target=use_the_driver, daemon=True)
    thread.start()
    stream.sync()
    thread.join(10)
    assert order == ["used", "function", "waited"]
    assert job.is_right()


def test_a_second_context(device: Device, sim: Control):
    mine = ok(cu.cuCtxCreate(None, 0, 0))
    handle = ok(cu.cuStreamCreate(1))
    assert int(ok(cu.cuStreamGetCtx(handle))) == int(mine)
    ok(cu.cuStreamDestroy(handle))
    ok(cu.cuCtxDestroy(mine))
    assert cu.cuMemAlloc(64)[0] == Error.CUDA_ERROR_INVALID_CONTEXT
    device.set_current()

"""The simulated driver, by the real cuda-core and cuda-bindings: memory, streams, kernels, errors.

Where it is stricter or lazier than it looks (deferred work, addresses that the host cannot read),
there is a test for it: the tests of the device layer rely on that.
"""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from cuda.bindings import driver as cu
from cuda.core import Device, EventOptions, Stream
from driver.simulated import HERE, Control, run_simulated
from helpers import FRAME, FRESH, Error, Job, device, ok, pinned

from segedge.cuda.runtime.program import Plane
from segedge.machine.gpu import find_driver

__all__ = ["device"]

TIMED = EventOptions(timing_enabled=True)


def test_device(device: Device):
    assert device.name == "Simulated GPU"
    assert device.arch == "87"
    assert not device.properties.integrated
    assert device.properties.multiprocessor_count == 16


def test_settings_of_the_environment():
    code = (
        "from segedge.machine.gpu import find_driver; print(find_driver());"
        "from cuda.core import Device; print(Device(1).properties.integrated)"
    )
    done = run_simulated(
        code, devices=2, capability=72, integrated=1, driver=12060, memory_bytes=1 << 30
    )
    assert "name='Simulated GPU', capability=(7, 2), memory_bytes=1073741824" in done.stdout
    assert "integrated=True), cuda=(12, 6)" in done.stdout
    assert done.stdout.endswith("True\n"), done.stderr


@pytest.mark.parametrize("code", [100, 803])
def test_a_driver_that_does_not_start(code: int):
    done = run_simulated(
        "from segedge.machine.gpu import find_driver; print(find_driver())", init=code
    )
    assert f"(code {code})" in done.stdout


def test_our_own_look_at_the_driver():
    driver = find_driver()
    assert driver.gpu is not None
    assert str(driver) == str(find_driver())
    assert (driver.gpu.sm, driver.gpu.memory_bytes, driver.cuda) == ("sm_87", 8 << 30, (13, 0))


def test_copies_and_events(stream: Stream, device: Device):
    there, back = pinned(1 << 12, stream), pinned(1 << 12, stream)
    buffer = device.allocate(1 << 12, stream=stream)
    there[1][:] = np.arange(1 << 12) % 251
    start = stream.record(options=TIMED)
    there[0].copy_to(buffer, stream=stream)
    buffer.copy_to(back[0], stream=stream)
    end = stream.record(options=TIMED)
    assert np.all(back[1] == FRESH)
    assert not end.is_done  # says so once,
    assert end.is_done  # then the work gets done
    assert np.array_equal(back[1], there[1])
    assert 0 <= end - start < 10_000
    buffer.close(stream)


def test_a_kernel_runs_when_somebody_waits(stream: Stream, job: Job, sim: Control):
    job.enqueue(stream)
    assert sim.counter("kernels") == 0
    assert job.is_fresh()
    assert sim.counter("waiting") > 0
    stream.sync()
    assert job.is_right()
    assert sim.counter("kernels") == sim.counter("launches") == 1
    assert sim.counter("waiting") == 0


def test_a_kernel_runs_at_once(stream: Stream, job: Job, sim: Control):
    sim.set("defer", 0)
    job.enqueue(stream)
    assert job.is_right()


def test_an_input_that_changes_too_early_is_noticed(stream: Stream, job: Job):
    job.enqueue(stream)
    first = job.image.copy()
    job.fill()
    stream.sync()
    assert job.is_right(), "the copy took what was there when it ran"
    job.image[:] = first
    assert not job.is_right()


def test_streams_wait_for_events_only(device: Device, stream: Stream, job: Job, sim: Control):
    other = device.create_stream()
    job.frame.copy_to(job.device_frame, stream=other)
    copied = other.record()
    job.preprocess(stream)
    job.device_tensor.copy_to(job.tensor, stream=stream)
    stream.sync()
    assert not job.is_right(), "nobody told it to wait for the copy"
    job.preprocess(other)  # later than the event: still waits below
    stream.wait(copied)
    job.preprocess(stream)
    job.device_tensor.copy_to(job.tensor, stream=stream)
    stream.sync()
    assert job.is_right()
    assert sim.counter("waiting") == 1
    other.sync()
    other.close()


def test_a_closed_stream_still_does_its_work(device: Device, job: Job):
    other = device.create_stream()
    job.enqueue(other)
    other.close()
    assert job.is_fresh()
    ok(cu.cuCtxSynchronize())  # Device.sync is the CUDA runtime's, which is not simulated
    assert job.is_right()


def test_the_legacy_stream_orders_blocking_streams(device: Device, stream: Stream, job: Job):
    ok(cu.cuMemsetD8(int(job.device_tensor.handle), 7, job.tensor_size))  # returns at once
    job.device_tensor.copy_to(job.tensor, stream=stream)  # does not block: sees nothing of it
    stream.sync()
    assert job.is_fresh()
    blocking = ok(cu.cuStreamCreate(0))
    raw = job.raw.ctypes.data
    ok(cu.cuMemcpyDtoHAsync(raw, int(job.device_tensor.handle), job.tensor_size, blocking))
    ok(cu.cuStreamSynchronize(blocking))
    assert np.all(job.raw == 7)
    ok(cu.cuStreamDestroy(blocking))


def test_pageable_memory_is_staged(device: Device, stream: Stream, sim: Control):
    source, target = np.full(64, 3, np.uint8), np.zeros(64, np.uint8)
    buffer = device.allocate(64, stream=stream)
    pointer = int(buffer.handle)
    ok(cu.cuMemcpyHtoDAsync(pointer, source.ctypes.data, 64, stream.handle))
    source[:] = 4
    assert np.all(sim.view(pointer, (64,)) == FRESH)
    ok(cu.cuMemcpyDtoHAsync(target.ctypes.data, pointer, 64, stream.handle))
    assert np.all(target == 3), "a copy to pageable memory returns when it is done"
    assert sim.counter("pageable_copies") == sim.counter("copies") == 2
    buffer.close(stream)


def test_rows_with_pitches(device: Device, stream: Stream, sim: Control):
    (source, rows), (target, flat) = pinned(4 * 16, stream), pinned(4 * 10, stream)
    rows[:] = np.arange(64)
    what = cu.CUDA_MEMCPY2D()
    what.srcMemoryType = what.dstMemoryType = cu.CUmemorytype.CU_MEMORYTYPE_UNIFIED
    what.srcDevice, what.srcPitch, what.srcXInBytes = int(source.handle), 16, 2
    what.dstDevice, what.dstPitch = int(target.handle), 10
    what.WidthInBytes, what.Height = 10, 4
    ok(cu.cuMemcpy2DAsync(what, stream.handle))
    stream.sync()
    assert np.array_equal(flat.reshape(4, 10), np.arange(64).reshape(4, 16)[:, 2:12])
    ok(cu.cuMemsetD2D32Async(int(target.handle), 20, 0x01020304, 2, 2, stream.handle))
    stream.sync()
    assert np.array_equal(flat.reshape(2, 20)[:, :8], [[4, 3, 2, 1] * 2] * 2)
    assert np.array_equal(flat[8:10], [10, 11])


def test_out_of_memory(device: Device, stream: Stream, sim: Control):
    sim.set("memory_bytes", 1 << 20)
    first = device.allocate(3 << 18, stream=stream)
    assert ok(cu.cuMemGetInfo()) == (1 << 18, 1 << 20)
    with pytest.raises(Exception, match="CUDA_ERROR_OUT_OF_MEMORY"):
        device.allocate(3 << 18, stream=stream)
    first.close(stream)
    stream.sync()
    device.allocate(3 << 18, stream=stream).close(stream)


def test_pinned_memory_of_an_integrated_device_counts(device: Device, stream: Stream, sim: Control):
    sim.set("memory_bytes", 1 << 20)
    pinned(1 << 21, stream)
    sim.set("integrated", 1)
    with pytest.raises(Exception, match="CUDA_ERROR_OUT_OF_MEMORY"):
        pinned(1 << 21, stream)


def test_pointers(job: Job, sim: Control):
    names = cu.CUpointer_attribute
    kind = names.CU_POINTER_ATTRIBUTE_MEMORY_TYPE
    on_device, on_host = int(job.device_frame.handle), int(job.frame.handle)
    assert int(ok(cu.cuPointerGetAttribute(kind, on_device + 5))) == 2
    assert int(ok(cu.cuPointerGetAttribute(kind, on_host))) == 1
    assert int(ok(cu.cuMemHostGetDevicePointer(on_host, 0))) == on_host
    base, size = ok(cu.cuMemGetAddressRange(on_device + 5))
    assert (int(base), size) == (on_device, job.frame_size)
    unknown = np.zeros(8, np.uint8).ctypes.data
    assert cu.cuPointerGetAttribute(kind, unknown)[0] == Error.CUDA_ERROR_INVALID_VALUE


def test_registered_memory_is_pinned(stream: Stream, job: Job, sim: Control):
    mine = np.zeros(job.tensor_size, np.uint8)
    ok(cu.cuMemHostRegister(mine.ctypes.data, mine.nbytes, 0))
    pointer = int(job.device_tensor.handle)
    ok(cu.cuMemcpyDtoHAsync(mine.ctypes.data, pointer, mine.nbytes, stream.handle))
    assert not mine.any()
    stream.sync()
    assert np.all(mine == FRESH)
    ok(cu.cuMemHostUnregister(mine.ctypes.data))


def test_the_host_cannot_read_device_memory():
    code = (
        "import ctypes\nfrom cuda.core import Device\ndevice = Device(0)\ndevice.set_current()\n"
        "buffer = device.allocate(64, stream=device.create_stream())\nprint('ready')\n"
        "ctypes.string_at(int(buffer.handle), 4)\nprint('read')\n"
    )
    done = run_simulated(code)
    assert done.stdout == "ready\n"
    assert "Segmentation fault" in done.stderr


def test_a_kernel_cannot_reach_pageable_memory(stream: Stream, job: Job, sim: Control):
    mine = np.zeros(job.frame_size, np.uint8)
    job.preprocess(stream, frame=mine.ctypes.data)
    with pytest.raises(Exception, match="CUDA_ERROR_ILLEGAL_ADDRESS"):
        stream.sync()
    assert cu.cuMemAlloc(64)[0] == Error.CUDA_ERROR_ILLEGAL_ADDRESS, "broken for good"
    assert "parameter 0 points at memory that the device cannot reach" in sim.error()
    sim.reset()
    stream.sync()


def test_work_on_freed_memory(device: Device, stream: Stream, job: Job, sim: Control):
    memory = ok(cu.cuMemAlloc(job.frame_size))
    job.preprocess(stream, frame=int(memory))
    ok(cu.cuMemFree(memory))
    with pytest.raises(Exception, match="CUDA_ERROR_ILLEGAL_ADDRESS"):
        stream.sync()
    sim.reset()
    assert cu.cuMemFree(memory)[0] == Error.CUDA_ERROR_INVALID_VALUE


def test_writing_next_to_memory_is_counted(stream: Stream, job: Job, sim: Control):
    _, bytes_of = pinned(64, stream)
    after = (ctypes.c_ubyte * 65).from_address(bytes_of.ctypes.data)
    after[64] = 1
    assert sim.counter("overruns") == 1
    sim.reset()
    assert sim.counter("overruns") == 0


def test_launches_are_checked(stream: Stream, job: Job):
    launch = job.programs.launcher(stream)
    values = [int(job.device_frame.handle)] * 40
    for grid, block in [((1, 1), (32, 64)), ((1, 70000), (32, 1))]:
        with pytest.raises(Exception, match="CUDA_ERROR_INVALID_VALUE"):
            launch(job.kernel, grid, block, values)


def test_unknown_functions_say_so():
    code = (
        "from cuda.bindings import driver as cu\ncu.cuInit(0)\n"
        "print(cu.cuTexRefCreate()[0].name)\n"
        "try:\n    cu.cuLogicalEndpointIdRelease(0, 0)\nexcept Exception as e: print(e)\n"
    )
    done = run_simulated(code, verbose=1)
    assert done.stdout.startswith("CUDA_ERROR_NOT_SUPPORTED\n"), done.stderr
    assert "not found" in done.stdout, "newer than the driver"
    assert "cuTexRefCreate is not simulated" in done.stderr


def test_functions_are_as_in_cuda_h():
    """Types and functions compiled against NVIDIA's own header, where there is one."""
    compiler = shutil.which("nvcc")
    roots = [Path(compiler).parents[1]] if compiler else []
    roots.append(Path("/usr/local/cuda"))
    header = next((root / "include" for root in roots if (root / "include/cuda.h").exists()), None)
    if header is None:
        pytest.skip("no cuda.h on this machine")
    done = subprocess.run(
        ["g++", "-std=c++17", "-fsyntax-only", "-DSIMCUDA_HEADER", f"-I{header}",
         str(HERE / "driver.cpp")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[:2000]


def test_planes_may_start_inside_an_allocation(stream: Stream, job: Job):
    inside = Plane(int(job.device_frame.handle), FRAME.width * 3).at(2, 3)
    assert inside.pointer == int(job.device_frame.handle) + 2 * FRAME.width * 3 + 3
    job.enqueue(stream)
    stream.sync()

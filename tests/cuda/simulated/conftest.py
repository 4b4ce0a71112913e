"""Every test here starts with a sound, deferred driver and leaves it without errors."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import Any

import pytest
from driver.simulated import Control
from helpers import Job
from shim.launcher import machine_code

from segedge.cuda.runtime import program
from segedge.cuda.runtime.device import Device
from segedge.cuda.runtime.program import Kernel

DEFAULTS = {"defer": 1, "memory_bytes": 8 << 30, "integrated": 0, "pools": 1, "capability": 87}


@pytest.fixture(scope="session")
def driver() -> Control:
    return Control()


@pytest.fixture(scope="session", autouse=True)
def shim_kernels() -> Iterator[None]:
    """Kernels come as paths of shim libraries, which the simulated driver loads."""

    def compile_for(kernel: Kernel, arch: str, **_: object) -> bytes:
        return machine_code(kernel)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(program, "compile_for", compile_for)
        yield


@pytest.fixture(autouse=True)
def sim(driver: Control) -> Iterator[Control]:
    driver.reset()
    for name, value in DEFAULTS.items():
        driver.set(name, value)
    yield driver
    error, overruns = driver.error(), driver.counter("overruns")
    driver.reset()
    assert not error
    assert not overruns, "memory was written next to an allocation; see stderr"


@pytest.fixture
def no_leaks(sim: Control) -> Iterator[None]:
    """Everything that the test made is gone at its end."""
    before = _counts(sim, {})
    yield
    assert _counts(sim, before) == before


@pytest.fixture
def device(no_leaks: None) -> Device:
    """The simulated GPU; afterwards nothing of it may be left."""
    return Device.open()


@pytest.fixture
def stream(device: Any) -> Iterator[Any]:
    """A stream of the device, which is whatever a file's tests call it."""
    stream = device.create_stream()
    yield stream
    stream.close()


@pytest.fixture
def job(device: Any, stream: Any) -> Iterator[Job]:
    job = Job(device, stream)
    job.fill()
    yield job
    job.close(stream)


def _counts(sim: Control, expected: dict[str, int]) -> dict[str, int]:
    """What there is of each kind; garbage is collected only where it matters: that takes long."""
    names = ("live_allocations", "streams", "events", "graphs", "graph_execs", "captures")
    sim.settle()  # memory goes back in the order of a stream
    counts = {name: sim.counter(name) for name in names}
    if any(counts[name] != expected.get(name, 0) for name in names):
        gc.collect()
        sim.settle()
        counts = {name: sim.counter(name) for name in names}
    return counts

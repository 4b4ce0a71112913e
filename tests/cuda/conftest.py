"""GPU tests and what they share; what lies in ``simulated/`` needs the simulated driver.

A test marked ``gpu`` is skipped with the reason where there is no GPU, and fails there under
SEGEDGE_REQUIRE_GPU=1: that switch is `shim.gpu.absent` and nowhere else.
"""

from __future__ import annotations

import os

import pytest
from shim.gpu import GpuLauncher, absent, gpu_problem
from shim.launcher import ShimLauncher, has_compiler

from segedge.cuda.runtime.device import Device

# test_simulated.py runs that folder in a child process.
collect_ignore_glob = [] if os.environ.get("SIMCUDA") else ["simulated/*"]


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu") and (reason := gpu_problem()):
        absent(reason)


@pytest.fixture(scope="session")
def gpu() -> Device:
    """The first GPU; for tests marked ``gpu``."""
    return Device.open()


@pytest.fixture(params=["shim", pytest.param("gpu", marks=pytest.mark.gpu)])
def launcher(request: pytest.FixtureRequest) -> ShimLauncher | GpuLauncher:
    """Where kernels run: on the CPU through the shim, and on a GPU where there is one."""
    if request.param == "gpu":
        return GpuLauncher(request.getfixturevalue("gpu"))
    if not has_compiler():
        pytest.skip("g++ is not installed")
    return ShimLauncher()

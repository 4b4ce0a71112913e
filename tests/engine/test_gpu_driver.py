"""The driver is asked through its C interface: here a small one, compiled for the test."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from segedge.machine import gpu as gpu_module
from segedge.machine.gpu import Gpu, find_driver, is_tegra


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler")
    path = tmp_path_factory.mktemp("cuda") / "libcuda.so.1"
    source = Path(__file__).with_name("libcuda.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-o", path, source], check=True)
    return path


@pytest.fixture(autouse=True)
def fake(library: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_module, "_LIBRARY", str(library))


def test_a_gpu() -> None:
    driver = find_driver()
    assert driver.gpu == Gpu("Orin", (8, 7), 8 << 30, True)
    assert str(driver.gpu) == "Orin (sm_87)"
    assert (driver.cuda, driver.problem) == ((13, 1), "")


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("FAKE_CUINIT", "100", "finds no GPU (code 100)"),
        ("FAKE_CUINIT", "803", "reboot"),
        ("FAKE_CUINIT", "77", "cuInit code 77"),
        ("FAKE_GPUS", "0", "finds 0 GPUs"),
    ],
)
def test_no_gpu(monkeypatch: pytest.MonkeyPatch, variable: str, value: str, words: str) -> None:
    monkeypatch.setenv(variable, value)
    driver = find_driver()
    assert driver.gpu is None
    assert driver.cuda == (13, 1)
    assert words in driver.problem


def test_the_older_version_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_CUDA", "12060")
    assert find_driver().cuda_text == "CUDA 12.6"


def test_tegra_by_its_marks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    marks = [tmp_path / name for name in ("release", "fuse", "family")]
    monkeypatch.setattr(gpu_module, "_TEGRA_MARKS", tuple(map(str, marks)))
    assert not is_tegra()
    marks[2].write_text("Tegra\n")
    assert is_tegra()
    marks[2].unlink()
    marks[0].write_text("R36")
    assert is_tegra()

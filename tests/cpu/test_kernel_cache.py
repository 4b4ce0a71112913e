"""Compiled kernels are kept between processes, never stale, never another CPU's."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from segedge.cpu.kernels import kept
from segedge.cpu.kernels.kept import kernel_folder_name
from tests.processes import PIPES, started

_TINY = """
import sys
import numpy as np
from segedge.cpu.kernels.compiled import njit

@njit(cache=True)
def add(a, b):
    return a + b

assert add(*np.ones(2, sys.argv[1])) == 2
print(int("numba" not in sys.modules))
"""


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Any]:
    """A process that calls a tiny kernel on one type and prints whether it did without Numba."""
    (tmp_path / "tiny.py").write_text(_TINY)

    def start(dtype: str = "float32", **environment: str) -> subprocess.Popen[str]:
        variables = {**os.environ, "SEGEDGE_CACHE_DIR": str(tmp_path / "cache"), **environment}
        variables["PYTHONPATH"] = str(Path(__file__).parents[2])
        words = [sys.executable, tmp_path / "tiny.py", dtype]
        return running.enter_context(started(words, env=variables, **PIPES))

    with ExitStack() as running:
        yield start


def hits(process: subprocess.Popen[str]) -> int:
    out, err = process.communicate()
    assert process.returncode == 0, err
    return int(out)


def kernels(folder: Path) -> list[Path]:
    return sorted((folder / "cache" / "cpu").rglob("*.kernel"))


def test_compiled_once_by_processes_that_start_together(start: Any, tmp_path: Path) -> None:
    """Numba's own index of a function may give one of them the other's machine code."""
    together = [start("float32"), start("float64")]
    assert [hits(one) for one in together] == [0, 0]
    assert [hits(start("float32")), hits(start("float64"))] == [1, 1]
    assert len(kernels(tmp_path)) == 2


def test_a_damaged_one_is_compiled_again(start: Any, tmp_path: Path) -> None:
    hits(start())
    (kernel,) = kernels(tmp_path)
    kernel.write_bytes(kernel.read_bytes()[:-1])
    assert [hits(start()), hits(start())] == [0, 1]


@pytest.mark.parametrize("data", [b"xy", b"\2\0\0\0{}", b"\3\0\0\0[1]", b"\xff\0\0\0["])
def test_what_is_no_machine_code_is_compiled_again(start: Any, tmp_path: Path, data: bytes) -> None:
    hits(start())
    (kernel,) = kernels(tmp_path)
    kernel.write_bytes(hashlib.sha256(data).digest() + data)
    assert [hits(start()), hits(start())] == [0, 1]


def test_another_cpu_has_its_own(start: Any, tmp_path: Path) -> None:
    assert hits(start()) == 0
    assert hits(start(NUMBA_CPU_NAME="generic")) == 0
    assert hits(start(NUMBA_CPU_NAME="generic")) == 1
    assert len({kernel.parent for kernel in kernels(tmp_path)}) == 2


def test_features_that_the_cpu_lacks_are_refused(start: Any) -> None:
    process = start(NUMBA_CPU_FEATURES="+sse2,+no-such-thing")
    _, err = process.communicate()
    assert process.returncode != 0
    assert "NUMBA_CPU_FEATURES asks for what this CPU does not have" in err
    assert "no-such-thing" in err


def test_every_source_and_version_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A kernel calls into other files; an edit there must not leave it as it was."""

    def name() -> str:
        kernel_folder_name.cache_clear()
        kept._digest.cache_clear()
        return kernel_folder_name()

    monkeypatch.setattr(kept, "_SOURCES", tmp_path)
    (tmp_path / "kernels").mkdir()
    (tmp_path / "kernels" / "cells.py").write_text("1")
    names = [name()]
    (tmp_path / "kernels" / "cells.py").write_text("2")
    names.append(name())
    monkeypatch.setattr(kept, "__version__", "0.0.0")
    names.append(name())
    monkeypatch.setattr(kept, "installed_version", lambda name: "0.0.0")
    names.append(name())
    monkeypatch.setattr(kept, "cpu_digest", lambda: "another")
    names.append(name())
    monkeypatch.setattr(kept, "cpu_label", lambda: "generic")
    assert name().startswith("generic-")
    assert len(set(names)) == 5
    kernel_folder_name.cache_clear()
    kept._digest.cache_clear()


def test_what_a_month_saw_no_use_of_goes(tmp_path: Path) -> None:
    for name, days in (("used", 29), ("unused", 31)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "add.kernel").write_bytes(b"")
        os.utime(tmp_path / name, (time.time() - days * 24 * 3600,) * 2)
    kept._drop_unused(tmp_path)
    assert [folder.name for folder in tmp_path.iterdir()] == ["used"]
    kept._drop_unused(tmp_path / "absent")


def test_without_a_compiler_kept_ones_run_and_others_are_refused(start: Any) -> None:
    refused = start(NUMBA_DISABLE_JIT="1")
    assert "NUMBA_DISABLE_JIT is set" in refused.communicate()[1]
    assert hits(start()) == 0
    assert hits(start(NUMBA_DISABLE_JIT="1")) == 1


def test_what_numba_is_asked_for_while_debugging_is_not_kept_for_others(
    start: Any, tmp_path: Path
) -> None:
    for number, name in enumerate(("BOUNDSCHECK", "DEBUGINFO", "DEBUG_NRT"), start=1):
        assert hits(start(**{f"NUMBA_{name}": "1"})) == 0
        assert len(kernels(tmp_path)) == number
    assert hits(start()) == 0

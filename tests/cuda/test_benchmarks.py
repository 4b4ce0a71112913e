"""The GPU benchmarks: what they say without a GPU, and that they run, on the simulated driver.

The times that come out there mean nothing; that every call is right is what counts.
"""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from driver.simulated import ROOT, environment
from shim.launcher import has_compiler

from segedge.machine.gpu import find_driver
from tests.processes import ended

BENCHMARKS = ROOT / "benchmarks"
SITE = Path(__file__).parent / "shim" / "site"
simulated = pytest.mark.skipif(not has_compiler(), reason="g++ is not installed")


def run(*arguments: str, on_simulator: bool = True) -> subprocess.CompletedProcess[str]:
    found = environment(defer=1) if on_simulator else dict(os.environ)
    found["PYTHONPATH"] = os.pathsep.join([str(SITE), str(BENCHMARKS), str(ROOT)])
    return ended([sys.executable, *arguments], cwd=ROOT, env=found)


@pytest.mark.skipif(find_driver().gpu is not None, reason="there is a GPU here")
@pytest.mark.parametrize("script", ["gpu_check.py", "kernels.py"])
def test_without_a_gpu_they_say_so(script: str) -> None:
    done = run(str(BENCHMARKS / script), on_simulator=False)
    assert done.returncode == 2
    assert "libcuda.so.1" in done.stderr or "code" in done.stderr
    assert "Traceback" not in done.stderr


def writing_to(folder: Path, script: str, *arguments: str) -> list[str]:
    """A script as the main module, its results going to a folder."""
    code = (
        "import document, runpy, sys; from pathlib import Path\n"
        f"document.RESULTS = Path({str(folder)!r})\n"
        f"sys.argv = {[script, *arguments]!r}\n"
        f"runpy.run_path({str(BENCHMARKS / script)!r}, run_name='__main__')\n"
    )
    return ["-c", code]


@pytest.mark.long
@simulated
def test_gpu_check_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = ["--only", "speed", "--only", "leaks", "--only", "sanitizer"]
    done = run(*writing_to(tmp_path, "gpu_check.py", "--quick", *steps))
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    for part in ("speed: graphs", "speed: slots", "speed: stages", "leaks: 60 frames, graphs on"):
        assert part in done.stdout
    assert "nothing is wrong" in done.stdout
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    (results,) = tmp_path.glob("gpu-*-quick.json")
    document = importlib.import_module("document").read_document(results)
    measured = {figure.quantity for figure in document.figures}
    assert {"graphs", "plain", "1 slot", "4 slots", "preprocess", "tail"} <= measured
    assert document.details["rows"]


@simulated
def test_a_step_that_dies_is_a_row() -> None:
    code = (
        "import gpu_check\n"
        "gpu_check.__file__ = '/does/not/exist.py'\n"
        "(row,) = gpu_check._run('leaks', [])\n"
        "print(row['verdict'], row['text'])\n"
        "print('exit', gpu_check._verdict([row]))\n"
    )
    done = run("-c", code)
    assert "error it ended with code 2" in done.stdout, done.stderr
    assert "exit 1" in done.stdout


@simulated
def test_kernels_runs_and_pytorch_gives_the_same() -> None:
    """On the CPU PyTorch gives what it would on the GPU; our side runs on the simulated one."""
    pytest.importorskip("torch")
    code = (
        "import kernels, torch\n"
        "from gpu.torch_way import torch_step, agreement\n"
        "from segedge.card.geometry import Size\n"
        "kernels.SIZES['tiny'] = Size(64, 128)\n"
        "bench, rows = kernels.open_bench(quick=True), []\n"
        "for case in kernels.cases(bench, ['tiny'], 'street'):\n"
        "    row = kernels._ours(bench, case)\n"
        "    assert row['us'] > 0 and row['sets'] == 2 and not bench.clock.notes, row\n"
        "    rows.append({'kernel': case.name, 'frame': 'tiny', 'classes': case.classes,\n"
        "                 'dtype': case.dtype, **row})\n"
        "    step = torch_step(torch, case, device='cpu')\n"
        "    same = agreement(case.result(), step().numpy()) if step else None\n"
        "    print(case.name, case.dtype, case.floor_bytes, same)\n"
        "    assert same is None or same > 0.99, case\n"
        "document = kernels.document_of(bench, rows, [], 'street')\n"
        "assert len(document.figures) == 2 * len(rows), document\n"
        "document.to_json()\n"
    )
    done = run("-c", code)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    assert len(done.stdout.splitlines()) == 16

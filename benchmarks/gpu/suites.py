"""The tests that need a GPU, run by pytest, and the kernels' once more under compute-sanitizer."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from xml.etree import ElementTree

from gpu.report import Options, Report, Verdict

ROOT = Path(__file__).parents[2]
TESTS = ROOT / "tests" / "cuda"
KERNEL_TESTS = (TESTS / "test_kernels_tail.py", TESTS / "test_kernels_preprocess.py")
TOOLS = {
    "memcheck": "no access outside an allocation",
    "racecheck": "no unordered access to shared memory",
    "synccheck": "no barrier that some threads of a warp miss",
}
"""Tools of compute-sanitizer; races and barriers are what the CPU shim cannot show."""
SUITE_SECONDS = 1800
_FOUND_SOMETHING = 86


def kernels(report: Report, options: Options) -> None:
    """Every kernel variant on the GPU against the NumPy reference, on random cases."""
    _suite(report, KERNEL_TESTS, examples=5 if options.quick else 60)


def frames(report: Report, options: Options) -> None:
    """Whole frames against the CPU twin, every backend, other libraries' arrays and streams."""
    _suite(report, (TESTS / "test_gpu.py",), examples=0)


def _suite(report: Report, files: tuple[Path, ...], *, examples: int) -> None:
    missing = [name for name in ("pytest", "hypothesis") if not importlib.util.find_spec(name)]
    if missing or not all(file.exists() for file in files):
        report.add(files[0].stem, "absent", "pip install pytest hypothesis, in a checkout")
        return
    with tempfile.TemporaryDirectory() as folder:
        results = Path(folder) / "results.xml"
        done = subprocess.run(
            [*_pytest(files), f"--junitxml={results}"],
            cwd=ROOT, env=_environment(examples), capture_output=True, text=True, check=False,
            timeout=SUITE_SECONDS,
        )  # fmt: skip
        counts = _add_cases(report, results) if results.exists() else {}
    ended = done.returncode in (0, 1)  # all passed, or some failed
    summary = ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
    name = ", ".join(file.name for file in files)
    if not ended or not counts:
        tail = (done.stdout + done.stderr).strip().splitlines()[-3:]
        report.add(name, "error", f"pytest ended with code {done.returncode}: {' | '.join(tail)}")
    else:
        report.add(name, "wrong" if "wrong" in counts else "right", summary)


def _pytest(files: tuple[Path, ...]) -> list[str]:
    return [
        sys.executable, "-X", "faulthandler", "-m", "pytest", "-q", "-m", "gpu", "--tb=short",
        "-p", "no:cacheprovider", *map(str, files),
    ]  # fmt: skip


def _environment(examples: int) -> dict[str, str]:
    return {**os.environ, **({"SEGEDGE_EXAMPLES": str(examples)} if examples else {})}


def _add_cases(report: Report, results: Path) -> dict[Verdict, int]:
    """A row a test; only those that did not pass are printed."""
    counts: dict[Verdict, int] = {}
    for case in ElementTree.parse(results).iter("testcase"):
        verdict, text = _outcome(case)
        counts[verdict] = counts.get(verdict, 0) + 1
        name = str(case.get("name"))
        report.add(name, verdict, text, quiet=verdict == "right")
    return counts


def _outcome(case: ElementTree.Element) -> tuple[Verdict, str]:
    for child in case:
        if child.tag in ("failure", "error"):
            lines = [line for line in (child.text or "").splitlines() if line.startswith("E ")]
            return "wrong", "\n".join(lines[:4]) or str(child.get("message"))[:400]
        if child.tag == "skipped":
            return "absent", str(child.get("message"))
    return "right", f"{float(case.get('time') or 0):.1f} s"


def sanitizer(report: Report, options: Options) -> None:
    """The kernel tests, a few cases each, under each tool."""
    tool = _compute_sanitizer()
    if tool is None:
        report.add("compute-sanitizer", "absent", "it comes with the CUDA toolkit")
        return
    if importlib.util.find_spec("pytest") is None:
        report.add("compute-sanitizer", "absent", "pip install pytest hypothesis")
        return
    for name, promise in TOOLS.items():
        with report.guard(name):
            command = [tool, "--tool", name, "--error-exitcode", str(_FOUND_SOMETHING)]
            command += ["--target-processes", "all", *_pytest(KERNEL_TESTS)]
            done = subprocess.run(
                command, cwd=ROOT, env=_environment(1 if options.quick else 3),
                capture_output=True, text=True, check=False, timeout=SUITE_SECONDS,
            )  # fmt: skip
            found = [line for line in done.stdout.splitlines() if line.startswith("=========")]
            if done.returncode == 0:
                report.add(name, "right", promise)
            else:
                verdict: Verdict = "wrong" if done.returncode == _FOUND_SOMETHING else "error"
                shown = "\n".join(found[:12]) or (done.stdout + done.stderr)[-600:]
                report.add(name, verdict, f"code {done.returncode}\n{shown}")


def _compute_sanitizer() -> str | None:
    """On the path, or where the CUDA toolkit puts it."""
    homes = [os.environ.get("CUDA_HOME"), os.environ.get("CUDA_PATH"), "/usr/local/cuda"]
    places = [Path(home) / "bin" / "compute-sanitizer" for home in homes if home]
    found = next((str(place) for place in places if place.is_file()), None)
    return shutil.which("compute-sanitizer") or found

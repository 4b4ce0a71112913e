"""The tests in ``simulated/``, run in one child process on the simulated CUDA driver."""

from __future__ import annotations

import dataclasses
import json
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from driver.simulated import ROOT, environment
from shim.launcher import has_compiler

from tests.built import once
from tests.processes import ended

FOLDER = Path(__file__).parent / "simulated"
FILES = sorted(path.stem for path in FOLDER.glob("test_*.py"))

pytestmark = pytest.mark.skipif(not has_compiler(), reason="g++ is not installed")


@dataclasses.dataclass(frozen=True)
class Run:
    """What the child did."""

    output: str
    is_orderly: bool
    """It ended by itself, with or without failed tests."""
    passed: dict[str, list[str]]
    failed: dict[str, list[str]]


@pytest.fixture(scope="module")
def child(run_folder: Path) -> Run:
    told = json.loads(once(run_folder / "simulated" / "run.json", _run_child).read_text())
    return Run(**told)


def _run_child(told: Path) -> None:
    report = told.with_name("report.xml")
    command = [sys.executable, "-m", "pytest", "-q", "--tb=short", "-p", "no:cacheprovider"]
    words = [*command, f"--junitxml={report}", FOLDER]
    done = ended(words, cwd=ROOT, env=environment(defer=1), seconds=1800)
    run = Run(_ending(done.stdout + done.stderr), done.returncode in (0, 1), {}, {})
    cases = ElementTree.parse(report).iter("testcase") if report.exists() else ()
    for case in cases:
        if case.find("skipped") is not None:
            continue
        problem = next((child for child in case if child.tag in ("failure", "error")), None)
        file = case.get("classname", "").split(".")[-1]
        text = "" if problem is None else f"{case.get('name')}\n{problem.text or ''}"
        (run.failed if text else run.passed).setdefault(file, []).append(text)
    told.write_text(json.dumps(dataclasses.asdict(run)))


def _ending(output: str) -> str:
    """The end of the output, or the traceback of a crash."""
    at = output.find("Fatal Python error")
    return output[at : at + 3000] if at >= 0 else output[-5000:]


@pytest.mark.long
@pytest.mark.parametrize("file", FILES)
def test_on_the_simulated_driver(child: Run, file: str):
    if file in child.failed:
        pytest.fail("\n\n".join(child.failed[file]), pytrace=False)
    assert child.passed.get(file), f"no test of {file} ran:\n{child.output}"
    assert child.is_orderly, child.output

"""Processes that tests start are gone when the test is."""

from __future__ import annotations

import os
import re
import select
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest

from tests.processes import PIPES, ended, started

TESTS = Path(__file__).parent
PARENT = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(child.pid, flush=True)
time.sleep(600)
"""
HELPERS = {"processes.py", "test_processes.py", "bindings.py"}
"""What starts processes for others, and pip, which has a time-out."""


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="no pidfd here")
@pytest.mark.parametrize("is_late", [True, False])
def test_a_process_and_its_child_end_with_the_block(is_late: bool) -> None:
    handles: list[int] = []

    def use() -> None:
        with started([sys.executable, "-c", PARENT], **PIPES) as process:
            assert process.stdout is not None
            child = int(process.stdout.readline())
            handles.extend(os.pidfd_open(pid) for pid in (process.pid, child))
            if is_late:
                process.communicate(timeout=0.05)

    with pytest.raises(subprocess.TimeoutExpired) if is_late else nullcontext():
        use()
    for handle in handles:
        assert select.select([handle], [], [], 20)[0], "it still runs"
        os.close(handle)
    assert len(handles) == 2


def test_what_has_ended_is_told() -> None:
    done = ended([sys.executable, "-c", "import sys; print('said'); sys.exit('told')"], code=1)
    assert (done.stdout, done.stderr) == ("said\n", "told\n")
    with pytest.raises(AssertionError, match="code 3"):
        ended([sys.executable, "-c", "raise SystemExit(3)"], code=0)


def test_all_tests_start_them_this_way() -> None:
    """`segedge` and Python; compilers and the like are waited for."""
    wrong = re.compile(
        r"Popen\(|from subprocess import|multiprocessing"
        r"|subprocess\.(run|call|check_\w+)\([^)]*sys\.executable"
    )
    files = [file for file in TESTS.rglob("*.py") if file.name not in HELPERS]
    assert len(files) > 200
    assert [file.name for file in files if wrong.search(file.read_text(encoding="utf-8"))] == []

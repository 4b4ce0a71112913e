"""The quick end of the process: nothing that asked for the end is cut off."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.processes import ended

LEAVE = "from segedge.cli.leave import leave\n"


def python(code: str, *words: str) -> subprocess.CompletedProcess[str]:
    return ended([sys.executable, *words, "-c", code])


def test_it_skips_the_teardown_and_keeps_code_and_output() -> None:
    kept = "class Last:\n    def __del__(self): print('torn down')\nlast = Last()\n"
    assert "torn down" in python(kept).stdout  # what an ordinary end does
    done = python(kept + LEAVE + "print('a' * 100_000)\nleave(3)")
    assert done.returncode == 3
    assert done.stdout == "a" * 100_000 + "\n"
    assert done.stderr == ""


def test_what_asked_to_be_called_is_called() -> None:
    code = "import atexit, os\natexit.register(print, 'first')\natexit.register(print, 'second')\n"
    done = python(code + LEAVE + "leave(0)")
    assert (done.returncode, done.stdout) == (0, "second\nfirst\n")


@pytest.mark.parametrize(
    "watched",
    [
        "import sys\nsys.settrace(lambda *a: None)\n",
        "import sys\nsys.setprofile(lambda *a: None)\n",
        "import threading\ngo = threading.Event()\n"
        "threading.Thread(target=lambda: (go.wait(9), print('waited'))).start()\n",
        pytest.param(
            "import sys\nsys.monitoring.use_tool_id(sys.monitoring.PROFILER_ID, 'a profiler')\n",
            marks=pytest.mark.skipif(sys.version_info < (3, 12), reason="Python 3.12 and later"),
        ),
    ],
    ids=["tracer", "profiler", "thread", "monitoring"],
)
def test_what_is_watched_ends_the_ordinary_way(watched: str) -> None:
    ending = "leave(3)\nprint('still here')\nif 'go' in globals(): go.set()\n"
    done = python(watched + LEAVE + ending)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("still here\n")
    assert ("go" in watched) == ("waited" in done.stdout)


FULL = Path("/dev/full")


@pytest.mark.skipif(not FULL.exists(), reason="no /dev/full here")
@pytest.mark.parametrize("words", [["--version"], ["doctor", "--json"]], ids=" ".join)
def test_a_full_output_is_an_error_in_words(words: list[str]) -> None:
    with FULL.open("w") as full:
        done = ended([sys.executable, "-m", "segedge", *words], stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 2
    assert done.stderr.startswith("error: cannot write to standard output\n")
    assert "No space left" in done.stderr
    assert "fix" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(not FULL.exists(), reason="no /dev/full here")
@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-", "2>/dev/full"])
def test_closed_streams_stop_nothing(tmp_path: Path, closed: str) -> None:
    """And no file gets their numbers, with words for the user in it."""
    made = tmp_path / "made"
    code = (
        "import os, sys\n"
        "from segedge.cli import standard\n"
        "standard.make_ready()\n"
        "print('for the user'); print('for the user', file=sys.stderr)\n"
        f"number = os.open({str(made)!r}, os.O_CREAT | os.O_WRONLY)\n"
        "os.write(number, str(number > 2).encode())\n"
        "sys.stdout.flush(); sys.stderr.flush()\n"
    )
    done = ended(["sh", "-c", f'exec "$0" -c "$1" {closed}', sys.executable, code])
    assert done.returncode == 0
    assert made.read_text() == "True"


@pytest.mark.parametrize(
    ("words", "code"),
    [(["--version"], 0), (["inspect", "nowhere.onnx"], 2), (["run", "--no-such"], 2)],
)
def test_exit_codes_of_the_command(words: list[str], code: int) -> None:
    for start in (["-m", "segedge"], ["-m", "segedge.cli.main"]):
        done = ended([sys.executable, *start, *words])
        assert done.returncode == code, done.stderr
        assert "Traceback" not in done.stderr


def test_a_profile_of_the_command_is_still_written(tmp_path: Path) -> None:
    found = tmp_path / "p.prof"
    ended(
        [sys.executable, "-m", "cProfile", "-o", str(found), "-m", "segedge", "--version"], code=0
    )
    assert found.stat().st_size > 1000

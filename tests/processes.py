"""Processes of `segedge` and of Python that tests start: they end with the test, whatever it does.

`subprocess.communicate` and `wait` leave a process running when their time is over, and no call of
that module ends what the process itself has started.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

SEGEDGE = (sys.executable, "-m", "segedge")
PIPES: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
LIMIT_SECONDS = 300.0
"""Longer than anything takes; only a hang reaches it."""


@contextmanager
def started(words: Sequence[object], **options: Any) -> Iterator[subprocess.Popen[str]]:
    """A process, in a session of its own, which is killed with all in it at the end of the block.

    Args:
        words: The program and its arguments.
        options: Those of `subprocess.Popen`.
    """
    process = subprocess.Popen(
        [str(word) for word in words], text=True, start_new_session=True, **options
    )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):  # nobody is left
            os.killpg(process.pid, signal.SIGKILL)
        with process:
            process.wait()


def ended(
    words: Sequence[object],
    *,
    code: int | None = None,
    seconds: float = LIMIT_SECONDS,
    **options: Any,
) -> subprocess.CompletedProcess[str]:
    """A process that has come to its end by itself, with what it said.

    Args:
        words: The program and its arguments.
        code: What it must end with; None: whatever it does.
        seconds: How long that may take, until TimeoutExpired.
        options: Those of `subprocess.Popen`.
    """
    with started(words, **{**PIPES, **options}) as process:
        said, told = process.communicate(timeout=seconds)
        found = process.returncode
    assert code in (None, found), f"code {found}\n{told}"
    return subprocess.CompletedProcess([*words], found, said, told)

"""Runs that are ended from outside leave what the next run goes on with, and nothing else."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import subprocess
import termios
from contextlib import suppress
from pathlib import Path

import pytest

from segedge.batch.store import LocalStore
from tests.batch.archives import moving, write_video
from tests.processes import SEGEDGE, started

KEPT = {"manifest.json", "plan.jsonl", ".lock", "masks", "shards"}


def command(model: Path, folder: Path) -> list[str]:
    video = write_video(folder / "x.mp4", moving(3000), key_every=10)
    words = ("batch", model, video, "-o", folder / "out", "--shard", 10, "--workers", 1)
    return [*SEGEDGE, *map(str, words), "--no-confidence"]


@pytest.mark.parametrize(
    ("sent", "code"), [("SIGTERM", 143), ("SIGINT", 130), ("SIGHUP", 129), ("SIGKILL", -9)]
)
def test_a_run_that_is_ended(model: Path, tmp_path: Path, sent: str, code: int) -> None:
    """In mid-run, by the command: no traceback, and nothing of it stays in the way."""
    out = tmp_path / "out"
    with started(command(model, tmp_path), stderr=subprocess.PIPE) as run:
        assert run.stderr is not None
        while run.poll() is None and not list(out.glob("shards/*.json")):
            with suppress(subprocess.TimeoutExpired):
                run.wait(timeout=0.05)
        run.send_signal(getattr(signal, sent))
        # Its workers hold the other end: this waits for them, too.
        assert "Traceback" not in run.stderr.read()
        assert run.wait(60) == code
    left = {path.name for path in out.iterdir()} - {"failures.jsonl"}
    assert left >= KEPT if sent == "SIGKILL" else left == KEPT
    done = len(list(out.glob("shards/*.json")))
    LocalStore(out).tidy()
    assert {path.name for path in out.iterdir()} - {"failures.jsonl"} == KEPT
    assert 0 < done < 300


def test_a_run_whose_terminal_is_closed(model: Path, tmp_path: Path) -> None:
    """Its workers are told so, too, and nobody reads what is printed any more."""
    out, (ours, theirs) = tmp_path / "out", pty.openpty()
    with started(
        command(model, tmp_path), stdin=theirs, stdout=theirs, stderr=theirs,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    ) as run:  # fmt: skip
        os.close(theirs)
        while run.poll() is None and not list(out.glob("shards/*.json")):
            if select.select([ours], [], [], 0.05)[0]:
                os.read(ours, 65536)
        os.close(ours)
        assert run.wait(timeout=60) == 129
    assert {path.name for path in out.iterdir()} - {"failures.jsonl"} == KEPT

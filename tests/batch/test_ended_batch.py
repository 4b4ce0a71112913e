"""Runs that are ended from outside leave what the next run goes on with, and nothing else."""

from __future__ import annotations

import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from segedge.batch.store import LocalStore
from tests.batch.conftest import moving, write_video


@pytest.mark.parametrize(("sent", "code"), [("SIGTERM", 143), ("SIGINT", 130), ("SIGKILL", -9)])
def test_a_run_that_is_ended(model: Path, tmp_path: Path, sent: str, code: int) -> None:
    """In mid-run, by the command: no traceback, and nothing of it stays in the way."""
    video, out = write_video(tmp_path / "x.mp4", moving(3000), key_every=10), tmp_path / "out"
    words = ["batch", model, video, "-o", out, "--shard", 10, "--workers", 1, "--no-confidence"]
    run = subprocess.Popen(
        [sys.executable, "-m", "segedge", *map(str, words)], stderr=subprocess.PIPE, text=True
    )
    assert run.stderr is not None
    with run.stderr:
        while run.poll() is None and not list(out.glob("shards/*.json")):
            with suppress(subprocess.TimeoutExpired):
                run.wait(timeout=0.05)
        run.send_signal(getattr(signal, sent))
        # Its workers hold the other end: this waits for them, too.
        assert "Traceback" not in run.stderr.read()
    assert run.wait() == code
    left = {path.name for path in out.iterdir()} - {"failures.jsonl"}
    kept = {"manifest.json", "plan.jsonl", ".lock", "masks", "shards"}
    assert left >= kept if sent == "SIGKILL" else left == kept
    done = len(list(out.glob("shards/*.json")))
    LocalStore(out).tidy()
    assert {path.name for path in out.iterdir()} - {"failures.jsonl"} == kept
    assert 0 < done < 300

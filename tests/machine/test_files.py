"""Files that are whole or not there, folders that one run has, refusals in words."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from segedge.errors import SinkError
from segedge.machine.files import locked, replace_file, staged, writing

fcntl = pytest.importorskip("fcntl")
BUSY = SinkError("another run is at work")


def test_a_staged_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    with staged(path) as part:
        part.write_bytes(b"whole")
        assert not path.exists()

    def interrupted() -> None:
        with staged(path) as part:
            part.write_bytes(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert [file.read_bytes() for file in tmp_path.iterdir()] == [b"whole"]


def test_a_folder_is_one_run_s(tmp_path: Path) -> None:
    with locked(tmp_path, busy=BUSY), pytest.raises(SinkError, match="another run"):
        locked(tmp_path, busy=BUSY)
    locked(tmp_path, busy=BUSY).close()


def test_a_file_system_without_locks_keeps_nobody_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(*_: Any) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with locked(tmp_path, busy=BUSY) as first, locked(tmp_path, busy=BUSY) as second:
        assert (first.closed, second.closed) == (False, False)
        assert first.fileno() != second.fileno()


def test_a_refusal_is_told_of_what_the_user_named(tmp_path: Path) -> None:
    with pytest.raises(SinkError, match="cannot write out") as caught, writing(Path("out")):
        (tmp_path / "none" / "x").touch()
    assert caught.value.facts["found"] == "No such file or directory"


def test_what_is_no_file_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    """As root a report for /dev/null would else become /dev/null."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    end = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        replace_file(pipe, b"whole")
        assert os.read(end, 9) == b"whole"
    finally:
        os.close(end)
    assert pipe.is_fifo()
    assert list(tmp_path.iterdir()) == [pipe]

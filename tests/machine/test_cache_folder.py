"""Which folder keeps what is compiled; and that none at all stops nothing."""

from __future__ import annotations

import logging
import os
import threading
import time
from pathlib import Path

import pytest

from segedge.machine import cache_folder as module
from segedge.machine.cache_folder import (
    cache_folder,
    cache_path,
    keep,
    make_folder,
    read_kept,
    tell_once,
)


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No folder is named, and HOME and the temporary folder are this test's own."""
    for name in ("SEGEDGE_CACHE_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name in ("HOME", "TMPDIR"):
        (tmp_path / name).mkdir()
        monkeypatch.setenv(name, str(tmp_path / name))
    module._told.clear()


@pytest.fixture
def modes_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """`os.access` as it answers an ordinary user: root may do anything."""
    bits = {os.R_OK: 0o400, os.W_OK: 0o200, os.X_OK: 0o100}

    def access(path: Path, wanted: int) -> bool:
        mode = Path(path).stat().st_mode
        return all(mode & bit for flag, bit in bits.items() if wanted & flag)

    monkeypatch.setattr(os, "access", access)


def test_the_first_that_is_named_and_can_be_written(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert cache_folder().path == tmp_path / "HOME" / ".cache" / "segedge"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder().path == tmp_path / "xdg" / "segedge"
    monkeypatch.setenv("SEGEDGE_CACHE_DIR", str(tmp_path / "named"))
    assert cache_path("engines") == tmp_path / "named" / "engines"
    assert not (tmp_path / "named").exists()  # asking makes nothing
    monkeypatch.delenv("SEGEDGE_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative/is/ignored")
    assert cache_folder().origin == "~/.cache"


def test_a_home_that_cannot_be_written(modes_count: None, tmp_path: Path) -> None:
    (tmp_path / "HOME").chmod(0o500)
    found = cache_folder()
    assert found.path == tmp_path / "TMPDIR" / f"segedge-{os.geteuid()}"
    assert found.path.stat().st_mode & 0o777 == 0o700
    assert found.passed_over == (
        f"{tmp_path}/HOME/.cache/segedge (~/.cache): {tmp_path}/HOME cannot be written",
    )


@pytest.mark.usefixtures("modes_count")
def test_a_named_one_may_be_read_only(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It may be baked into an image; one that cannot be made is passed over, and that is told."""
    (tmp_path / "baked").mkdir(mode=0o555)
    monkeypatch.setenv("SEGEDGE_CACHE_DIR", str(tmp_path / "baked"))
    found = cache_folder()
    assert found.path == tmp_path / "baked"
    assert "read only" in found.text


def test_a_named_one_that_cannot_be(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("SEGEDGE_CACHE_DIR", str(tmp_path / "file" / "cache"))
    assert cache_folder().origin == cache_folder().origin == "~/.cache"
    assert caplog.messages == [
        f"SEGEDGE_CACHE_DIR is not used: {tmp_path}/file/cache: {tmp_path}/file is no folder"
    ]


@pytest.mark.parametrize("laid", ["link", "open", "foreign", "file"])
def test_the_temporary_folder_is_nobody_elses(
    laid: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Whatever another user lays there, nothing is read from it: it would be run."""
    private = tmp_path / "TMPDIR" / f"segedge-{os.geteuid()}"
    if laid == "link":
        (tmp_path / "theirs").mkdir()
        private.symlink_to(tmp_path / "theirs")
    elif laid == "file":
        private.write_text("")
    else:
        private.mkdir()
        private.chmod(0o777 if laid == "open" else 0o700)
    if laid == "foreign":
        if os.geteuid() != 0:
            pytest.skip("only root can give a folder to another user")
        os.chown(private, 12345, 12345)
    monkeypatch.setattr(module, "_foreign", lambda path: "no home")
    assert private not in (cache_folder().path, *cache_folder().path.parents)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to another user")
def test_a_home_of_another_user_is_passed_over(tmp_path: Path) -> None:
    """As `sudo` leaves it: what lies there would be run by root."""
    (tmp_path / "HOME" / ".cache" / "segedge").mkdir(parents=True)
    os.chown(tmp_path / "HOME" / ".cache" / "segedge", 12345, 12345)
    assert cache_folder().origin == "temporary folder"
    assert "belongs to user 12345" in cache_folder().passed_over[0]


def test_none_at_all(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(module, "_candidates", lambda: iter([("~/.cache", Path("/x"), "full")]))
    found = cache_folder()
    assert found.exists_nowhere
    assert found.text == "none: what is compiled is not kept"
    keep(cache_path("cpu") / "a", b"x")
    keep(cache_path("cpu") / "b", b"x")
    assert read_kept(cache_path("cpu") / "a") is None
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "SEGEDGE_CACHE_DIR names another folder" in caplog.text


def test_what_is_damaged_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "cpu" / "kernel"
    keep(path, b"machine code")
    assert read_kept(path) == b"machine code"
    path.write_bytes(path.read_bytes()[:-1])
    assert read_kept(path) is None
    path.write_bytes(b"")
    assert read_kept(path) is None


def test_a_shared_folder_stays_shared(tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared").chmod(0o1777)
    make_folder(tmp_path / "shared" / "cpu" / "one")
    assert (tmp_path / "shared" / "cpu" / "one").stat().st_mode & 0o7777 == 0o1777
    make_folder(tmp_path / "own" / "cpu")
    assert (tmp_path / "own" / "cpu").stat().st_mode & 0o022 == 0


def test_threads_that_have_the_same_to_say_say_it_once() -> None:
    said: list[str] = []

    class Slow(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append(record.getMessage())
            time.sleep(0.05)

    start, handler, log = threading.Barrier(4), Slow(), logging.getLogger("segedge")

    def tell() -> None:
        start.wait()
        tell_once("nothing is kept")

    log.addHandler(handler)
    threads = [threading.Thread(target=tell) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    log.removeHandler(handler)
    assert said == ["nothing is kept"]

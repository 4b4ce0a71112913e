"""What is kept between runs: believed only where nobody else can have written it."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path

import pytest

from segedge.machine.cache_folder import _told
from segedge.machine.kept import Kept


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    _told.clear()
    found = Kept(tmp_path / "checks")
    found.put("key", {"a": 1})
    return found


def only_file(kept: Kept) -> Path:
    (path,) = kept.folder.iterdir()
    return path


def test_a_value_comes_back(kept: Kept) -> None:
    assert kept.get("key") == {"a": 1}
    assert kept.get("other") is None
    assert only_file(kept).stat().st_mode & 0o777 == 0o600
    assert kept.folder.stat().st_mode & 0o777 == 0o700
    kept.clear()
    assert kept.get("key") is None


def test_what_others_may_write_is_not_believed(kept: Kept) -> None:
    only_file(kept).chmod(0o622)
    assert kept.get("key") is None
    only_file(kept).chmod(0o600)
    assert kept.get("key") == {"a": 1}
    kept.folder.chmod(0o777)
    assert kept.get("key") is None


def test_what_another_user_owns_is_not_believed(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: own + 1)
    assert kept.get("key") is None


def test_an_entry_under_another_name_is_not_believed(kept: Kept) -> None:
    only_file(kept).rename(kept._path("other"))
    assert kept.get("other") is None


@pytest.mark.parametrize("text", ["", "{", "[]", '"key"', json.dumps({"key": "key"}), "[" * 9999])
def test_what_is_damaged_counts_as_nothing(kept: Kept, text: str) -> None:
    only_file(kept).write_text(text)
    assert kept.get("key") is None


def test_links_are_not_followed(kept: Kept, tmp_path: Path) -> None:
    path = only_file(kept)
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    assert kept.get("key") is None


def test_a_pipe_in_the_place_of_an_entry_holds_nobody_up(kept: Kept) -> None:
    path = only_file(kept)
    path.unlink()
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # without one, writing to it would wait
    assert kept.get("key") is None
    kept.put("key", {"a": 2})
    os.close(reader)
    assert kept.get("key") == {"a": 2}


def test_a_folder_that_cannot_be_written_is_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _told.clear()
    (tmp_path / "file").touch()
    blocked = Kept(tmp_path / "file" / "checks")
    with caplog.at_level(logging.WARNING, "segedge"):
        blocked.put("a", 1)
        blocked.put("b", 1)
    assert blocked.get("a") is None
    assert caplog.text.count("cannot be written") == 1
    assert "SEGEDGE_CACHE_DIR" in caplog.text

"""Where engines are written: read-only and full folders, and names that cannot be meant."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from segedge.engine.builder.build import build_engine
from segedge.engine.cache import EngineCache
from segedge.engine.file import facts_path, read_engine, write_engine
from segedge.engine.flavour import Flavour
from segedge.engine.options import BuildOptions
from segedge.errors import SinkError, UsageError
from tests.processes import ended


def test_a_cache_that_cannot_be_used_costs_one_warning(
    rtx: Flavour, model: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    built = build_engine(model, flavour=rtx, cache=EngineCache(tmp_path / "file" / "engines"))
    assert built.path is None
    assert len(built.warnings) == 1
    assert "cannot be cached" in built.warnings[0]
    assert "SEGEDGE_CACHE_DIR names another folder" in built.warnings[0]
    assert built.plan


_MODES_COUNT = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]
"""Before a command of root's, it makes the modes of files count for root as for everybody."""


def unprivileged(*words: object) -> subprocess.CompletedProcess[str]:
    """`segedge ...` by a user to whom the modes of files apply; skips where there is no way."""
    before = _MODES_COUNT if os.geteuid() == 0 else []
    if before and (
        shutil.which("setpriv") is None or subprocess.run([*before, "true"], check=False).returncode
    ):
        pytest.skip("root cannot give up its privileges here (setpriv)")
    command = [sys.executable, "-m", "segedge.cli.main", *map(str, words)]
    return ended([*before, *command])


def test_a_read_only_cache_is_read(rtx: Flavour, model: Path, cache: EngineCache) -> None:
    """What is in it is used; what is not is built, kept nowhere, and warned of once."""
    assert unprivileged("build", model).returncode == 0
    kept = sorted(cache.folder.iterdir())
    cache.folder.chmod(0o500)
    try:
        again = unprivileged("build", model)
        other = unprivileged("build", model, "--no-tf32")
        cleared = unprivileged("cache", "clear")
    finally:
        cache.folder.chmod(0o700)
    assert "; cached" in again.stdout
    assert "Permission denied" not in again.stdout + again.stderr
    assert other.returncode == 0
    assert (other.stdout + other.stderr).count("Permission denied") == 1
    assert "tf32 on → off" in other.stderr
    assert "not kept: -o" in other.stdout
    assert cleared.returncode == 2
    assert "cannot be emptied" in cleared.stderr
    assert sorted(cache.folder.iterdir()) == kept


def test_a_cache_that_cannot_be_made(rtx: Flavour, model: Path, cache: EngineCache) -> None:
    cache.folder.parent.mkdir(exist_ok=True)  # kernels may lie there already
    cache.folder.parent.chmod(0o500)
    done = unprivileged("build", model)
    cache.folder.parent.chmod(0o700)
    assert done.returncode == 0
    assert done.stdout.count("Permission denied") == 1
    assert not cache.folder.exists()


_LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
from segedge.cli.main import run
run(sys.argv[1:])
"""
"""No file may pass 100 kB: the facts of the small engine fit, its plan of 270 kB does not."""


def test_no_room_for_the_plan_leaves_nothing(
    rtx: Flavour, model: Path, cache: EngineCache, tmp_path: Path
) -> None:
    def limited(*words: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", _LIMITED, *map(str, words)]
        return ended(command)

    done = limited("build", model)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("File too large") == 1
    assert [path.suffix for path in cache.folder.iterdir()] == [".lock"]
    target = tmp_path / "out" / "m.engine"
    done = limited("build", model, "-o", target)
    assert done.returncode == 2
    assert f"cannot write {target}" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(target.parent.iterdir()) == []


def test_a_read_only_cache_still_gives_what_it_has(
    make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    make()

    def refuse(*_: Any, **__: Any) -> Any:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(EngineCache, "locked", refuse)
    assert make().cached
    other = make(BuildOptions(tf32=False))
    assert not other.cached
    assert "Read-only file system" in other.warnings[0]


def test_a_full_disk_costs_one_warning_and_leaves_nothing(
    make: Any, cache: EngineCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, *args: Any, **more: Any) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    built = make()
    assert "No space left on device" in built.warnings[0]
    assert built.plan
    monkeypatch.undo()
    assert [p.suffix for p in cache.folder.iterdir()] == [".lock"]


def test_output_is_written_beside_its_facts(make: Any, tmp_path: Path) -> None:
    target = tmp_path / "new" / "m.engine"
    built = make(output=target)
    assert built.path == target
    assert target.read_bytes() == built.plan
    assert facts_path(target).is_file()
    assert make(output=target).cached


def test_an_output_that_cannot_be_written(make: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file" / "m.engine", Path()):
        with pytest.raises(SinkError, match="cannot write"):
            make(output=path)


@pytest.mark.parametrize("name", ["m.onnx", "m", "m.engine.zip"])
def test_an_output_must_be_found_again_by_its_name(make: Any, tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="not named like an engine"):
        make(output=tmp_path / name)


def test_an_output_is_checked_before_the_build(
    make: Any, cache: EngineCache, tmp_path: Path
) -> None:
    (tmp_path / "folder.engine").mkdir()
    with pytest.raises(SinkError, match="cannot write"):
        make(output=tmp_path / "folder.engine")
    assert not cache.folder.exists()


def test_a_failed_write_keeps_the_old_engine(
    make: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "m.engine"
    old = make(output=target)

    def full(path: Path, *args: Any, **more: Any) -> int:
        assert len(list(tmp_path.glob(".m.part-*.engine"))) == 1  # the plan; the facts fail
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(SinkError, match="the disk is full"):
        make(BuildOptions(tf32=False), output=target, cache=None)
    monkeypatch.undo()
    assert read_engine(target).plan == old.plan


def test_writing_is_atomic(rtx: Flavour, model: Path, tmp_path: Path, make: Any) -> None:
    built = make()
    target = tmp_path / "m.engine"
    write_engine(target, built.plan, built.facts)
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]

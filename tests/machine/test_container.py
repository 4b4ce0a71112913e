"""The usual container: an ordinary user, a package that cannot be written, no HOME.

Commands really run as another user. One right is left to it, to read and search everything: the
interpreter and this checkout may lie in folders of root's. It can write only what users can.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from segedge.machine.cache_folder import cache_path
from tests.processes import SEGEDGE, ended
from tests.small_model import write_model

pytest.importorskip("onnx", reason="onnx is not installed: segedge[export]")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: segedge[cpu]")

ROOT = Path(__file__).parents[2]
USER = 64321
AS_USER = [
    "setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups",
    "--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search",
]  # fmt: skip
PRIVATE = [Path("/tmp"), Path("/var/tmp")]


@pytest.fixture(autouse=True)
def other_user() -> Iterator[None]:
    """Skip where no other user can be; leave nothing of it behind."""
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("only root can run a command as another user (setpriv)")
    if subprocess.run([*AS_USER, "true"], check=False, capture_output=True).returncode:
        pytest.skip("root may not hand on its rights here (setpriv)")
    yield
    for folder in PRIVATE:
        shutil.rmtree(folder / f"segedge-{USER}", ignore_errors=True)


@pytest.fixture
def work() -> Iterator[Path]:
    """A model, an image, and `out/`, the only folder that the user may write.

    Pytest's own folders are closed to other users.
    """
    with tempfile.TemporaryDirectory(prefix="segedge-test-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        write_model(folder / "model.onnx")
        cv2.imwrite(str(folder / "image.png"), np.full((48, 64, 3), 90, np.uint8))
        (folder / "out").mkdir()
        os.chown(folder / "out", USER, USER)
        yield folder


def segedge(work: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    variables = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **environment}
    done = ended([*AS_USER, *SEGEDGE, *words], env=variables, cwd=work)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return done


def tree() -> set[Path]:
    return {path for path in (ROOT / "segedge").rglob("*") if "__pycache__" not in path.parts}


def run_words(work: Path) -> list[str]:
    return ["run", "model.onnx", "image.png", "-o", str(work / "out" / "overlay.png")]


def many_words(work: Path) -> list[str]:
    """More images than are left to NumPy, which needs no kernels."""
    folder = work / "images"
    folder.mkdir(exist_ok=True)
    for number in range(5):
        shutil.copy(work / "image.png", folder / f"{number}.png")
    return ["run", "model.onnx", str(folder), "-o", str(work / "out")]


def test_nothing_is_kept_where_every_folder_is_anothers(work: Path) -> None:
    """Somebody laid folders of that name: nothing is read there, and that is told once."""
    for folder in PRIVATE:
        (folder / f"segedge-{USER}" / "cpu").mkdir(parents=True)
    before = tree()
    done = segedge(work, *run_words(work), "--effect", "outline")  # has a kernel of its own
    assert done.stderr.count("cannot be kept") == 1
    assert (work / "out" / "overlay.png").is_file()
    doctor = segedge(work, "doctor").stdout
    assert "none: what is compiled is not kept" in doctor
    assert "it belongs to user 0" in doctor
    assert "SEGEDGE_CACHE_DIR=FOLDER" in doctor
    assert segedge(work, "cache").stdout.startswith("folder      none")
    segedge(work, "cache", "clear")
    assert tree() == before


def test_a_private_folder_without_home(work: Path) -> None:
    """HOME that is no folder, and none at all: a user whom no passwd file knows."""
    assert f"/tmp/segedge-{USER}" in segedge(work, "cache", HOME="/nonexistent").stdout
    assert f"/tmp/segedge-{USER}" in segedge(work, "cache").stdout
    assert (PRIVATE[0] / f"segedge-{USER}").stat().st_mode & 0o777 == 0o700


def test_a_baked_folder_is_read(work: Path) -> None:
    """Kernels that root compiled into an image serve a user who can add nothing to them."""
    variables = {**os.environ, "PYTHONPATH": str(ROOT)}
    ended([*SEGEDGE, "warm", "model.onnx"], env=variables, cwd=work, code=0)
    shutil.copytree(cache_path("cpu"), work / "baked" / "cpu")
    for folder in (work / "baked" / "cpu", *(work / "baked" / "cpu").iterdir()):
        folder.chmod(0o755)  # where the cache of the tests is below /tmp, all users may write to it
    before = {path: path.stat().st_mtime for path in (work / "baked").rglob("*")}
    done = segedge(work, *many_words(work), SEGEDGE_CACHE_DIR=str(work / "baked"))
    assert "cannot be kept" not in done.stderr  # nothing had to be
    assert len(list((work / "out").iterdir())) == 5
    assert "read only" in segedge(work, "doctor", SEGEDGE_CACHE_DIR=str(work / "baked")).stdout
    assert before == {path: path.stat().st_mtime for path in before}

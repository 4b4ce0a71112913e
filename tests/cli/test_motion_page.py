"""The commands and the Python of docs/motion.md work as they stand there."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parent.parent / "measure/evaluate"))
from test_eval_motion import write_frames
from test_run_motion import write_pan

from tests.small_model import run_verb, write_model

PAGE = (Path(__file__).parents[2] / "docs/motion.md").read_text(encoding="utf-8")
COMMANDS = [shlex.split(line) for line in re.findall(r"^    segedge (.*)$", PAGE, re.M)]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with all that the page names."""
    write_model(tmp_path / "best.onnx")
    write_pan(tmp_path / "drive.mp4", frames=9)
    (tmp_path / "drives").mkdir()
    write_pan(tmp_path / "drives/a.mp4", frames=9)
    write_frames(tmp_path / "camvid", [f"0016E5_{n:05d}" for n in range(0, 18, 2)])
    write_frames(tmp_path / "frames", [f"{n}" for n in range(9)])
    (tmp_path / "times.txt").write_text("".join(f"{n} {n / 25}\n" for n in range(9)))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_a_command_of_the_page(here: Path, words: list[str]) -> None:
    if "rtsp://camera/1" in words:  # a file at its own rate is as live, and is there
        words = [*words[:2], "drive.mp4", "--pace", *words[3:-1]]
    if words[0] == "batch":
        pytest.importorskip("pyarrow")
    done = run_verb(*words)
    assert "motion" in done.stdout


def test_the_python_of_the_page(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (block,) = re.findall(r"```python\n(.*?)```", PAGE, re.S)
    names: dict[str, object] = {}
    exec(compile(block, "docs/motion.md", "exec"), names)
    names["segmenter"].close()  # type: ignore[attr-defined]
    assert re.match(r"network \d of 9 frames", capsys.readouterr().out)


def test_the_page_names_every_option() -> None:
    from dataclasses import fields

    from segedge.cli.options import MotionGroup

    for field in fields(MotionGroup):
        assert f"`--{field.name.replace('_', '-')}" in PAGE
    assert len(COMMANDS) >= 7

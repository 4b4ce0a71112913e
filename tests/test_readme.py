"""The commands that README.md shows work, and print the rows that it shows."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from tests.fast_export import hasten_exports
from tests.small_model import run_verb

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
SESSION = re.search(r"## A session\n.*?```\n(.*?)```", README, re.S)


def commands() -> list[tuple[str, list[str]]]:
    """Each ``$ segedge ...`` of the session with the first words of the rows below it."""
    assert SESSION, "README has no session"
    blocks = re.split(r"^\$ ", SESSION[1], flags=re.M)[1:]
    found = []
    for block in blocks:
        command, _, output = re.sub(r"\\\n\s*", "", block).partition("\n")
        rows = [line.split()[0] for line in output.splitlines() if line[:1].strip()]
        found.append((command, rows))
    return found


@pytest.mark.long
def test_the_session_of_the_readme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxscript")
    pytest.importorskip("openvino")
    monkeypatch.chdir(tmp_path)
    hasten_exports()
    (tmp_path / "export").symlink_to(ROOT / "export")
    (tmp_path / "out" / "demo").mkdir(parents=True)
    assert len(commands()) >= 3
    for command, rows in commands():
        words = shlex.split(command)
        assert words[0] == "segedge"
        done = run_verb(*words[1:])
        printed = done.stdout + done.stderr
        firsts = {line.split()[0] for line in printed.splitlines() if line.strip()}
        missing = [row for row in rows if row not in firsts and not row.startswith("━")]
        assert not missing, f"{command}: README shows rows {missing}, printed was\n{printed}"

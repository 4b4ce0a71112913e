"""How the command line prints: rows that stay within 100 columns."""

from __future__ import annotations

import pytest

from segedge.cli.console import print_prose


def test_long_text_goes_on_under_its_beginning(capsys: pytest.CaptureFixture[str]) -> None:
    print_prose("warning", "too noisy to say: " + "word " * 30)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("warning     too noisy")
    assert lines[1].startswith(" " * 12 + "word")
    assert max(map(len, lines)) <= 100


def test_a_path_stays_whole(capsys: pytest.CaptureFixture[str]) -> None:
    path = "/a-folder/" + "long-" * 30 + "name"
    print_prose("skipped", f"see {path} for more")
    assert path in capsys.readouterr().out

"""How the command line prints: rows that stay within 100 columns."""

from __future__ import annotations

from pathlib import Path

import pytest

from segedge.cli.console import check_folder, print_error, print_prose, print_row, say
from segedge.errors import CardError, UsageError


def test_long_text_goes_on_under_its_beginning(capsys: pytest.CaptureFixture[str]) -> None:
    print_prose("warning", "too noisy to say: " + "word " * 30)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("warning     too noisy")
    assert lines[1].startswith(" " * 12 + "word")
    assert max(map(len, lines)) <= 100


def test_a_file_is_not_written_to_a_folders_name(tmp_path: Path) -> None:
    """Nor to ``.``, which has no name at all; and it is said before anything is measured."""
    for path in (tmp_path, Path()):
        with pytest.raises(UsageError, match="cannot be written") as caught:
            check_folder(path)
        assert "a folder" in caught.value.facts["found"]
    check_folder(tmp_path / "page.html")


def test_a_path_stays_whole(capsys: pytest.CaptureFixture[str]) -> None:
    path = "/a-folder/" + "long-" * 30 + "name"
    print_prose("skipped", f"see {path} for more")
    assert path in capsys.readouterr().out


def test_words_of_a_file_do_not_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    name = "road\x1b[2J\x9b31m"
    print_row("classes", name)
    print_prose("checked", name)
    say(name)
    print_error(CardError(f"no class {name}", facts={"found": name}))
    told = capsys.readouterr()
    assert "\x1b[2J" not in told.out + told.err
    assert "\x9b" not in told.out + told.err
    assert told.out.count(r"road\x1b[2J\x9b31m") == 2
    assert told.err.count(r"road\x1b[2J\x9b31m") == 3

"""One reader for all text files that users hand over."""

from __future__ import annotations

from pathlib import Path

import pytest

from segedge.machine.text_file import Line, UnreadableText, read_lines, read_text


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_lines_of_any_editor(tmp_path: Path, end: str, encoding: str) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(end.join(["# head", "", "  straße ", "\tb # c"]).encode(encoding))
    assert read_lines(path) == [Line(3, "straße"), Line(4, "b # c")]


def test_what_cannot_be_read_is_said_in_words(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    with pytest.raises(UnreadableText, match="No such file"):
        read_text(path)
    path.write_bytes("a\nb\nstraße".encode("latin-1"))
    with pytest.raises(UnreadableText, match="line 3: byte 0xdf is no UTF-8; save it as UTF-8"):
        read_text(path)
    path.write_bytes(b"")
    assert read_lines(path) == []

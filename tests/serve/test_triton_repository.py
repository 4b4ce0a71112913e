"""A repository is written whole or not at all, and nothing in it is replaced unasked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from segedge.cli.verbs.triton import parse_microseconds
from segedge.errors import SinkError, UsageError
from segedge.serve.options import TritonOptions
from segedge.serve.repository import write_repository
from tests.serve.models import write_batch_model
from tests.small_model import run_verb


def files(root: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def test_the_model_is_copied_and_nothing_else_is_left(small: Path, tmp_path: Path) -> None:
    root = tmp_path / "out" / "repo"
    report = write_repository(small, root)
    assert [model.path.parent for model in report.models] == [root] * 4
    found = files(root)
    assert found["small/1/model.onnx"] == small.read_bytes()
    assert sorted(path.name for path in root.parent.iterdir()) == ["repo"]
    assert sorted(path.name for path in root.iterdir()) == sorted(m.name for m in report.models)
    assert "SHA-256" in found["small/config.pbtxt"].decode()


def test_external_weights_go_along(small: Path, tmp_path: Path) -> None:
    small.with_name("small.onnx.data").write_bytes(b"weights")
    write_repository(small, tmp_path / "repo")
    assert files(tmp_path / "repo")["small/1/small.onnx.data"] == b"weights"


def test_a_version_is_not_replaced_unasked(small: Path, tmp_path: Path) -> None:
    root = tmp_path / "repo"
    write_repository(small, root)
    before = files(root)
    with pytest.raises(UsageError, match=r"small/1 is there already") as caught:
        write_repository(small, root, options=TritonOptions(overlay=True))
    assert "--model-version 2" in str(caught.value)
    assert files(root) == before
    write_repository(small, root, options=TritonOptions(overlay=True, force=True))
    after = files(root)
    assert after.keys() == before.keys()
    assert b"overlay" in after["small_frames/config.pbtxt"]


def test_a_second_version_lies_beside_the_first(batched: Path, tmp_path: Path) -> None:
    root = tmp_path / "repo"
    write_repository(batched, root)
    report = write_repository(batched, root, options=TritonOptions(version=2))
    assert all(model.versions == (1, 2) for model in report.models)
    assert report.notes[0] == "street: version 2 beside 1; config.pbtxt is now its"
    again = write_repository(batched, root, options=TritonOptions(version=2, force=True))
    assert again.models[0].versions == (1, 2)


def test_versions_of_one_model_agree(small: Path, tmp_path: Path) -> None:
    """One with a batch axis and one without are not the same model."""
    root = tmp_path / "repo"
    write_repository(small, root)
    before = files(root)
    other = write_batch_model(tmp_path / "street.onnx")
    with pytest.raises(UsageError, match="versions of one model have the same tensors") as caught:
        write_repository(other, root, options=TritonOptions(name="small", version=2))
    assert caught.value.facts["differ"] == "max_batch_size, input, output"
    assert files(root) == before


def test_other_models_are_left_alone(small: Path, batched: Path, tmp_path: Path) -> None:
    root = tmp_path / "repo"
    write_repository(small, root)
    before = files(root)
    write_repository(batched, root, options=TritonOptions(frames=False))
    after = files(root)
    assert before.items() <= after.items()
    assert "street/1/model.onnx" in after


@pytest.mark.parametrize("force", [False, True])
def test_what_fails_midway_leaves_what_was_there(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, force: bool
) -> None:
    """The disk refuses the rename of the third model: the first two go back."""
    root = tmp_path / "repo"
    root.mkdir()
    if force:
        write_repository(small, root)
    before = files(root)
    rename = Path.rename

    def refuse(self: Path, target: Path) -> Path:
        if (
            Path(target).is_relative_to(root)
            and "small_tail" in str(target)
            and "kept" not in str(self)
        ):
            raise OSError(5, "Input/output error")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(SinkError, match="cannot write"):
        write_repository(small, root, options=TritonOptions(overlay=True, force=force))
    assert files(root) == before
    assert [path for path in tmp_path.iterdir() if ".part-" in path.name] == []


def test_a_file_in_the_way(small: Path, tmp_path: Path) -> None:
    (tmp_path / "repo").write_text("a file")
    with pytest.raises(UsageError, match="repo is a file"):
        write_repository(small, tmp_path / "repo")


def test_the_command(batched: Path, tmp_path: Path) -> None:
    done = run_verb("triton", batched, "-o", tmp_path / "repo", "--delay", "500us")
    assert "street_frames  frame to labels" in done.stdout
    assert "up to 8 frames, waiting at most 0.5 ms" in done.stdout
    assert "segedge run grpc://HOST:8001/street video.mp4" in done.stdout
    assert all(len(line) <= 100 for line in done.stdout.splitlines() if str(tmp_path) not in line)
    refused = run_verb("triton", batched, "-o", tmp_path / "repo", code=2)
    assert "is there already" in refused.stderr
    assert "--force" in refused.stderr
    as_json = run_verb("triton", batched, "-o", tmp_path / "repo", "--force", "--json")
    data = json.loads(as_json.stdout)
    assert data["max_batch"] == 8
    assert data["card"]["classes"] == ["dark", "bright"]
    assert [model["versions"] for model in data["models"]] == [[1]] * 4


def test_times() -> None:
    assert [parse_microseconds(text) for text in ("2ms", "0.5ms", "100us", "0")] == [
        2000, 500, 100, 0,
    ]  # fmt: skip
    for text in ("2", "ms", "-1ms", "2s", "nanus"):
        with pytest.raises(UsageError, match=f"no time '{text}'"):
            parse_microseconds(text)

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segedge.card.modelfile import read_facts, read_metadata
from segedge.errors import ModelError

MODELS = Path(__file__).resolve().parents[3] / "shared" / "models"


def varint(value: int) -> bytes:
    data = b""
    while value > 0x7F:
        data += bytes([value & 0x7F | 0x80])
        value >>= 7
    return data + bytes([value])


def field(number: int, data: bytes | int) -> bytes:
    if isinstance(data, int):
        return varint(number << 3) + varint(data)
    return varint(number << 3 | 2) + varint(len(data)) + data


def onnx_file(metadata: dict[str, str], graph: bytes = b"graph") -> bytes:
    entries = (field(1, k.encode()) + field(2, v.encode()) for k, v in metadata.items())
    return (
        field(1, 10)
        + field(2, b"pytorch")
        + field(3, b"2.13.0")
        + field(7, graph)
        + field(8, field(1, b"") + field(2, 20))
        + field(8, field(1, b"com.microsoft") + field(2, 1))
        + b"".join(field(14, entry) for entry in entries)
    )


def written(tmp_path: Path, data: bytes) -> Path:
    path = tmp_path / "m.onnx"
    path.write_bytes(data)
    return path


def outcome(path: Path) -> str:
    """Size of the graph, or the headline of the error."""
    try:
        return str(read_facts(path).graph_bytes)
    except ModelError as error:
        return error.headline


def test_all_facts(tmp_path: Path) -> None:
    data = onnx_file({"a": "1", "names": "{0: 'wäg'}"}, b"x" * 300)
    facts = read_facts(written(tmp_path, data))
    assert (facts.ir_version, facts.producer, facts.opset) == (10, "pytorch 2.13.0", 20)
    assert facts.opsets == {"ai.onnx": 20, "com.microsoft": 1}
    assert facts.metadata == {"a": "1", "names": "{0: 'wäg'}"}
    assert (facts.size_bytes, facts.graph_bytes) == (len(data), 300)
    assert facts.external_data is None
    for name in ("m.onnx_data", "m.onnx.data"):  # Optimum's, PyTorch's
        (tmp_path / name).write_bytes(b"")
        assert facts.external_data == tmp_path / name


@settings(max_examples=50, deadline=None)
@given(st.dictionaries(st.text(max_size=20), st.text(max_size=300), max_size=5))
def test_metadata_round_trip(
    tmp_path_factory: pytest.TempPathFactory, data: dict[str, str]
) -> None:
    clean = {k.encode("utf-8", "ignore").decode(): v for k, v in data.items()}
    clean = {k: v.encode("utf-8", "ignore").decode() for k, v in clean.items()}
    path = written(tmp_path_factory.mktemp("m"), onnx_file(clean))
    assert read_metadata(path) == clean


def test_every_truncation_is_noticed_or_harmless(tmp_path: Path) -> None:
    data = onnx_file({"key": "value"}, b"g" * 200)
    end_of_graph = data.index(b"g" * 200) + 200
    for length in range(1, len(data)):
        path = written(tmp_path, data[:length])
        if length < end_of_graph:
            with pytest.raises(ModelError):
                read_facts(path)
        else:  # behind the graph only whole fields can be missing unnoticed
            assert outcome(path) in ("200", "m.onnx is truncated")


def test_a_truncated_graph_says_where(tmp_path: Path) -> None:
    data = onnx_file({}, b"g" * 1000)
    with pytest.raises(ModelError) as caught:
        read_facts(written(tmp_path, data[:500]))
    text = str(caught.value)
    assert "m.onnx is truncated" in text
    assert "it ends at byte 500" in text
    assert f"the graph to end at byte {data.index(b'g' * 1000) + 1000}" in text


@settings(max_examples=200, deadline=None)
@given(st.binary(min_size=1, max_size=200))
def test_any_bytes_give_facts_or_a_model_error(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    path = written(tmp_path_factory.mktemp("m"), data)
    assert outcome(path)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "is empty"),
        (b"PK\x03\x04rest", "PyTorch checkpoint"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"<html>404</html>", "a download that failed"),
        (b"\x80\x02}q\x00", "a pickle"),
        (bytes(field(1, 10)), "names no graph"),
    ],
)
def test_other_files(tmp_path: Path, data: bytes, words: str) -> None:
    with pytest.raises(ModelError) as caught:
        read_metadata(written(tmp_path, data))
    assert words in str(caught.value)


def test_missing_files_and_folders(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="does not exist"):
        read_metadata(tmp_path / "absent.onnx")
    with pytest.raises(ModelError, match="is a folder"):
        read_metadata(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_unreadable_files(tmp_path: Path) -> None:
    path = written(tmp_path, onnx_file({}))
    path.chmod(0)
    with pytest.raises(ModelError, match="cannot be read"):
        read_metadata(path)


@pytest.mark.skipif(not MODELS.is_dir(), reason="../shared/models is absent")
def test_a_real_file() -> None:
    facts = read_facts(MODELS / "fastscnn_camvid.onnx")
    assert (facts.opset, facts.producer, facts.metadata) == (20, "pytorch 2.13.0+cpu", {})

"""Inputs and outputs behind fsspec, and stores that refuse."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import fsspec
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from segedge.batch.run import run_batch
from segedge.errors import SinkError, SourceError, UsageError
from tests.batch.archives import OPTIONS, HerePool, files_below, moving


class FullFileSystem(MemoryFileSystem):  # type: ignore[misc]
    """Takes so many files, then refuses."""

    protocol = "full"
    store: dict[str, Any] = {}  # noqa: RUF012 - fsspec's own form
    pseudo_dirs = [""]  # noqa: RUF012
    left = 0

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return super()._strip_protocol(path.replace("full://", "memory://"))

    def _open(self, path: str, mode: str = "rb", **kwargs: Any) -> Any:
        if mode != "rb":
            if FullFileSystem.left == 0:
                raise PermissionError("AccessDenied when calling PutObject")
            FullFileSystem.left -= 1
        return super()._open(path, mode, **kwargs)

    def pipe_file(self, path: str, value: bytes, **kwargs: Any) -> None:
        with self._open(path, "wb") as file:
            file.write(value)

    def put_file(self, lpath: str, rpath: str, **kwargs: Any) -> None:
        self.pipe_file(rpath, Path(lpath).read_bytes())


@pytest.fixture
def address() -> Iterator[str]:
    name = f"memory://segedge-{uuid.uuid4().hex}"
    yield name
    files = fsspec.filesystem("memory")
    if files.exists(name):
        files.rm(name, recursive=True)


def test_the_same_archive_elsewhere(
    model: Path, inputs: Path, tmp_path: Path, address: str
) -> None:
    """Inputs and outputs in an object store: the same files as in a folder."""
    files = fsspec.filesystem("memory")
    files.put(str(inputs), f"{address}/drives", recursive=True)
    out = f"{address}/out"
    report = run_batch(model, [f"{address}/drives"], out, options=OPTIONS, make_pool=HerePool)
    assert (report.rows, report.failures, report.out) == (49, (), out)
    run_batch(model, [str(inputs)], str(tmp_path), options=OPTIONS, make_pool=HerePool)
    files.get(f"{out}/", str(tmp_path / "copy"), recursive=True)
    assert files_below(tmp_path / "copy" / "masks") == files_below(tmp_path / "masks")
    table = pq.read_table(tmp_path / "copy" / "frames.parquet").to_pylist()
    here = pq.read_table(tmp_path / "frames.parquet").to_pylist()
    unlike = ("source", "shard")
    assert [{k: v for k, v in row.items() if k not in unlike} for row in table] == [
        {k: v for k, v in row.items() if k not in unlike} for row in here
    ]
    assert table[0]["source"].startswith("memory://")
    again = run_batch(model, [f"{address}/drives"], out, options=OPTIONS, make_pool=HerePool)
    assert (again.shards_before, again.shards_done) == (3, 0)
    assert not [name for name in files.find(out) if "/.segedge-" in name]


def test_patterns_and_bad_files_elsewhere(model: Path, inputs: Path, address: str) -> None:
    files = fsspec.filesystem("memory")
    files.put(str(inputs / "stills"), f"{address}/stills", recursive=True)
    files.pipe_file(f"{address}/stills/8.png", b"no image")
    report = run_batch(
        model, [f"{address}/stills/*.png"], f"{address}/out", options=OPTIONS, make_pool=HerePool
    )
    assert report.rows == 4
    assert report.failures[0]["source"].endswith("stills/8.png")
    with pytest.raises(SourceError, match="cannot list"):
        run_batch(model, [f"{address}/none"], f"{address}/out", options=OPTIONS, make_pool=HerePool)


def test_an_object_replaced_by_one_of_its_size(model: Path, address: str) -> None:
    files = fsspec.filesystem("memory")
    for seed in (0, 1):
        image = cv2.imencode(".bmp", moving(1, seed=seed)[0])[1].tobytes()
        files.pipe_file(f"{address}/in/1.bmp", image)
        report = run_batch(
            model, [f"{address}/in"], f"{address}/out", options=OPTIONS, make_pool=HerePool
        )
        assert (report.shards_done, report.rows) == (1, 1)


@pytest.mark.parametrize("left", [0, 2, 5, 9, 11])
def test_a_store_that_refuses(model: Path, inputs: Path, left: int) -> None:
    """At once, or in mid-run: one message, and no shard counts that is not whole."""
    fsspec.register_implementation("full", FullFileSystem, clobber=True)
    out = f"full://segedge-{uuid.uuid4().hex}"
    FullFileSystem.left = left
    with pytest.raises(SinkError, match="refuses to be written") as refused:
        run_batch(model, [str(inputs / "stills")], out, options=OPTIONS, make_pool=HerePool)
    assert "AccessDenied" in refused.value.facts["found"]
    FullFileSystem.left = 1000
    report = run_batch(model, [str(inputs / "stills")], out, options=OPTIONS, make_pool=HerePool)
    assert report.rows == 5


def test_unknown_schemes(model: Path, inputs: Path) -> None:
    with pytest.raises(UsageError, match="cannot use s4://"):
        run_batch(model, [str(inputs)], "s4://bucket/out", options=OPTIONS, make_pool=HerePool)


def test_a_folder_that_cannot_be_made(model: Path, inputs: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(SinkError, match="cannot write"):
        run_batch(
            model, [str(inputs)], str(tmp_path / "file" / "out"), options=OPTIONS,
            make_pool=HerePool,
        )  # fmt: skip

"""JSON lines: facts of every frame, whole lines whatever happens."""

from __future__ import annotations

import json
import os
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from video_clips import FakeResult

from segedge.errors import SinkError, UsageError
from segedge.frames.frame import Frame
from segedge.frames.protocols import ResultView, SourceInfo
from segedge.frames.timing import StageTimes
from segedge.video.sinks.json_lines import JsonLinesSink
from segedge.video.sinks.open import SinkOptions, open_sink
from tests.processes import PIPES, started

LABELS = np.array([[0, 0, 1], [2, 2, 2]], np.uint8)


def frame(index: int, **options: Any) -> Frame:
    return Frame(np.zeros((2, 3, 3), np.uint8), index, **{"name": "drive.mp4", **options})


def feed(sink: JsonLinesSink, count: int) -> None:
    for index in range(count):
        sink.write(frame(index, pts_seconds=index / 25), FakeResult(labels=LABELS))


def lines(path: Path) -> list[dict[str, Any]]:
    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    text = path.read_text("utf-8")
    assert not text or text.endswith("\n")
    return [json.loads(line, parse_constant=refuse) for line in text.splitlines()]


def test_one_line_says_everything(tmp_path: Path) -> None:
    now_ns = 5_000_000_000
    noon = datetime(2026, 11, 24, 12, tzinfo=timezone.utc)
    sink = JsonLinesSink(
        tmp_path / "neu/facts.jsonl",
        clock_ns=lambda: now_ns,
        wall_ns=lambda: int(noon.timestamp() * 1e9),
    )
    times = StageTimes({"decode": 1.25, "network": 20.00049})
    given = frame(7, pts_seconds=0.28, captured_ns=now_ns - 31_500_000, times=times)
    sink.write(given, FakeResult(labels=LABELS))
    assert lines(tmp_path / "neu/facts.jsonl") == [
        {
            "source": "drive.mp4",
            "index": 7,
            "pts_seconds": 0.28,
            "captured": "2026-11-24T11:59:59.968500+00:00",
            "latency_ms": 31.5,
            "stages_ms": {"decode": 1.25, "network": 20.0},
            "class_pixels": {"road": 2, "pavement": 1, "building": 3},
        }
    ]
    sink.close()
    sink.close()
    assert sink.needs == {"class_pixels"}
    assert sink.paths == (tmp_path / "neu/facts.jsonl",)


def test_every_line_is_there_when_write_returns(tmp_path: Path) -> None:
    sink = JsonLinesSink(tmp_path / "a.jsonl")
    for count in range(1, 4):
        feed(sink, 1)
        assert len(lines(tmp_path / "a.jsonl")) == count


def test_what_json_cannot_say_is_null(tmp_path: Path) -> None:
    sink = JsonLinesSink(tmp_path / "a.jsonl")
    times = StageTimes({"network": float("inf")})
    name = "kaputt\udcff.png"  # a file name that is no UTF-8
    sink.write(frame(0, pts_seconds=float("nan"), times=times, name=name), FakeResult())
    sink.write(frame(1, pts_seconds=None), FakeResult())
    first, second = lines(tmp_path / "a.jsonl")
    assert (first["pts_seconds"], first["stages_ms"]) == (None, {"network": None})
    assert first["source"] == "kaputt?.png"
    assert second["pts_seconds"] is None


def test_an_older_file_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("older\n" * 1000)
    sink = JsonLinesSink(tmp_path / "a.jsonl")
    feed(sink, 2)
    assert [line["index"] for line in lines(tmp_path / "a.jsonl")] == [0, 1]


def test_full_disk(tiny_disk: Path) -> None:
    """The last line is whole, too."""
    sink = JsonLinesSink(tiny_disk / "a.jsonl")
    with pytest.raises(SinkError, match="the disk is full") as caught:
        feed(sink, 100_000)
    sink.close(error=True)
    size = (tiny_disk / "a.jsonl").stat().st_size
    assert size > 400_000
    assert caught.value.facts["kept"] == f"{size} bytes of whole lines"
    assert [line["index"] for line in lines(tiny_disk / "a.jsonl")] == list(
        range(len(lines(tiny_disk / "a.jsonl")))
    )


def test_no_folder_can_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SinkError, match="cannot write"):
        JsonLinesSink(tmp_path / "file/a.jsonl")


def test_standard_output(capfd: pytest.CaptureFixture[str]) -> None:
    sink = JsonLinesSink("-")
    feed(sink, 3)
    sink.close()
    os.write(1, b"still open\n")
    printed = capfd.readouterr().out.splitlines()
    assert [json.loads(line)["index"] for line in printed[:3]] == [0, 1, 2]
    assert printed[3:] == ["still open"]
    assert sink.paths == ()


def test_a_closed_pipe_ends_the_run() -> None:
    """`segedge run ... -o - | head -1`: EndOfRun, and nothing after it is an error."""
    code = (
        "import sys, numpy as np\n"
        f"sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from video_clips import FakeResult\n"
        "from segedge.frames.frame import Frame\n"
        "from segedge.video.sinks.json_lines import JsonLinesSink\n"
        "from segedge.frames.protocols import EndOfRun\n"
        "sink, frame = JsonLinesSink('-'), Frame(np.zeros((2, 3, 3), np.uint8))\n"
        "try:\n"
        "    for _ in range(100_000):\n"
        "        sink.write(frame, FakeResult())\n"
        "except EndOfRun:\n"
        "    sink.write(frame, FakeResult())\n"
        "    sink.close()\n"
        "    sys.exit(7)\n"
    )
    root = Path(__file__).parents[2]
    with started([sys.executable, "-c", code], cwd=root, **PIPES) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert json.loads(process.stdout.readline())["index"] == 0
        process.stdout.close()
        assert process.wait(60) == 7, process.stderr.read()


class Counter:
    """How many frames there were, and the largest label: an analysis that keeps state."""

    name = "seen"
    needs = frozenset({"labels"})

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, frame: Frame, result: ResultView) -> dict[str, int]:
        self.count += 1
        return {"frames": self.count, "largest": int(result.labels.max())}


def test_analyses_add_their_keys(tmp_path: Path) -> None:
    sink = JsonLinesSink(tmp_path / "a.jsonl", analyses=[Counter()])
    feed(sink, 2)
    assert [line["seen"] for line in lines(tmp_path / "a.jsonl")] == [
        {"frames": 1, "largest": 2},
        {"frames": 2, "largest": 2},
    ]
    assert all("seen" in line["stages_ms"] for line in lines(tmp_path / "a.jsonl"))
    assert sink.needs == {"class_pixels", "labels"}


def test_every_sink_has_analyses_of_its_own(tmp_path: Path) -> None:
    options = SinkOptions(make_analyses=lambda: [Counter()])
    info = SourceInfo("drive.mp4", "video")
    for name in ("a.jsonl", "b.jsonl"):
        sink = open_sink(tmp_path / name, info=info, options=options)
        assert isinstance(sink, JsonLinesSink)
        feed(sink, 1)
        assert lines(tmp_path / name)[0]["seen"]["frames"] == 1


@pytest.mark.parametrize("name", ["seen", "index"])
def test_analyses_of_one_name(tmp_path: Path, name: str) -> None:
    other = Counter()
    other.name = name
    with pytest.raises(UsageError, match=f"two facts of the name '{name}'"):
        JsonLinesSink(tmp_path / "a.jsonl", analyses=[Counter(), other])
    assert not (tmp_path / "a.jsonl").exists()

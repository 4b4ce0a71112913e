"""Timelines: valid in Chrome's format, and true."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import numpy as np

from segedge.backends.fake import FakeBackend
from segedge.card.card import ModelCard
from segedge.measure.bench.worker.flow import FlowOptions, flow
from segedge.measure.bench.worker.trace import GpuClock, Recorder
from segedge.segment.segmenter import Segmenter

CARD = ModelCard(("a", "b"), ((0, 0, 0), (9, 9, 9)), 48, 64, stride=8)


def traced(tmp_path: Path, **options: Any) -> dict[str, Any]:
    recorder = Recorder()
    image = np.random.default_rng(0).integers(0, 256, (96, 128, 3), dtype=np.uint8)
    wanted = FlowOptions(0.01, at_least=4, recorder=recorder, **options)
    with Segmenter(CARD, FakeBackend(CARD), threads=1) as segmenter:
        flow(segmenter, image, wanted, folder=tmp_path)
    document: dict[str, Any] = json.loads(json.dumps(recorder.document()))
    return document


def check_format(document: dict[str, Any]) -> None:
    """What the viewers need of each event."""
    named = set()
    for event in document["traceEvents"]:
        assert {"name", "ph", "pid", "tid"} <= set(event)
        assert isinstance(event["tid"], int)
        if event["ph"] == "X":
            assert event["ts"] >= 0
            assert event["dur"] >= 0
            assert (event["pid"], event["tid"]) in named
        elif event["ph"] == "M":
            named.add((event["pid"], event["tid"]))
        else:
            assert event["ph"] in "stf"
            assert isinstance(event["id"], int)


def spans(document: dict[str, Any], name: str) -> list[dict[str, Any]]:
    return [e for e in document["traceEvents"] if e["ph"] == "X" and e["name"] == name]


def test_threads_and_stages(tmp_path: Path) -> None:
    document = traced(tmp_path)
    check_format(document)
    titles = {e["args"]["name"] for e in document["traceEvents"] if e["name"] == "thread_name"}
    assert {"source", "sink-0"} <= titles
    writes = spans(document, "write")
    assert len(writes) >= 13
    assert {e["tid"] for e in writes}.isdisjoint({e["tid"] for e in spans(document, "compute")})
    for inner in ("preprocess", "network", "tail"):
        assert len(spans(document, inner)) >= len(writes)
    for network in spans(document, "network"):
        outer = next(e for e in spans(document, "compute") if e["args"] == network["args"])
        assert outer["ts"] <= network["ts"]
        assert network["ts"] + network["dur"] <= outer["ts"] + outer["dur"] + 1e-3


def test_arrows_follow_a_frame(tmp_path: Path) -> None:
    events = [e for e in traced(tmp_path)["traceEvents"] if e["ph"] in "stf" and e["id"] == 3]
    assert [event["ph"] for event in events] == ["s", "t", "f"]
    assert [event["ts"] for event in events] == sorted(event["ts"] for event in events)
    assert len({event["tid"] for event in events}) == 3


def test_spans_of_threads_overlap_by_hand() -> None:
    now = iter([100, 300, 200, 500])
    recorder = Recorder(clock_ns=lambda: next(now))
    with recorder.measure("compute", 1):
        pass

    def write() -> None:
        with recorder.measure("write", 0):
            pass

    thread = threading.Thread(target=write, name="segedge-sink-0")
    thread.start()
    thread.join()
    first, second = (e for e in recorder.document()["traceEvents"] if e["ph"] == "X")
    assert (first["ts"], first["dur"], second["ts"], second["dur"]) == (0.0, 0.2, 0.1, 0.3)


def test_an_empty_timeline_is_valid() -> None:
    assert Recorder().document() == {"traceEvents": [], "displayTimeUnit": "ms"}


class Event:
    def sync(self) -> None:
        """It has happened."""


class Device:
    """The moment of the clock is all that is asked of it."""

    def event(self) -> Event:
        return Event()

    def stream(self) -> Any:
        class Stream:
            def record(self, event: Event) -> None:
                assert isinstance(event, Event)

        return Stream()


class OnGpu:
    def __init__(self) -> None:
        self.drawing = self.slot = self

    def spans_ms(self, since: Event) -> list[tuple[str, float, float]]:
        return [("upload", 1.0, 2.0), ("network", 2.0, 5.5)]


def test_gpu_work_is_put_on_the_clock_of_the_cpu() -> None:
    recorder = Recorder(clock_ns=lambda: 0)
    GpuClock(Device(), lambda: 1_000_000).record(recorder, 4, OnGpu())
    document = recorder.document()
    check_format(document)
    (network,) = spans(document, "network")
    assert (network["ts"], network["dur"], network["args"]) == (1000.0, 3500.0, {"frame": 4})
    names = {e["args"].get("name") for e in document["traceEvents"] if e["ph"] == "M"}
    assert {"GPU", "slot 0"} <= names

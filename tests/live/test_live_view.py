"""The live view's server: messages, back-pressure, access, metrics, its end."""

from __future__ import annotations

import re
import threading

import numpy as np
import pytest
from live_parts import CLASSES, PALETTE, FakeResult, get, grey_frame, half_and_half, until

from segedge.errors import SinkError
from segedge.live.meter import Meter
from segedge.live.packet import decode, encode, shown


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_message_holds_the_labels_exactly(dtype: type) -> None:
    labels = np.random.default_rng(1).integers(0, 256, (40, 60)).astype(dtype)
    if dtype is np.uint16:
        labels = labels * 200
    before = labels.copy()
    message = encode(
        shown(np.zeros((40, 60, 3), np.uint8), labels, {"index": 7}), source=2, class_count=9
    )
    header, jpeg, decoded = decode(message)
    assert (header["source"], header["index"], len(header["shares"])) == (2, 7, 9)
    assert jpeg.startswith(b"\xff\xd8")
    np.testing.assert_array_equal(decoded, before)
    np.testing.assert_array_equal(labels, before)


def test_large_frames_are_shown_smaller_with_their_shares() -> None:
    labels = np.zeros((1080, 1920), np.uint8)
    labels[:, 1440:] = 1
    part = shown(np.zeros((1080, 1920, 3), np.uint8), labels, {})
    assert part.picture.shape == (720, 1280, 3)
    assert part.labels.shape == (720, 1280)
    header, _, _ = decode(encode(part, source=0, class_count=2))
    assert header["shares"] == pytest.approx([0.75, 0.25], abs=0.002)


def test_nv12_frames_are_shown_too() -> None:
    part = shown(np.full((72, 64), 128, np.uint8), np.zeros((48, 64), np.uint8), {})
    assert part.picture.shape == (48, 64, 3)


def test_the_meter_counts_gaps_and_seconds() -> None:
    now = [0]
    meter = Meter(lambda: now[0])
    for index in (5, 6, 9):
        now[0] += 10_000_000
        meter.add(grey_frame(index, captured_ns=now[0] - 4_000_000))
    now[0] = 1_000_000_000
    point = meter.tick()
    assert (point.frames, point.seconds, point.dropped) == (3, 1.0, 2)
    assert (point.p50_ms, point.p95_ms) == (4.0, 4.0)
    assert meter.fps() == 3.0
    assert meter.latency_ms() == {"p50": 4.0, "p95": 4.0, "p99": 4.0}
    now[0] = 2_000_000_000
    assert meter.tick(dropped=7).dropped == 5, "the pipeline knows better"
    assert meter.history()[1]["p50_ms"] is None


def test_a_viewer_gets_the_frame_and_the_classes(view, watch) -> None:
    sink = view.sink("front", model="street.onnx", backend="fake")
    watcher = watch(view)
    assert watcher.next("sources")["title"] == "cameras"
    watcher.send(watch=[0])
    sink.write(grey_frame(3), half_and_half())
    told = watcher.next("sources")["sources"][0]
    assert (told["name"], told["model"], told["backend"]) == ("front", "street.onnx", "fake")
    assert (told["classes"], told["palette"]) == ([*CLASSES], [list(c) for c in PALETTE])
    assert told["state"] == "running"
    header, _, labels = watcher.last_frame()
    assert (header["index"], header["shares"]) == (3, [0.5, 0.5, 0.0])
    np.testing.assert_array_equal(labels, half_and_half().labels)


def test_who_comes_late_sees_the_last_frame(view, watch) -> None:
    sink = view.sink("front")
    sink.write(grey_frame(0), half_and_half())
    sink.close()
    watcher = watch(view)
    assert watcher.next("sources")["sources"][0]["state"] == "ended"
    watcher.send(watch=[0])
    assert watcher.frame()[0]["index"] == 0
    second = watch(view)
    second.send(watch=[0])
    assert second.frame()[0]["index"] == 0, "also when it is encoded already"


def test_a_viewer_that_never_reads_gets_two_frames_and_holds_nothing_up(view, watch) -> None:
    sink = view.sink("front")
    watcher = watch(view)
    watcher.send(watch=[0])
    channel = view._hub.channels[0]
    until(lambda: channel._is_watched)
    for index in (0, 1):
        sink.write(grey_frame(index), half_and_half())
        until(lambda index=index: channel.message_number == index + 1)
    for index in range(2, 400):
        sink.write(grey_frame(index), half_and_half())
    assert channel.offered == 400, "the pipeline wrote them all"
    for _ in range(3):
        get(view.url + "healthz")  # the server had many turns meanwhile
    assert channel.message_number == 2
    assert channel.has_newer, "and the newest waits"
    assert [watcher.frame()[0]["index"] for _ in range(2)] == [0, 1]
    watcher.send(ack=0)
    assert watcher.frame()[0]["index"] == 399, "after its word it gets the newest"
    assert channel.message_number == 3


def test_a_slow_viewer_does_not_hold_up_a_quick_one(view, watch) -> None:
    sink = view.sink("front")
    slow, quick = watch(view), watch(view)
    slow.send(watch=[0])
    quick.send(watch=[0])
    channel = view._hub.channels[0]
    until(lambda: channel._is_watched and view.viewers == 2)
    seen = []
    for index in range(30):
        sink.write(grey_frame(index), half_and_half())
        seen.append(quick.frame()[0]["index"])
        quick.send(ack=0)
    assert seen == list(range(30))


def test_nothing_is_encoded_without_viewers(view) -> None:
    sink = view.sink("front")
    for index in range(50):
        sink.write(grey_frame(index), half_and_half())
    channel = view._hub.channels[0]
    assert channel.message is None
    assert channel.meter.written == 50
    assert channel.offered < 50, "one a second is kept for who comes first"


def test_a_source_that_is_not_shown_is_not_sent(view, watch) -> None:
    front, rear = view.sink("cam"), view.sink("cam")
    assert (front.name, rear.name) == ("cam", "cam (2)")
    watcher = watch(view)
    watcher.send(watch=[1, 77])
    until(lambda: view._hub.channels[1]._is_watched)
    front.write(grey_frame(1), half_and_half())
    rear.write(grey_frame(2), half_and_half())
    header = watcher.frame()[0]
    assert (header["source"], header["index"]) == (1, 2)
    assert view._hub.channels[0].message is None


@pytest.mark.parametrize("text", ["no json", "[]", '{"watch": 5}', '{"ack": null}', "7"])
def test_nonsense_ends_that_viewer_only(view, watch, text: str) -> None:
    from websockets.exceptions import ConnectionClosed

    watcher = watch(view)
    watcher.socket.send(text)
    with pytest.raises(ConnectionClosed) as caught:
        watcher.frame()
    assert caught.value.rcvd.code == 1003
    assert watch(view).next("sources")["sources"] == []


def test_stats_come_every_second_and_the_pipeline_knows_better(view, watch) -> None:
    sink = view.sink("front")
    for index in (0, 1, 5):
        sink.write(grey_frame(index), half_and_half())
    watcher = watch(view)
    stats = watcher.next("stats")["sources"][0]
    assert (stats["read"], stats["written"], stats["dropped"]) == (6, 3, 3)
    view.publish(
        {"read": 100, "dropped": 40, "latency_ms": {"p50": 12.5, "p95": 20, "p99": 30}}, source=sink
    )
    view.publish({"cpu_percent": 55.0})
    message = watcher.next("stats")
    while message["sources"][0]["read"] != 100:
        message = watcher.next("stats")
    stats = message["sources"][0]
    assert (stats["written"], stats["dropped"], stats["latency_ms"]["p50"]) == (3, 40, 12.5)
    assert message["system"] == {"cpu_percent": 55.0}
    assert message["viewers"] == 1


def test_metrics_are_prometheus_text(view) -> None:
    from segedge.frames.timing import Summary

    sink = view.sink('a "b"')
    frame = grey_frame(0)
    frame.times.add("network", 20.0)
    sink.write(frame, half_and_half())
    other = view.sink("other")
    view.publish(
        {"failed": 2, "latency_ms": Summary.of([10.0, 30.0]), "queue": 3, "drops": {"inbox": 5}},
        source=sink,
    )
    view.publish({"queue": 4, "note": "text"}, source=other)
    view.publish({"memory_bytes": 1000})
    status, text, headers = get(view.url + "metrics")
    assert status == 200
    assert headers["Content-Type"].startswith("text/plain; version=0.0.4")
    label = r'{source="a \"b\""'
    for line in (
        f"segedge_frames_written_total{label}}} 1",
        f"segedge_frames_failed_total{label}}} 2",
        f'segedge_latency_seconds{label},quantile="0.5"}} 0.02',
        f"segedge_latency_seconds_count{label}}} 1",
        f'segedge_stage_seconds_total{label},stage="network"}} 0.02',
        f"segedge_queue{label}}} 3",
        f'segedge_drops{label},part="inbox"}} 5',
        'segedge_queue{source="other"} 4',
        "segedge_memory_bytes 1000",
        "segedge_viewers 0",
    ):
        assert line in text.splitlines()
    sample = r"[a-zA-Z_:]\w*(\{(\w+=\"(\\.|[^\"\\])*\",?)*\})? -?[0-9.e+-]+"
    for line in text.splitlines():
        assert line.startswith("# ") or re.fullmatch(sample, line), line
    names = [re.split(r"[{ ]", line)[0] for line in text.splitlines() if line[0] != "#"]
    groups = [name for name, before in zip(names, ["", *names], strict=False) if name != before]
    assert len(groups) - len(set(groups)) <= 2, "only a summary's own lines alternate"


def test_metrics_of_motion(view) -> None:
    moving, still = view.sink("moving"), view.sink("still")
    names = ("agreement", "network_frames_total", "frames_total", "key_age_ms")
    view.publish({"read": 3}, source=still)
    assert "segedge_motion" not in get(view.url + "metrics")[1]
    motion = {"frames": 250, "network_frames": 84, "agreement": 0.987, "key_age_ms": 66.5}
    view.publish({"motion": motion}, source=moving)
    lines = get(view.url + "metrics")[1].splitlines()
    values = dict(zip(names, ("0.987", "84", "250", "66.5"), strict=True))
    for name, value in values.items():
        assert f'segedge_motion_{name}{{source="moving"}} {value}' in lines
        assert not any(line.startswith(f'segedge_motion_{name}{{source="still"') for line in lines)
    view.publish({"motion": {**motion, "agreement": None}}, source=moving)
    assert not any("motion_agreement" in line for line in get(view.url + "metrics")[1].splitlines())


def test_a_port_in_use(view, make_view) -> None:
    with pytest.raises(SinkError, match="cannot listen") as caught:
        make_view(port=view.address.port)
    assert "another program" in caught.value.facts["found"]
    assert "--live" in (caught.value.fix or "")


def test_an_address_of_another_machine(make_view) -> None:
    with pytest.raises(SinkError, match=r"cannot listen on 192\.0\.2\.1"):
        make_view("192.0.2.1")


def test_closing_sends_viewers_away_and_leaves_no_thread(make_view, watch) -> None:
    from websockets.exceptions import ConnectionClosed

    view = make_view()
    sink = view.sink("front")
    watcher = watch(view)
    watcher.send(watch=[0])
    until(lambda: view._hub.channels[0]._is_watched)
    for index in range(20):
        sink.write(grey_frame(index, height=720, width=1280), half_and_half(720, 1280))
    view.close()
    view.close()
    with pytest.raises(ConnectionClosed) as caught:
        [watcher.frame() for _ in range(20)]
    assert caught.value.rcvd.code == 1001
    assert not [t for t in threading.enumerate() if "segedge-live" in t.name]
    sink.write(grey_frame(99), half_and_half())  # a pipeline that has not noticed yet


def test_the_pipeline_writes_to_it_as_to_any_sink(view, watch) -> None:
    from segedge.pipeline.runner import Pipeline
    from segedge.video.memory import MemorySource

    def segment(frame, *, outputs):
        assert outputs == {"labels"}
        return FakeResult(np.zeros(frame.size, np.uint8))

    sink = view.sink("memory")
    source = MemorySource([np.zeros((48, 64, 3), np.uint8)] * 20)
    report = Pipeline(source, segment, [sink]).run()
    assert (report.written, report.failed) == (20, 0)
    assert watch(view).next("sources")["sources"][0]["state"] == "ended"

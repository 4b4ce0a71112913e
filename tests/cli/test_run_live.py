"""`segedge run` on several and on live sources: test patterns, limits, signals, the live view."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import re
import signal
import socket
import subprocess
import termios
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import cv2
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from segedge.cli.main import with_values
from segedge.cli.options import parse_seconds
from segedge.cli.progress import status_lines
from segedge.cli.run.outputs import outputs_by_source, source_labels
from segedge.errors import UsageError
from tests.cli.test_run import Run, expect_error, model, scene, segedge, write_clip
from tests.processes import PIPES, SEGEDGE, started

__all__ = ["model", "segedge"]  # fixtures


def start(*words: object, cwd: Path) -> AbstractContextManager[subprocess.Popen[str]]:
    environment = {**os.environ, "NO_COLOR": "1", "COLUMNS": "100"}
    return started([*SEGEDGE, *words], cwd=cwd, env=environment, **PIPES)


def wait_for_lines(
    process: subprocess.Popen[str],
    file: Path,
    *,
    meanwhile: Callable[[], None] = lambda: None,
) -> None:
    """Until two frames are written, or it has ended."""
    while process.poll() is None and not (file.is_file() and file.read_text().count("\n") >= 2):
        meanwhile()
        time.sleep(0.005)


def test_two_sources_to_a_folder(segedge: Run, model: Path, tmp_path: Path) -> None:
    write_clip(tmp_path / "a.mp4", frames=12)
    write_clip(tmp_path / "b.mp4", frames=7, size=(48, 64))
    done = segedge("run", model, "a.mp4", "b.mp4", "-o", "out/", "--json")
    facts = json.loads(done.stdout)
    assert [row["written"] for row in facts["sources"]] == [12, 7]
    assert facts["machine"]["process"]["cpu_seconds"] > 0
    for name, frames, size in (("a", 12, (128, 96)), ("b", 7, (64, 48))):
        capture = cv2.VideoCapture(str(tmp_path / f"out/{name}.mp4"))
        assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == frames
        assert (capture.get(cv2.CAP_PROP_FRAME_WIDTH), capture.get(4)) == size


def test_two_sources_by_name(segedge: Run, model: Path, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), scene())
    cv2.imwrite(str(tmp_path / "b.png"), scene())
    segedge("run", model, "a.png", "b.png", "-o", "{name}-seen.png", "-o", "n{index}.jpg")
    made = {path.name for path in tmp_path.iterdir()} - {"a.png", "b.png"}
    assert made == {"a-seen.png", "b-seen.png", "n0.jpg", "n1.jpg"}


def test_one_of_two_ends_early(segedge: Run, model: Path, tmp_path: Path) -> None:
    """The other one is whole; the exit code says that something is missing."""
    whole = write_clip(tmp_path / "whole.mkv", frames=300, size=(480, 640))
    (tmp_path / "half.mkv").write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    done = segedge("run", model, "half.mkv", "whole.mkv", "-o", "out/", "--json", code=1)
    expect_error(done, "half.mkv ends early")
    assert json.loads(done.stdout)["sources"][1]["written"] == 300
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "half.partial.mp4", "whole.mp4",
    }  # fmt: skip


def test_a_live_source_is_accounted_for(segedge: Run, model: Path, tmp_path: Path) -> None:
    done = segedge("run", model, "test:480p30", "--frames", 20, "-o", "out.mp4", "--json")
    facts = json.loads(done.stdout)
    assert facts["policy"] == "latest"
    assert facts["read"] == 20 == facts["written"] + facts["dropped"]
    assert facts["latency"]["p99_ms"] > 0
    assert facts["jitter"]["count"] == facts["written"] - 2
    inbox, network, out = facts["places"]
    assert (inbox["place"], network["place"], out["place"]) == ("inbox", "segmenter", "out.mp4")
    assert inbox["received"] == 20
    assert out["received"] == network["passed"] == out["passed"] + out["dropped"]
    capture = cv2.VideoCapture(str(tmp_path / "out.mp4"))
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == out["passed"]


def test_lossless_drops_nothing(segedge: Run, model: Path) -> None:
    done = segedge("run", model, "test:480p30", "--frames", 9, "--policy", "lossless", "--json")
    facts = json.loads(done.stdout)
    assert (facts["policy"], facts["read"], facts["written"]) == ("lossless", 9, 9)


def test_the_beginning_of_a_file(segedge: Run, model: Path, tmp_path: Path) -> None:
    """Not an early end: exit code 0, and the output has its own name."""
    write_clip(tmp_path / "in.mp4", frames=60)
    for limit in (("--frames", 20), ("--duration", "2s")):
        facts = json.loads(
            segedge("run", model, "in.mp4", "-o", "out.mp4", *limit, "--json").stdout
        )
        assert (facts["written"], facts["dropped"], facts["failures"]) == (20, 0, [])
        assert cv2.VideoCapture(str(tmp_path / "out.mp4")).get(cv2.CAP_PROP_FRAME_COUNT) == 20


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_signals_finish_all_files(
    model: Path, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    run = ("run", model, "test:480p30", "test:480p15")
    outs = ("-o", "out/", "-o", "{name}.jsonl", "--json")
    with start(*run, *outs, cwd=tmp_path) as process:
        wait_for_lines(process, tmp_path / "test-480p15.jsonl")
        process.send_signal(number)
        stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == code, stderr
    assert "Traceback" not in stderr
    for row in json.loads(stdout)["sources"]:
        assert (row["interrupted"], row["ended_by"]) == (True, number.name)
        assert row["read"] == row["written"] + row["dropped"]
        video, lines = row["places"][2:]
        capture = cv2.VideoCapture(str(tmp_path / video["place"]))
        assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == video["passed"] > 0
        assert (tmp_path / lines["place"]).read_text().count("\n") == lines["passed"]
    assert len(list((tmp_path / "out").iterdir())) == 2  # nothing half-written is left


def test_a_closed_terminal_leaves_whole_files(model: Path, tmp_path: Path) -> None:
    """Nobody reads what is printed any more."""
    ours, theirs = pty.openpty()
    words = ("run", model, "test:480p30", "-o", "out.mp4", "-o", "out.jsonl")
    facts_file = tmp_path / "out.jsonl"
    with started(
        [*SEGEDGE, *words],
        cwd=tmp_path, stdin=theirs, stdout=theirs, stderr=theirs,
        env={**os.environ, "COLUMNS": "100"},
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    ) as process:  # fmt: skip
        os.close(theirs)
        os.set_blocking(ours, False)

        def read() -> None:
            with contextlib.suppress(OSError):
                os.read(ours, 1 << 16)

        wait_for_lines(process, facts_file, meanwhile=read)
        os.close(ours)  # the system sends the first signal
        assert process.wait(timeout=60) == 129
    assert {path.name for path in tmp_path.iterdir()} == {"out.mp4", "out.jsonl"}
    capture = cv2.VideoCapture(str(tmp_path / "out.mp4"))
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == facts_file.read_text().count("\n") > 0


def test_json_lines_alone_on_standard_output(model: Path, tmp_path: Path) -> None:
    words = ("run", model, "test:480p30", "--frames", 5, "--policy", "lossless", "-o", "-")
    with start(*words, cwd=tmp_path) as process:
        printed, _ = process.communicate(timeout=60)
    rows = [json.loads(line) for line in printed.splitlines()]
    assert [row["index"] for row in rows] == list(range(5))


def test_the_live_view_serves_while_it_runs(model: Path, tmp_path: Path) -> None:
    pytest.importorskip("starlette")
    pytest.importorskip("uvicorn")
    pytest.importorskip("websockets")
    run = ("run", model, "test:480p30", "--no-check")
    with start(*run, "--live", "127.0.0.1:0", "--token", "secret", cwd=tmp_path) as process:
        assert process.stderr is not None
        line = process.stderr.readline()
        found = re.search(r"http://127\.0\.0\.1:\d+/\?token=secret", line)
        assert found, line
        with urllib.request.urlopen(found[0], timeout=20) as reply:
            assert b"<html" in reply.read().lower()
        with pytest.raises(urllib.error.HTTPError):
            urllib.request.urlopen(found[0].replace("secret", "wrong"), timeout=20)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
        assert process.returncode == 130


def test_a_port_in_use(segedge: Run, model: Path) -> None:
    pytest.importorskip("uvicorn")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        done = segedge("run", model, "test:480p30", "--live", address, code=2)
    expect_error(done, f"cannot listen on {address}", "fix")


def test_refusals(segedge: Run, model: Path, tmp_path: Path) -> None:
    run = ("run", model, "test:480p30")
    expect_error(segedge(*run, "test:720p30", "-o", "x.mp4", code=2), "'x.mp4' is one output")
    expect_error(segedge(*run, "--duration", "soon", code=2), "no time 'soon'", "--duration 10m")
    expect_error(segedge(*run, "--token", "x", code=2), "--token is for the live view")
    expect_error(segedge(*run, "-o", "-", "--json", code=2), "both write to standard output")
    expect_error(segedge(*run, "--size", "huge", code=2), "no size 'huge'")
    expect_error(segedge(*run, "--live", "1.2.3.4:99999", code=2), "99999")
    assert "newest" in segedge(*run, "--policy", "newest", code=2).stderr
    assert list(tmp_path.iterdir()) == []


def test_labels_are_short_different_and_hold_no_password() -> None:
    specs = [
        "0", "/dev/video2", "rtsp://admin:pw@10.0.0.5:554/door?key=secret", "a/cam.mp4",
        "b/cam.mp4", "test:720p30", "gst:videotestsrc ! appsink", "frames/", "'",
    ]  # fmt: skip
    assert source_labels(specs) == [
        "camera0", "video2", "10.0.0.5-554-door", "cam", "cam-2", "test-720p30", "gst", "frames",
        "source",
    ]  # fmt: skip


def test_outputs_by_source() -> None:
    def named(*outputs: str) -> list[list[str]]:
        return outputs_by_source(outputs, ["0", "a.png"], are_images=[False, True])

    assert named("out/", "x-{index}.mp4", "window") == [
        ["out/camera0.mp4", "x-0.mp4", "window:camera0"],
        ["out/a/", "x-1.mp4", "window:a"],
    ]
    assert outputs_by_source(["o.mp4", "x/"], ["0"], are_images=[False]) == [["o.mp4", "x/"]]
    for bad in ("o.mp4", "rtsp://host/live", "-", "plain"):
        with pytest.raises(UsageError, match="is one output, and there are 2 sources"):
            named(bad)


def test_braces_in_the_name_of_an_output() -> None:
    def named(output: str, *sources: str) -> list[str]:
        rows = outputs_by_source([output], sources, are_images=[False] * len(sources))
        return [row[0] for row in rows]

    assert named("{{x}}/{name}-{{index}}.mp4", "a.mp4") == ["{x}/a-{index}.mp4"]
    assert named("{{name}}/", "a.mp4", "b.mp4") == ["{name}/a.mp4", "{name}/b.mp4"]
    assert named("a}b{.mp4", "a.mp4") == ["a}b{.mp4"]


@pytest.mark.parametrize("sources", [["a.png"], ["a.png", "b.png"]], ids=len)
@pytest.mark.parametrize(
    ("wrong", "meant"),
    [("{nmae}", "{name}"), ("{Index}", "{index}"), ("{index:04}", "{index}"), ("{}", None)],
)
def test_an_unknown_placeholder_is_refused_before_anything_runs(
    segedge: Run, tmp_path: Path, wrong: str, meant: str | None, sources: list[str]
) -> None:
    """Even before the model is looked for; no file has its name."""
    out = f"out-{wrong}.png"
    told = segedge("run", "nowhere.onnx", *sources, "-o", out, code=2).stderr
    assert f"no placeholder '{wrong}'" in told.replace("\n", " ")
    assert ("did you mean" in told) == (meant is not None)
    assert f"did you mean '{meant}'" in told or meant is None
    assert out in told
    assert "{name}, {index}" in told
    assert f"'{{{wrong}}}'" in told
    assert not list(tmp_path.glob("out*"))


def test_live_stands_alone_or_takes_an_address() -> None:
    assert with_values(["m", "0", "--live"]) == ["m", "0", "--live="]
    assert with_values(["m", "--live", "0"]) == ["m", "--live=", "0"]
    assert with_values(["m", "--live", "cam.mp4"]) == ["m", "--live=", "cam.mp4"]
    assert with_values(["m", "--live", "rtsp://h:1/x"]) == ["m", "--live=", "rtsp://h:1/x"]
    assert with_values(["m", "--live", "-o", "x"]) == ["m", "--live=", "-o", "x"]
    for address in (":9000", "9000", "0.0.0.0:0", "[::1]:80", "host-1.lan:8090"):
        assert with_values(["--live", address]) == ["--live", address]


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("1.5s", 1.5), ("10m", 600), ("2h", 7200)]
)
def test_times(text: str, seconds: float) -> None:
    assert parse_seconds(text, option="--duration") == seconds


@pytest.mark.parametrize("text", ["", "s", "0", "-1s", "inf", "nan", "10 minutes", "1d"])
def test_times_that_are_none(text: str) -> None:
    with pytest.raises(UsageError, match="no time"):
        parse_seconds(text, option="--duration")


def test_the_status_line() -> None:
    source = {
        "name": "rtsp://10.0.0.5:554/a/rather/long/name", "fps": 29.97, "written": 100,
        "dropped": 3, "latency_ms": {"p50": 33.4, "p95": 51.2, "p99": 60.0}, "running": True,
    }  # fmt: skip
    waiting = {**source, "name": "cam", "latency_ms": None, "fps": 0.0, "running": False}
    process = {"cpu_percent": 61.2, "memory_mb": 302.4}
    lines = status_lines(
        {"seconds": 3725.9, "sources": [source, waiting], "process": process,
         "gpu": {"load_percent": 40.0, "power_w": 12.34}}
    )  # fmt: skip
    assert lines == [
        "01:02:05  …:554/a/rather/long/name  30.0 fps; latency 33 ms, p95 51 ms; 100 shown, "
        "3 dropped",
        "01:02:05  cam  0.0 fps; 100 shown, 3 dropped; ended",
        "          CPU 61 %, 302 MB, GPU 40 %, 12.3 W",
    ]
    assert all(len(line) <= 100 for line in lines)
    assert status_lines({"seconds": 0, "sources": [], "process": process, "gpu": None}) == [
        "          CPU 61 %, 302 MB"
    ]

"""A long run's evidence: memory, descriptors, threads and frames, while everything goes wrong.

`segedge run` in a process of its own, on a live source that is killed and started again, to a
recording in segments, JSON lines and the page with a viewer that never reads; a sample of the
process from time to time; SIGTERM at the end. Then a run onto a disk that becomes full.

    python benchmarks/soak.py model.onnx --save                # 30 minutes
    python benchmarks/soak.py model.onnx --minutes 0.3 --restart 7

The last line says whether it held: frames accounted for, exit codes, and what grew from the second
quarter of the run to its last.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import harness
import numpy as np
from document import Document, Figure

from segedge.machine.environment import Environment

ROOT = Path(__file__).parents[1]
_SIZE, _FPS = (320, 240), 25
_TERMINATED = 143
_DISK_BYTES = 1 << 20
_MOST_GROWTH_MB = 20.0


@dataclass(frozen=True)
class Sample:
    """A process at one moment."""

    seconds: float
    memory_mb: float
    descriptors: int
    threads: int


def camera(port: int) -> None:
    """Serve whoever connects an endless MPEG-TS stream, at the rate of a clock."""
    from segedge.video.ffmpeg import av

    server = socket.create_server(("127.0.0.1", port))
    while True:
        connection, _ = server.accept()
        with (
            contextlib.suppress(OSError),
            connection,
            av.open(connection.makefile("wb"), "w", format="mpegts") as container,
        ):
            stream = container.add_stream("libx264", rate=_FPS)
            stream.width, stream.height = _SIZE
            stream.options = {"preset": "ultrafast", "tune": "zerolatency", "g": "25"}
            _send(container, stream, av.VideoFrame)


def _send(container: Any, stream: Any, kind: Any) -> None:
    width, height = _SIZE
    ramp = np.linspace(0, 200, width * height * 3).reshape(height, width, 3).astype(np.uint8)
    start = time.monotonic()
    for number in range(10**9):
        frame = kind.from_ndarray(np.roll(ramp, number * 4, axis=1), format="bgr24")
        frame.pts, frame.time_base = number, Fraction(1, _FPS)
        container.mux(stream.encode(frame))
        time.sleep(max(0.0, start + (number + 1) / _FPS - time.monotonic()))


def start_camera(port: int) -> subprocess.Popen[bytes]:
    """The source, in a process that can be killed."""
    return subprocess.Popen([sys.executable, __file__, "--camera", str(port)], env=environment())


def environment() -> dict[str, str]:
    """Of children: this checkout first."""
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def free_port() -> int:
    """A port where nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def sample_of(pid: int, start: float) -> Sample:
    """What /proc says of a process."""
    folder = Path("/proc") / str(pid)
    words = dict(
        line.split(":", 1) for line in (folder / "status").read_text().splitlines() if ":" in line
    )
    memory = int(words["VmRSS"].split()[0]) * 1024 / 1e6
    count = len(list((folder / "fd").iterdir()))
    return Sample(
        round(time.monotonic() - start, 1), round(memory, 1), count, int(words["Threads"])
    )


@contextlib.contextmanager
def stalled_viewer(port: int) -> Iterator[None]:
    """Watch the page's video and never read: what it is sent must not pile up anywhere."""
    from websockets.sync.client import connect

    for _ in range(600):
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            break
        time.sleep(0.1)
    with connect(f"ws://127.0.0.1:{port}/ws", max_queue=1) as viewer:
        viewer.send(json.dumps({"watch": [0, 1]}))
        yield
        viewer.close_timeout = 0.1


def watch(
    run: subprocess.Popen[str], source: int, *, seconds: float, restart: float
) -> list[Sample]:
    """Sample a run, and kill and restart its source, until the time is over."""
    start, every = time.monotonic(), max(1.0, seconds / 120)
    samples: list[Sample] = []
    killed, server = start, start_camera(source)
    try:
        while time.monotonic() - start < seconds and run.poll() is None:
            time.sleep(every)
            if run.poll() is None:
                samples.append(sample_of(run.pid, start))
                print(json.dumps(vars(samples[-1])), flush=True)
            if time.monotonic() - killed > restart:
                server.kill()
                server.wait()
                time.sleep(1.0)
                killed, server = time.monotonic(), start_camera(source)
    finally:
        server.kill()
        server.wait()
    return samples


def long_run(model: Path, folder: Path, *, seconds: float, restart: float) -> dict[str, Any]:
    """The live run: its samples, exit code and account of frames."""
    source, page = free_port(), free_port()
    command = [
        sys.executable, "-m", "segedge", "run", str(model), f"tcp://127.0.0.1:{source}", "--json",
        "-o", str(folder / "rec.mp4"), "--segment", "30s", "-o", str(folder / "facts.jsonl"),
        f"--live=127.0.0.1:{page}", "--timeout", "5",
    ]  # fmt: skip
    first = start_camera(source)
    time.sleep(2.0)  # it listens before the run asks: a first connection is not tried again
    with (folder / "errors.txt").open("w+") as errors:
        run = subprocess.Popen(
            command, env=environment(), stdout=subprocess.PIPE, stderr=errors, text=True
        )
        try:
            with stalled_viewer(page):
                first.kill()
                first.wait()
                samples = watch(run, source, seconds=seconds, restart=restart)
                run.send_signal(signal.SIGTERM)
                out, _ = run.communicate(timeout=60)
        finally:
            first.kill()
            run.kill()
        errors.seek(0)
        told = errors.read()
    account = json.loads(out) if out.strip() else {}  # of one source: without a list of them
    counts = {name: account.get(name) for name in ("read", "written", "dropped", "failed")}
    return {"code": run.returncode, "told": told[-500:], "frames": counts, "samples": samples}


def full_disk(model: Path, folder: Path) -> str:
    """A recording onto a disk of a megabyte: how it ends. Empty where none can be made."""
    disk = folder / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={_DISK_BYTES}", "none", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        return ""
    try:
        words = ["run", str(model), "test:720p30", "-o", str(disk / "rec.mp4"), "--duration", "60s"]
        done = subprocess.run(
            [sys.executable, "-m", "segedge", *words, "--crf", "1"],
            env=environment(), capture_output=True, text=True, check=False, timeout=600,
        )  # fmt: skip
        first = next((x for x in done.stderr.splitlines() if x.startswith("error:")), "no error")
        return f"exit code {done.returncode}, {first}"
    finally:
        subprocess.run(["umount", str(disk)], check=False)


def growth(samples: Sequence[Sample]) -> dict[str, float]:
    """From the second quarter (all is open by then) to the last, by medians."""
    quarter = max(1, len(samples) // 4)
    early, late = samples[quarter : 2 * quarter] or samples, samples[-quarter:]
    return {
        name: round(
            statistics.median(getattr(s, name) for s in late)
            - statistics.median(getattr(s, name) for s in early),
            1,
        )
        for name in ("memory_mb", "descriptors", "threads")
    }


def problems(found: dict[str, Any], disk: str) -> list[str]:
    """What did not hold."""
    counts, grown = found["frames"], growth(found["samples"])
    missing = None in counts.values()
    lost = missing or counts["read"] != counts["written"] + counts["dropped"] + counts["failed"]
    checks = {
        f"exit code {found['code']}, not {_TERMINATED}": found["code"] != _TERMINATED,
        f"frames not accounted for: {counts}": lost or not counts["read"],
        f"grew: {grown}": grown["memory_mb"] > _MOST_GROWTH_MB or grown["descriptors"] > 5,
        "a traceback": "Traceback" in found["told"],
        f"full disk: {disk}": bool(disk) and ("code 2" not in disk or "disk is full" not in disk),
    }
    return [text for text, failed in checks.items() if failed]


def document(found: dict[str, Any], disk: str, minutes: float) -> Document:
    """The run as a results file: what a process held, quarter by quarter."""
    samples, units = found["samples"], {"memory_mb": "MB", "descriptors": "", "threads": ""}
    size = max(1, len(samples) // 4)
    quarters = [samples[start : start + size] for start in range(0, 4 * size, size)]
    figures = [
        Figure.of("run", name, [[getattr(s, name) for s in part] for part in quarters], unit=unit)
        for name, unit in units.items()
    ]
    return Document(
        benchmark="soak",
        includes=dict.fromkeys(units, "of the process; the rounds are the run's quarters"),
        figures=tuple(figures),
        settings={"minutes": minutes, "frame": list(_SIZE), "fps": _FPS},
        details={
            "frames": found["frames"],
            "exit code": found["code"],
            "full disk": disk,
            "growth": growth(samples),
            "did not hold": problems(found, disk),
        },
        environment=Environment.capture(),
    )


def main() -> None:
    """Run, print, and end with 1 where something did not hold."""
    parser = harness.saving_parser(__doc__)
    parser.add_argument("model", type=Path, nargs="?")
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--restart", type=float, default=60.0, help="seconds of a source's life")
    parser.add_argument("--camera", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.camera:
        camera(options.camera)
    if options.model is None:
        parser.error("name a model")
    with tempfile.TemporaryDirectory() as name:
        found = long_run(
            options.model, Path(name), seconds=options.minutes * 60, restart=options.restart
        )
        disk = full_disk(options.model, Path(name))
    if options.save:
        harness.save(document(found, disk, options.minutes))
    wrong = problems(found, disk)
    print(f"frames      {found['frames']}, exit code {found['code']}")
    print(f"growth      {growth(found['samples'])}")
    print(f"full disk   {disk or 'not tried: only root can mount one'}")
    print("held" if not wrong else f"did not hold: {'; '.join(wrong)}\n{found['told']}")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()

"""What a carried frame, a video, a live view and a long run cost."""

from __future__ import annotations

import resource
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from document import Figure
from frames.scenes import Scene, make_fast_scnn
from harness import Stopwatch

from carried.accuracy import CAMVID, NETWORK, Image
from segedge.backends.registry import open_backend
from segedge.card.geometry import Geometry, Size
from segedge.cpu.motion import Carrier, Key
from segedge.cpu.overlay import Blend
from segedge.cpu.preprocess import Preprocess
from segedge.cpu.tail import Tail
from segedge.cpu.workers import Workers
from segedge.frames.frame import Frame
from segedge.motion.track import Tracker
from segedge.options.frame import FrameOptions

MOTION = Path(__file__).parents[1] / "motion.py"
"""The script that a worker is started with."""


def cost(folder: Path, threads: int) -> Callable[[], dict[str, float]]:
    """One carried frame between two keys, and one through the network."""
    make_fast_scnn(folder)
    scene = Scene.load(folder)
    card, frame = scene.card, scene.frame
    backend = open_backend(folder / "cut.onnx", "onnxruntime", threads=threads).backend
    geometry, workers = Geometry.fit(frame, scene.network, card.fit), Workers(threads)
    preprocessor = Preprocess(card, geometry, workers=workers)
    tensor = np.empty(preprocessor.shape, np.float32)
    preprocessor.run(scene.frames[0], tensor)
    logits = backend.run([tensor])[0].copy()
    carrier = Carrier(card, geometry, card.grid_size(logits.shape), workers=workers)
    tail = Tail(card, geometry, carrier.grid, axes=carrier.axes, workers=workers)
    own = Tail(card, geometry, card.grid_size(logits.shape), workers=workers)
    blend, image = Blend.of(card.palette_rgb, 0.5), scene.frames[0]
    live, file = Tracker("flow"), Tracker("flow", is_file=True)
    images = [np.roll(image, shift, axis=1) for shift in (-6, 0, 6)]
    kept, out = carrier.keep(logits), np.empty(carrier.shape, np.float32)
    overlay = np.empty_like(image)

    def step() -> dict[str, float]:
        chains = {way: [way.see(Frame(image)) for image in images] for way in (live, file)}
        for seen in (*chains[live][::2], *chains[file]):
            seen.prepare()
        watch, laps = Stopwatch(), {}
        backend.run([tensor])
        laps["network"] = watch.lap()
        own.run(logits, overlay=overlay, frame=image, blend=blend)
        laps["tail of the network's grid"] = watch.lap()
        chains[live][1].prepare()
        laps["grey"] = watch.lap()
        for name, way in (("live", live), ("file", file)):
            way.field(chains[way], 2, 1)  # the step before this one
            watch.lap()
            fields = [way.field(chains[way], 1, 0)]
            laps[f"{name}: flow, and field to the key before"] = watch.lap()
        fields.append(file.field(chains[file], 1, 2))
        laps["file: field to the key after"] = watch.lap()
        keys = [Key(kept, found, 1.0) for found in fields]
        carrier.run(keys[:1], out)
        laps["carry from one key"] = watch.lap()
        carrier.run(keys, out)
        laps["carry from two keys"] = watch.lap()
        tail.run(out, overlay=overlay, frame=image, blend=blend)
        laps["tail of the finer grid"] = watch.lap()
        return laps

    return step


VIDEO_WAYS = ("onnxruntime", "onnxruntime every 4", "openvino", "openvino every 4")


def video(way: str, folder: Path, frames: int) -> float:
    """Frames a second of a recording in memory to overlays in order; the second turn counts."""
    import segedge

    backend, _, every = way.partition(" every ")
    motion = segedge.Motion(every=int(every)) if every else None
    images = [cv2.resize(image, (2048, 1024)) for image in _pictures(frames // 2)]
    images += images[::-1]
    rates = []
    with segedge.load(folder / "fast.onnx", backend=backend, motion=motion, check=False) as loaded:
        for _ in range(2):
            source = segedge.MemorySource(images, fps=15.0)
            with segedge.stream(loaded, source, outputs=("overlay",)) as stream:
                start = time.perf_counter()
                count = sum(1 for _ in stream)
                rates.append(count / (time.perf_counter() - start))
    return rates[-1]


def _pictures(count: int) -> list[Image]:
    paths = sorted((CAMVID / "images").iterdir())[:count]
    return [cv2.imread(str(path)) for path in paths]


def live(seconds: float) -> dict[str, float]:
    """A camera of 30 frames a second before a network of 90 ms."""
    import segedge

    card = segedge.ModelCard(
        ("dark", "middle", "bright"), ((0, 0, 0), (0, 0, 255), (255, 255, 0)), 360, 640, stride=8
    )
    fast = segedge.FakeBackend(card)

    def network(tensor: Image) -> Image:
        time.sleep(0.09)
        return fast.run([tensor])[0]

    options = FrameOptions(motion=segedge.Motion(every=1))
    backend = segedge.FakeBackend(card, network=network)
    source = segedge.open_source("test:720p30")
    sink = segedge.CallableSink(lambda frame, result: result.overlay(), needs={"overlay"})
    with segedge.Segmenter(card, backend, options=options) as segmenter:
        segmenter.warm_up(Size(720, 1280), outputs=("overlay",))
        pipeline = segedge.Pipeline(source, segmenter, [sink], policy="latest")
        threading.Timer(seconds, pipeline.stop).start()
        report = pipeline.run()
    assert report.latency is not None
    assert report.motion is not None
    return {
        "overlays a second": report.fps,
        "dropped": float(report.dropped),
        "latency p50 ms": report.latency.p50_ms,
        "latency p95 ms": report.latency.p95_ms,
        "frames a second through the network": report.motion["network_frames"] / report.seconds,
        "network ms": report.motion["network_ms"] or 0.0,
    }


def videos(options: Any, folder: Path) -> list[Figure]:
    """Every way in a process of its own, in turn."""
    make_fast(folder)
    frames = 12 if options.quick else 96
    rates: dict[str, list[list[float]]] = {way: [] for way in VIDEO_WAYS}
    for _ in range(1 if options.quick else options.rounds):
        for way in VIDEO_WAYS:
            command = [sys.executable, str(MOTION), "video", "--way", way, "--folder", str(folder)]
            done = subprocess.run(
                [*command, "--frames", str(frames)], capture_output=True, text=True, check=True
            )
            rates[way].append([float(done.stdout.split()[-1])])
    for way, turns in rates.items():
        print(f"{way:24}" + "".join(f"{turn[0]:8.1f}" for turn in turns) + "  frames a second")
    for backend in ("onnxruntime", "openvino"):
        pairs = zip(rates[f"{backend} every 4"], rates[backend], strict=True)
        ratios = sorted(carried[0] / plain[0] for carried, plain in pairs)
        print(f"{backend}: every fourth frame {ratios[len(ratios) // 2]:.2f} times the rate")
    return [Figure.of(way, "fps", turns, unit="1/s") for way, turns in rates.items()]


def make_fast(folder: Path) -> Path:
    """The Fast-SCNN of 512x1024, with its card."""
    from segedge.convert import ExportOptions, export

    source = NETWORK.with_name("fastscnn_camvid_512x1024.onnx")
    export(source, folder / "fast.onnx", options=ExportOptions(classes="camvid"))
    return folder / "fast.onnx"


def memory(frames: int) -> dict[str, float]:
    """A long video with the network on every fourth frame: resident memory as it goes, in MB."""
    import segedge

    card = segedge.ModelCard(
        ("dark", "middle", "bright"), ((0, 0, 0), (0, 0, 255), (255, 255, 0)), 180, 320, stride=8
    )
    source = segedge.open_source(f"test:640x360@30:{frames}")
    options, found = FrameOptions(motion=segedge.Motion(every=4)), {}
    marks = {frames // 10 * tenth for tenth in range(1, 11)}
    with (
        segedge.Segmenter(card, segedge.FakeBackend(card), options=options) as segmenter,
        segedge.stream(segmenter, source) as results,
    ):
        for count, (_, result) in enumerate(results, 1):
            result.overlay()
            if count in marks:
                found[f"after {count} frames"] = resident_mb()
    return found


def resident_mb() -> float:
    """Of this process, by Linux."""
    words = Path("/proc/self/statm").read_text().split()
    return int(words[1]) * resource.getpagesize() / 1e6

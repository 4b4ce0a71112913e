"""Video with the network on every N-th frame only: what it costs in accuracy, and in time.

``accuracy``: mIoU over *all* frames, the others' logits carried by motion from the key frame before
(past) or from those on both sides (both), beside those that keep the key frame's labels (held). On
CamVid's validation frames (in recording order, 15 fps) with the Fast-SCNN trained on it, and on the
bundled clip with its true labels. ``codec`` is the motion of H.264's own vectors: CamVid is coded
for it by x264 (medium, with and without B frames), the clip is as it lies there. ``N=1`` is the
network on every frame.

``cost``: each stage of a carried frame of 1024x2048 beside the network, Fast-SCNN 512x1024.

``video``: frames of 1024x2048 in memory to overlays in order through that network, on every frame
and on every fourth with the others interpolated; each way in a process of its own, in turn.

``live``: a pattern of 720p at 30 a second through a network that sleeps 90 ms, with the newest
logits carried to every frame: overlays a second, drops, and latency.

    python benchmarks/motion.py accuracy [--sets camvid clip] [--quick] [--save]
    python benchmarks/motion.py cost [--seconds 2] [--threads 2] [--quick] [--save]
    python benchmarks/motion.py video [--rounds 3] [--quick] [--save]
    python benchmarks/motion.py live [--seconds 20] [--quick] [--save]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import flicker
import harness
import numpy as np
from document import Document, Figure
from frames.scenes import SHARED, Scene, make_fast_scnn, make_street
from harness import Stopwatch

from segedge.backends.registry import open_backend
from segedge.card.card import ModelCard
from segedge.card.geometry import Geometry, Size
from segedge.card.modelfile import read_metadata
from segedge.cpu.motion import Carrier, Key
from segedge.cpu.overlay import Blend
from segedge.cpu.preprocess import Preprocess
from segedge.cpu.tail import Tail
from segedge.cpu.workers import Workers
from segedge.frames.frame import Frame
from segedge.machine.environment import Environment
from segedge.measure.datasets.mapping import IGNORED
from segedge.measure.evaluate.confusion import Confusion
from segedge.motion.field import MotionField
from segedge.motion.flow import Flow
from segedge.motion.grey import Grey, judged
from segedge.motion.track import Tracker
from segedge.options.frame import FrameOptions
from segedge.reference import motion as reference
from segedge.video.ffmpeg import av
from segedge.video.options import SourceOptions
from segedge.video.sources.open import open_source

CAMVID = SHARED / "data" / "camvid" / "val"
NETWORK = SHARED / "models" / "fastscnn_camvid.onnx"
DISTANCES = (2, 3, 4, 5, 6)
FINERS = {"refined": 2, "coarse": 1, "refined x3": 3, "a point a pixel": 8}
FUSED_SHARE = 0.7
X264 = {"codec": {"bf": "0"}, "codec, B frames": {}}
INCLUDES = {
    "miou": "mean IoU over classes of all frames, key frames and carried ones, in one matrix",
    "fps": "decoded frames in memory to overlays in order, network, flow and tail included",
    "live": "a camera of 30 a second and a network of 90 ms, as named",
    "milliseconds": "one stage of one frame; carry is of two keys, tail gives the overlay",
}
Image = np.ndarray
Motion = Callable[[int, int], MotionField]


@dataclass
class Film:
    """Frames in order, what is true of them, and what the network says to each."""

    card: ModelCard
    images: list[Image]
    truth: list[Image]
    logits: list[Image]
    path: Path | None = None
    """The film itself, where there is one."""

    @property
    def frame(self) -> Size:
        """Size of the frames."""
        return Size(*self.images[0].shape[:2])

    @cached_property
    def greys(self) -> list[Grey]:
        """The small grey image of each frame."""
        return [Grey.of(image) for image in self.images]


def film_of(model: Path, frames: Iterator[tuple[Image, Image]], path: Path | None = None) -> Film:
    """Run the network on every frame."""
    card = ModelCard.from_metadata(read_metadata(model))
    assert card is not None
    images, truth = (list(column) for column in zip(*frames, strict=True))
    backend = open_backend(model, "onnxruntime", threads=2).backend
    geometry = Geometry.fit(Size(*images[0].shape[:2]), card.input_size, card.fit)
    preprocessor = Preprocess(card, geometry)
    tensor = np.empty(preprocessor.shape, np.float32)
    logits = []
    for image in images:
        preprocessor.run(image, tensor)
        logits.append(backend.run([tensor])[0].copy())
    backend.close()
    return Film(card, images, truth, logits, path)


def camvid(folder: Path, count: int) -> Film:
    """The validation frames: one recording without a gap."""
    from segedge.convert import ExportOptions, export

    model = folder / "camvid.onnx"
    export(NETWORK, model, options=ExportOptions(classes="camvid"))
    names = sorted(path.stem for path in (CAMVID / "images").iterdir())[:count]
    assert len({name.partition("_")[0] for name in names}) == 1, "more than one recording"
    frames = (
        (
            cv2.imread(str(CAMVID / "images" / f"{name}.jpg")),
            cv2.imread(str(CAMVID / "labels" / f"{name}.png"), cv2.IMREAD_GRAYSCALE),
        )
        for name in names
    )
    return film_of(model, frames)


def clip(folder: Path, count: int) -> Film:
    """The bundled clip and network."""
    make_street(folder, network=Size(384, 768), frame=Size(540, 960))
    return film_of(folder / "cut.onnx", flicker.clip(count), flicker.CLIP)


SETS = {"camvid": camvid, "clip": clip}
FRAMES = {"camvid": 101, "clip": 120}


# --------------------------------------------------------------------------- motion


def by_flow(film: Film) -> Motion:
    """From neighbour to neighbour by flow, put one behind the other."""
    return tracked(Tracker("flow"), [Frame(image) for image in film.images])


def tracked(tracker: Tracker, frames: list[Frame]) -> Motion:
    """What a tracker says of them."""
    seen = [tracker.see(frame) for frame in frames]

    def motion(frame: int, key: int) -> MotionField:
        first = min(frame, key)
        return tracker.field(seen[first : max(frame, key) + 1], frame - first, key - first)

    return motion


def by_whole_flow(film: Film) -> Motion:
    """Flow found over the whole distance."""
    flow, found = Flow(), {}

    def motion(frame: int, key: int) -> MotionField:
        if (frame, key) not in found:
            grey, other = film.greys[frame], film.greys[key]
            found[frame, key] = judged(flow.step(grey, other), grey, other)
        return found[frame, key]

    return motion


def by_vectors(film: Film, options: dict[str, str], folder: Path) -> Motion:
    """As `by_flow`, by the codec's vectors; flow where a frame has none."""
    path = film.path or written(folder / "film.mp4", film.images, options)
    with closing(open_source(path, options=SourceOptions(motion_vectors=True))) as source:
        frames = list(islice(source.frames(), len(film.images)))
    tracker = Tracker("codec")
    motion = tracked(tracker, frames)
    print(f"{tracker.answered} of {tracker.asked} frames have vectors", file=sys.stderr)
    return motion


def written(path: Path, images: list[Image], options: dict[str, str]) -> Path:
    """Frames as H.264."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=15, options={"preset": "medium", **options})
        stream.height, stream.width = images[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        for index, image in enumerate(images):
            frame = av.VideoFrame.from_ndarray(image, format="bgr24")
            frame.pts = index
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


# --------------------------------------------------------------------------- accuracy


@dataclass
class Carried:
    """Labels of frames whose logits are carried onto a grid so many times finer."""

    film: Film
    finer: int
    carrier: Carrier = field(init=False)
    tail: Tail = field(init=False)
    kept: dict[int, Image] = field(default_factory=dict)

    def __post_init__(self) -> None:
        card, frame = self.film.card, self.film.frame
        geometry = Geometry.fit(frame, card.input_size, card.fit)
        grid = card.grid_size(self.film.logits[0].shape)
        self.carrier = Carrier(card, geometry, grid, finer=self.finer)
        self.tail = Tail(card, geometry, self.carrier.grid, axes=self.carrier.axes)
        self.out = np.empty(self.carrier.shape, np.float32)

    def labels(self, keys: list[tuple[int, MotionField, float]]) -> Image:
        """From key frames: number, field, and frames between."""
        self.carrier.run([Key(self.key(n), found, far) for n, found, far in keys], self.out)
        labels = np.empty((self.film.frame.height, self.film.frame.width), np.uint8)
        self.tail.run(self.out, labels=labels)
        return labels

    def key(self, number: int) -> Image:
        """Logits as the carrier reads them."""
        if number not in self.kept:
            self.kept[number] = self.carrier.keep(self.film.logits[number])
        return self.kept[number]


def plain_labels(film: Film) -> list[Image]:
    """The network's own, of every frame."""
    geometry = Geometry.fit(film.frame, film.card.input_size, film.card.fit)
    tail = Tail(film.card, geometry, film.card.grid_size(film.logits[0].shape))
    found = []
    for logits in film.logits:
        labels = np.empty((film.frame.height, film.frame.width), np.uint8)
        tail.run(logits, labels=labels)
        found.append(labels)
    return found


def score(film: Film, labels: Callable[[int], Image]) -> float:
    """MIoU in % over all frames."""
    confusion = Confusion(film.card.classes)
    known = len(film.card.classes)
    for number, truth in enumerate(film.truth):
        counted = np.where(truth < known, truth.astype(np.int16), IGNORED)
        confusion.add(counted, labels(number))
    return 100.0 * confusion.miou


def carried_labels(
    plain: list[Image], carried: Carried, motion: Motion, distance: int, both: bool
) -> Callable[[int], Image]:
    """Of each frame: the network's at key frames, carried ones between."""
    last = len(plain) - 1

    def labels(number: int) -> Image:
        before = number // distance * distance
        after = min(before + distance, last)
        if number in (before, after if both else before):
            return plain[number]
        keys = [before, after] if both else [before]
        return carried.labels(
            [(key, motion(number, key), float(abs(key - number))) for key in keys]
        )

    return labels


def accuracy(name: str, folder: Path, count: int, distances: tuple[int, ...]) -> dict[str, float]:
    """Figures of one set, by variant; printed as they come."""
    film = SETS[name](folder, count)
    plain = plain_labels(film)
    rows = {f"{name}, N=1": score(film, plain.__getitem__)}
    say(rows)
    for distance in distances:
        rows[f"{name}, N={distance}, held"] = score(
            film, lambda number, n=distance: plain[number // n * n]
        )
    for distance in (1, *distances[:2]):
        rows[f"{name}, N={distance}, past, fused"] = fused(film, by_flow(film), distance)
        say(rows)
    codecs = {"codec": {}} if film.path else X264
    motions = {"flow": by_flow(film), "whole flow": by_whole_flow(film)}
    motions |= {kind: by_vectors(film, options, folder) for kind, options in codecs.items()}
    for kind, motion in motions.items():
        for form, finer in FINERS.items() if kind == "flow" else (("refined", 2),):
            carried = Carried(film, finer)
            for both in (False, True):
                for distance in distances if form == "refined" else distances[:2]:
                    labels = carried_labels(plain, carried, motion, distance, both)
                    side = "both" if both else "past"
                    rows[f"{name}, N={distance}, {side}, {kind}, {form}"] = score(film, labels)
                    say(rows)
    return rows


def fused(film: Film, motion: Motion, distance: int) -> float:
    """The score of past, with key frames that lean on the key frame before."""
    carried, card = Carried(film, 2), film.card
    geometry = Geometry.fit(film.frame, card.input_size, card.fit)
    grid, shape = card.grid_size(film.logits[0].shape), film.logits[0].shape
    own, plain = Carrier(card, geometry, grid, finer=1), Tail(card, geometry, grid)
    past = np.empty(shape, np.float32)
    for key in range(distance, len(film.images), distance):
        before = key - distance
        field = motion(key, before)
        own.run([Key(carried.key(before), field)], past)
        share = reference.past_share(field, card, geometry, grid, share=FUSED_SHARE)
        carried.kept[key] = own.keep(reference.fused(film.logits[key], past, share))

    def labels(number: int) -> Image:
        key = number // distance * distance
        if number != key:
            return carried.labels([(key, motion(number, key), 1.0)])
        found = np.empty((film.frame.height, film.frame.width), np.uint8)
        plain.run(carried.key(key).reshape(film.logits[0].shape), labels=found)
        return found

    return score(film, labels)


def say(rows: dict[str, float]) -> None:
    """The latest figure."""
    name, value = next(reversed(rows.items()))
    print(f"{name:44} {value:7.2f}", flush=True)


# --------------------------------------------------------------------------- cost


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
    tracker, images = Tracker("flow"), [np.roll(image, shift, axis=1) for shift in (-6, 0, 6)]
    kept, out = carrier.keep(logits), np.empty(carrier.shape, np.float32)
    overlay = np.empty_like(image)

    def step() -> dict[str, float]:
        before = tracker.see(Frame(images[0]))
        watch, laps = Stopwatch(), {}
        backend.run([tensor])
        laps["network"] = watch.lap()
        own.run(logits, overlay=overlay, frame=image, blend=blend)
        laps["tail of the network's grid"] = watch.lap()
        here = tracker.see(Frame(images[1]))
        laps["grey"] = watch.lap()
        chain = [before, here, tracker.see(Frame(images[2]))]
        tracker.field(chain, 2, 1)
        watch.lap()
        fields = [tracker.field(chain, 1, 0)]
        laps["flow, and field to the key before"] = watch.lap()
        fields.append(tracker.field(chain, 1, 2))
        laps["field to the key after"] = watch.lap()
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
            command = [sys.executable, __file__, "video", "--way", way, "--folder", str(folder)]
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


def main() -> None:
    """Measure, print, save."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["accuracy", "cost", "video", "live"])
    parser.add_argument("--rounds", type=harness.positive(int), default=3)
    parser.add_argument("--way", help=argparse.SUPPRESS)  # the worker's side of `video`
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    parser.add_argument("--frames", type=int, default=96, help=argparse.SUPPRESS)
    parser.add_argument("--sets", nargs="+", choices=list(SETS), default=list(SETS))
    parser.add_argument("--seconds", type=harness.positive(float), default=2.0)
    parser.add_argument("--threads", type=harness.positive(int), default=2)
    parser.add_argument("--quick", action="store_true", help="a few frames: does it run?")
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/")
    options = parser.parse_args()
    if options.way:
        print(video(options.way, Path(options.folder), options.frames))
        return
    environment = Environment.capture()
    harness.say_machine(environment)
    with tempfile.TemporaryDirectory() as folder:
        if options.what == "accuracy":
            figures = accuracies(options, Path(folder))
        elif options.what == "video":
            figures = videos(options, Path(folder))
        elif options.what == "live":
            found = live(3.0 if options.quick else max(options.seconds, 20.0))
            for name, value in found.items():
                print(f"{name:40}{value:8.1f}")
            figures = [Figure.of(name, "live", [[value]]) for name, value in found.items()]
        else:
            seconds = 0.05 if options.quick else options.seconds
            samples = harness.measure(cost(Path(folder), options.threads), seconds=seconds)
            figures = [
                Figure.of(stage, "milliseconds", [values]) for stage, values in samples.items()
            ]
            for figure in figures:
                print(f"{figure.variant:30}{figure.median:8.2f} ms  least {figure.minimum:.2f}")
    settings = {"threads": options.threads, "frames": FRAMES}
    document = Document(
        f"motion_{options.what}", INCLUDES, tuple(figures), settings, environment=environment
    )
    if options.save:
        harness.save(document, quick=options.quick)


def accuracies(options: Any, folder: Path) -> list[Figure]:
    """Of the sets that are asked for."""
    figures = []
    for name in options.sets:
        count = 7 if options.quick else FRAMES[name]
        rows = accuracy(name, folder, count, DISTANCES[:2] if options.quick else DISTANCES)
        figures += [
            Figure.of(variant, "miou", [[value]], unit="%") for variant, value in rows.items()
        ]
    return figures


if __name__ == "__main__":
    main()

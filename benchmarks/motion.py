"""Video with the network on every N-th frame only: what it costs in accuracy, and in time.

``accuracy``: mIoU over *all* frames, the others' logits carried by motion from the key frame before
(past) or from those on both sides (both), beside those that keep the key frame's labels (held). On
CamVid's validation frames (in recording order, 15 fps) with the Fast-SCNN trained on it, and on the
bundled clip with its true labels. ``codec`` is the motion of H.264's own vectors: CamVid is coded
for it by x264 (medium, with and without B frames), the clip is as it lies there. ``N=1`` is the
network on every frame.

``cost``: each stage of a carried frame of 1024x2048 beside the network, Fast-SCNN 512x1024.

    python benchmarks/motion.py accuracy [--sets camvid clip] [--quick] [--save]
    python benchmarks/motion.py cost [--seconds 2] [--threads 2] [--quick] [--save]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
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
from segedge.cpu.preprocess import Preprocessor
from segedge.cpu.tail import Tail
from segedge.cpu.workers import Workers
from segedge.machine.environment import Environment
from segedge.measure.datasets.mapping import IGNORED
from segedge.measure.evaluate.confusion import Confusion
from segedge.motion.chain import composed, turned_around
from segedge.motion.field import MotionField
from segedge.motion.flow import Flow
from segedge.motion.grey import field_of, grey_of
from segedge.motion.vectors import neighbour_motion
from segedge.video.ffmpeg import av

CAMVID = SHARED / "data" / "camvid" / "val"
NETWORK = SHARED / "models" / "fastscnn_camvid.onnx"
DISTANCES = (2, 3, 4, 5, 6)
FINERS = {"refined": 2, "coarse": 1, "refined x3": 3, "a point a pixel": 8}
X264 = {"codec": {"bf": "0"}, "codec, B frames": {}}
INCLUDES = {
    "miou": "mean IoU over classes of all frames, key frames and carried ones, in one matrix",
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
    def greys(self) -> list[Image]:
        """The small grey image of each frame."""
        return [grey_of(image) for image in self.images]


def film_of(model: Path, frames: Iterator[tuple[Image, Image]], path: Path | None = None) -> Film:
    """Run the network on every frame."""
    card = ModelCard.from_metadata(read_metadata(model))
    assert card is not None
    images, truth = (list(column) for column in zip(*frames, strict=True))
    backend = open_backend(model, "onnxruntime", threads=2).backend
    geometry = Geometry.fit(Size(*images[0].shape[:2]), card.input_size, card.fit)
    preprocessor = Preprocessor(card, geometry)
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
    """Between any two frames, found once."""
    flow, found = Flow(), {}

    def motion(frame: int, key: int) -> MotionField:
        if (frame, key) not in found:
            found[frame, key] = flow.field(film.greys[frame], film.greys[key], film.frame)
        return found[frame, key]

    return motion


def by_vectors(film: Film, options: dict[str, str], folder: Path) -> Motion:
    """From neighbour to neighbour by the codec's vectors, put one behind the other.

    Where a frame has none, flow from neighbour to neighbour.
    """
    path = film.path or written(folder / "film.mp4", film.images, options)
    flow, back = Flow(), [np.zeros(0, np.float32)]
    seen: list[Image] = []
    for number, frame in enumerate(decoded(path)):
        if number >= len(film.images):
            break
        seen.append(grey_of(frame.to_ndarray(format="bgr24")))
        if number == 0:
            continue
        data = frame.side_data.get("MOTION_VECTORS")
        found = None
        if data is not None:
            found = neighbour_motion(data.to_ndarray(), film.frame, seen[-1], seen[-2])
        if found is None:
            print(f"frame {number} has no vectors: flow", file=sys.stderr)
            found = flow.field(seen[-1], seen[-2], film.frame).displacement
        back.append(found)
    forth = [turned_around(found, film.frame) for found in back[1:]]

    def motion(frame: int, key: int) -> MotionField:
        steps = back[frame:key:-1] if key < frame else forth[frame:key]
        total = steps[0]
        for step in steps[1:]:
            total = composed(total, step, film.frame)
        grey = film.greys[frame]
        scale = np.float32([grey.shape[1] / film.frame.width, grey.shape[0] / film.frame.height])
        moved = cv2.resize(total * scale, grey.shape[::-1], interpolation=cv2.INTER_LINEAR)
        return field_of(moved, grey, film.greys[key], film.frame)

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


def decoded(path: Path) -> Iterator[Any]:
    """Frames with their vectors."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.options = {"flags2": "+export_mvs"}
        yield from container.decode(stream)


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
    codecs = {"codec": {}} if film.path else X264
    motions = {"flow": by_flow(film)}
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
    preprocessor = Preprocessor(card, geometry, workers=workers)
    tensor = np.empty(preprocessor.shape, np.float32)
    preprocessor.run(scene.frames[0], tensor)
    logits = backend.run([tensor])[0].copy()
    carrier = Carrier(card, geometry, card.grid_size(logits.shape), workers=workers)
    tail = Tail(card, geometry, carrier.grid, axes=carrier.axes, workers=workers)
    own = Tail(card, geometry, card.grid_size(logits.shape), workers=workers)
    flow, blend = Flow(), Blend.of(card.palette_rgb, 0.5)
    image = scene.frames[0]
    before, after = (grey_of(np.roll(image, shift, axis=1)) for shift in (-6, 6))
    kept, out = carrier.keep(logits), np.empty(carrier.shape, np.float32)
    overlay = np.empty_like(image)

    def step() -> dict[str, float]:
        watch, laps = Stopwatch(), {}
        backend.run([tensor])
        laps["network"] = watch.lap()
        own.run(logits, overlay=overlay, frame=image, blend=blend)
        laps["tail of the network's grid"] = watch.lap()
        grey = grey_of(image)
        laps["grey"] = watch.lap()
        fields = [flow.field(grey, before, frame)]
        laps["flow to one key"] = watch.lap()
        fields.append(flow.field(grey, after, frame))
        watch.lap()
        keys = [Key(kept, found, 1.0) for found in fields]
        carrier.run(keys[:1], out)
        laps["carry from one key"] = watch.lap()
        carrier.run(keys, out)
        laps["carry from two keys"] = watch.lap()
        tail.run(out, overlay=overlay, frame=image, blend=blend)
        laps["tail of the finer grid"] = watch.lap()
        return laps

    return step


def main() -> None:
    """Measure, print, save."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["accuracy", "cost"])
    parser.add_argument("--sets", nargs="+", choices=list(SETS), default=list(SETS))
    parser.add_argument("--seconds", type=harness.positive(float), default=2.0)
    parser.add_argument("--threads", type=harness.positive(int), default=2)
    parser.add_argument("--quick", action="store_true", help="a few frames: does it run?")
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/")
    options = parser.parse_args()
    environment = Environment.capture()
    harness.say_machine(environment)
    with tempfile.TemporaryDirectory() as folder:
        if options.what == "accuracy":
            figures = accuracies(options, Path(folder))
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

"""Films, the motion in them, and what carrying the logits along costs in accuracy."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from pathlib import Path

import cv2
import flicker
import numpy as np
from frames.scenes import SHARED, make_street

from segedge.backends.registry import open_backend
from segedge.card.card import ModelCard
from segedge.card.geometry import Geometry, Size
from segedge.card.modelfile import read_metadata
from segedge.cpu.motion import Carrier, Key
from segedge.cpu.preprocess import Preprocess
from segedge.cpu.tail import Tail
from segedge.frames.frame import Frame
from segedge.measure.datasets.mapping import IGNORED
from segedge.measure.evaluate.confusion import Confusion
from segedge.motion.field import MotionField
from segedge.motion.flow import Flow
from segedge.motion.grey import Grey, judged
from segedge.motion.track import Tracker
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


def by_flow(film: Film, *, both: bool = False) -> Motion:
    """From neighbour to neighbour by flow, put one behind the other; of a file, or live."""
    return tracked(Tracker("flow", is_file=both), [Frame(image) for image in film.images])


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
    told = sum(f.motion_vectors is not None and f.motion_vectors.size > 0 for f in frames)
    print(f"{told} of {len(frames)} frames have vectors", file=sys.stderr)
    return tracked(Tracker("codec"), frames)


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
    whole = by_whole_flow(film)
    motions = {"flow": (by_flow(film), by_flow(film, both=True)), "whole flow": (whole, whole)}
    for kind, options in codecs.items():
        motions[kind] = (by_vectors(film, options, folder),) * 2
    for kind, ways in motions.items():
        for form, finer in FINERS.items() if kind == "flow" else (("refined", 2),):
            carried = Carried(film, finer)
            for both in (False, True):
                for distance in distances if form == "refined" else distances[:2]:
                    labels = carried_labels(plain, carried, ways[both], distance, both)
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
    past, looked = np.empty(shape, np.float32), list(film.logits)
    for key in range(distance, len(film.images), distance):
        before = key - distance
        field = motion(key, before)
        own.run([Key(carried.key(before), field)], past)
        share = reference.past_share(field, card, geometry, grid, share=FUSED_SHARE)
        looked[key] = reference.fused(film.logits[key], past, share)
        carried.kept[key] = own.keep(looked[key])

    def labels(number: int) -> Image:
        key = number // distance * distance
        if number != key:
            return carried.labels([(key, motion(number, key), 1.0)])
        found = np.empty((film.frame.height, film.frame.width), np.uint8)
        plain.run(looked[key], labels=found)
        return found

    return score(film, labels)


def say(rows: dict[str, float]) -> None:
    """The latest figure."""
    name, value = next(reversed(rows.items()))
    print(f"{name:44} {value:7.2f}", flush=True)

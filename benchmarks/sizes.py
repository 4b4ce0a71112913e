"""How cost grows: with frame size, network size, number of classes and batch.

    python benchmarks/sizes.py [--save] [--only frame|network|classes|batch] [--backend NAME]

frame: everything around a network of 512x1024, 19 classes at stride 8, for frames from 360p to 4K.
network: the bundled network from 256x512 to 1024x2048, frames of 1080p. classes: the tail for 2 to
256 classes, 1080p. batch: the network alone, batch 1 to 8. Each sweep is a process of its own, its
points in turn, several rounds. Under each sweep the line that fits best (least squares over the
medians): a constant, the cost of one unit more, and R2, the share of the variance explained.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import harness
import numpy as np
from document import Figure, rounded
from frames.scenes import STREET
from numpy.typing import NDArray

from segedge.card.card import ModelCard
from segedge.card.geometry import Geometry, Size

FRAMES = {
    "360p": Size(360, 640), "540p": Size(540, 960), "720p": Size(720, 1280),
    "1080p": Size(1080, 1920), "1440p": Size(1440, 2560), "4K": Size(2160, 3840),
}  # fmt: skip
NETWORKS = (
    Size(256, 512), Size(384, 768), Size(512, 1024), Size(768, 1536), Size(1024, 2048)
)  # fmt: skip
CLASSES = (2, 11, 19, 64, 150, 256)
BATCHES = (1, 2, 4, 8)
BATCH_SIZE = Size(256, 512)
"""Input of the network that is run in batches."""
INCLUDES = {
    "preprocess": "frame to the network's input tensor",
    "tail, labels": "logits to labels of the frame's size",
    "tail, overlay": "logits to the overlay",
    "around": "preprocessing and tail with overlay: what a frame costs beside its network",
    "network": "the network alone, tensor to logits",
    "frame": "uint8 BGR image to uint8 BGR overlay",
}
Step = Callable[[], object]


@dataclass(frozen=True)
class Fit:
    """The line of a quantity over a sweep."""

    quantity: str
    unit: str
    constant_ms: float
    per_unit_ms: float
    r2: float

    @property
    def text(self) -> str:
        """In one line."""
        line = f"{self.constant_ms:.3f} ms + {self.per_unit_ms:.3f} ms a {self.unit}"
        return f"{self.quantity}: {line}, R2 {self.r2:.3f}"


def fit(quantity: str, unit: str, points: list[tuple[float, float]]) -> Fit:
    """Least squares through (units, milliseconds), at least two of different units."""
    x, y = np.array(points, np.float64).T
    slope, constant = np.polyfit(x, y, 1)
    spread = float(((y - y.mean()) ** 2).sum())
    left = float(((y - constant - slope * x) ** 2).sum())
    return Fit(
        quantity, unit, float(constant), float(slope), 1.0 - left / spread if spread else 1.0
    )


@dataclass(frozen=True)
class Sweep:
    """One thing that varies."""

    unit: str
    """What the fitted line counts."""
    points: dict[str, float]
    """Name to units."""
    make: Callable[[str, Any], dict[str, Step]]
    """From a point and the options to quantity and what is timed."""


def around_steps(size: Size, network: Size, classes: int) -> dict[str, Step]:
    """Preprocessing and tail for one frame size, on a drawn scene of regions with soft borders."""
    from segedge.cpu.overlay import Blend
    from segedge.cpu.preprocess import Preprocess
    from segedge.cpu.tail import Tail

    card = drawn_card(network, classes)
    geometry = Geometry.fit(size, network, card.fit)
    preprocessor = Preprocess(card, geometry)
    grid = Size(network.height // card.stride, network.width // card.stride)
    tail, logits = Tail(card, geometry, grid), drawn_logits(grid, classes)
    frame = np.random.default_rng(0).integers(0, 256, (size.height, size.width, 3), np.uint8)
    tensor, overlay = np.empty(preprocessor.shape, np.float32), np.empty_like(frame)
    labels = np.empty((size.height, size.width), np.uint8)
    painted = {"overlay": overlay, "frame": frame, "blend": Blend.of(card.palette_rgb, 0.5)}

    def around() -> None:
        preprocessor.run(frame, tensor)
        tail.run(logits, **painted)

    return {
        "preprocess": lambda: preprocessor.run(frame, tensor),
        "tail, labels": lambda: tail.run(logits, labels=labels),
        "tail, overlay": lambda: tail.run(logits, **painted),
        "around": around,
    }


def drawn_card(network: Size, classes: int) -> ModelCard:
    """A card at stride 8."""
    shades = tuple((k * 13 % 256, k * 47 % 256, k * 101 % 256) for k in range(classes))
    names = tuple(f"class{k}" for k in range(classes))
    return ModelCard(names, shades, network.height, network.width, stride=8)


def drawn_logits(grid: Size, classes: int) -> NDArray[np.float32]:
    """Smooth fields, one a class: the regions keep their size however many classes there are."""
    random = np.random.default_rng(0)
    planes = []
    for _ in range(classes):
        field = random.standard_normal((grid.height, grid.width)).astype(np.float32)
        planes.append(50 * cv2.GaussianBlur(field, (0, 0), grid.height / 10))
    return np.ascontiguousarray(np.stack(planes)[None])


def frame_steps(point: str, options: Any) -> dict[str, Step]:
    """A frame size."""
    small = options.quick
    size = Size(FRAMES[point].height // 8, FRAMES[point].width // 8) if small else FRAMES[point]
    return around_steps(size, Size(64, 128) if small else Size(512, 1024), 19)


def classes_steps(point: str, options: Any) -> dict[str, Step]:
    """A number of classes; the tail alone, preprocessing does not know of them."""
    sizes = (Size(135, 240), Size(64, 128)) if options.quick else (FRAMES["1080p"], Size(512, 1024))
    steps = around_steps(*sizes, int(point))
    return {name: steps[name] for name in ("tail, labels", "tail, overlay")}


def network_steps(point: str, options: Any) -> dict[str, Step]:
    """A network size: the whole frame, and the network alone."""
    import segedge
    from segedge.measure.bench.worker.modes import network_step
    from segedge.measure.bench.worker.picture import street_like

    size = FRAMES["1080p"]
    segmenter: Any = segedge.load(options.folder / f"{point}.onnx", backend=options.backend)
    frame = street_like(size.height, size.width)
    alone = network_step(segmenter)
    return {
        "network": alone,
        "frame": lambda: segmenter(frame, outputs=("overlay",)).overlay(),
    }


def batch_steps(point: str, options: Any) -> dict[str, Step]:
    """A batch: the network alone, on random numbers."""
    from segedge.backends.registry import open_backend

    backend = open_backend(options.folder / "batch.onnx", options.backend).backend
    shape = (int(point), 3, BATCH_SIZE.height, BATCH_SIZE.width)
    tensor = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    outputs = [np.array(array) for array in backend.run([tensor])]
    return {"network": partial(backend.run, [tensor], outputs)}


def _megapixels(size: Size) -> float:
    return size.height * size.width / 1e6


SWEEPS: dict[str, Sweep] = {
    "frame": Sweep(
        "megapixel of the frame", {n: _megapixels(s) for n, s in FRAMES.items()}, frame_steps
    ),
    "network": Sweep(
        "megapixel of the network's input", {str(s): _megapixels(s) for s in NETWORKS},
        network_steps,
    ),
    "classes": Sweep("class", {str(count): float(count) for count in CLASSES}, classes_steps),
    "batch": Sweep("image", {str(count): float(count) for count in BATCHES}, batch_steps),
}  # fmt: skip


def export_networks(folder: Path, sweeps: list[str]) -> None:
    """The bundled network at every size that the sweeps want, and one with a dynamic batch."""
    from segedge.convert import ExportOptions, export

    source, classes = f"{STREET / 'network.py'}:street_net", str(STREET / "classes.txt")
    checkpoint = STREET / "street.pth"
    for size in NETWORKS if "network" in sweeps else ():
        options = ExportOptions(checkpoint=checkpoint, size=size, classes=classes)
        export(source, folder / f"{size}.onnx", options=options)
    if "batch" in sweeps:
        options = ExportOptions(
            checkpoint=checkpoint, size=BATCH_SIZE, classes=classes, dynamic=("batch",)
        )
        export(source, folder / "batch.onnx", options=options)


def sweep_samples(name: str, options: Any) -> dict[str, list[float]]:
    """A worker: all points of a sweep in turn; ``point|quantity`` to milliseconds."""
    points = {point: SWEEPS[name].make(point, options) for point in SWEEPS[name].points}
    steps = {f"{point}|{q}": step for point, found in points.items() for q, step in found.items()}
    for step in [*steps.values()] * 2:
        step()
    samples: dict[str, list[float]] = {key: [] for key in steps}
    end = time.monotonic() + options.seconds * len(points)
    while time.monotonic() < end or len(samples[next(iter(steps))]) < harness.AT_LEAST:
        for key, step in steps.items():
            started = time.perf_counter_ns()
            step()
            samples[key].append((time.perf_counter_ns() - started) / 1e6)
    return samples


def figures_of(name: str, turns: harness.Turns) -> list[Figure]:
    """A figure a point and quantity."""
    rounds = turns.samples.get(name, [])
    found = []
    for key in rounds[0] if rounds else ():
        point, quantity = key.split("|")
        parameters = {"sweep": name, "units": rounded(SWEEPS[name].points[point])}
        values = [samples[key] for samples in rounds]
        found.append(Figure.of(point, quantity, values, parameters=parameters))
    return found


def fits_of(name: str, figures: list[Figure]) -> list[Fit]:
    """The line of each quantity."""
    quantities = list(dict.fromkeys(figure.quantity for figure in figures))
    return [
        fit(
            quantity,
            SWEEPS[name].unit,
            [(f.parameters["units"], f.median) for f in figures if f.quantity == quantity],
        )
        for quantity in quantities
    ]


def main() -> int:
    """Measure, print, save."""
    parser = harness.parser_of(__doc__, rounds=3, seconds=1.0)
    parser.add_argument("--only", action="append", choices=list(SWEEPS), help="repeatable")
    parser.add_argument("--backend", default="auto", help="of the sweeps with a network")
    parser.add_argument("--folder", type=Path, help="of the worker")
    options = harness.parsed(parser)
    if options.variant:
        print(json.dumps(sweep_samples(options.variant, options)))
        return 0
    run = harness.Run.begin(options)
    chosen = options.only or (["frame", "classes"] if options.quick else list(SWEEPS))
    with tempfile.TemporaryDirectory() as folder:
        export_networks(Path(folder), chosen)
        carry = ("backend", "seconds", "quick")
        turns = run.in_turn(__file__, chosen, carry=carry, also={"folder": folder})
    if options.quick:
        print("--quick: frames are an eighth as high and wide as named; the lines mean nothing")
    figures, fits = {name: figures_of(name, turns) for name in chosen}, {}
    for name in chosen:
        fits[name] = fits_of(name, figures[name])
        print_sweep(name, figures[name], fits[name])
    settings = {name: getattr(options, name) for name in ("backend", "rounds", "seconds")}
    details = {"fits": {name: [vars(fit) for fit in found] for name, found in fits.items()}}
    every = [figure for found in figures.values() for figure in found]
    run.write("sizes", INCLUDES, every, settings, details=details, skipped=turns.skipped)
    return 0


def print_sweep(name: str, figures: list[Figure], fits: list[Fit]) -> None:
    """A row a point, the lines below."""
    quantities = list(dict.fromkeys(figure.quantity for figure in figures))
    points = list(dict.fromkeys(figure.variant for figure in figures))
    print(f"\n{name:12}" + "".join(f"{quantity + ' ms':>18}" for quantity in quantities))
    for point in points:
        row = {f.quantity: f.median for f in figures if f.variant == point}
        print(f"{point:12}" + "".join(f"{row[q]:18.3f}" for q in quantities))
    for found in fits:
        print(f"  {found.text}")


if __name__ == "__main__":
    sys.exit(main())

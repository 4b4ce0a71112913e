"""What telling a camera's drift adds to a frame: with and without, in turn, in one process.

Every `--frames` frames go from memory through the whole pipeline of `segedge run` to overlays, with
the figures of drift and without, `--rounds` times, the first of each round in turn. `more` is the
difference of a round's pair, and has the noise of the machine; `inside` is the CPU time that the
looks took within the very same runs. So few frames are the worst case: the first four looks come
every eighth frame, later ones four times a second at most.

    python benchmarks/drift.py [--rounds 15] [--frames 40] [--save]
"""

from __future__ import annotations

import importlib
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import cv2
import harness
import numpy as np
from document import Figure
from numpy.typing import NDArray

from segedge.card.geometry import Size
from segedge.convert.export import export
from segedge.convert.options import ExportOptions
from segedge.drift.watch import DriftWatch
from segedge.frames.frame import Frame
from segedge.pipeline.runner import Pipeline
from segedge.segment.load import load
from segedge.video.memory import MemorySource
from segedge.video.sinks.callable_sink import CallableSink

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"
CAMVID, STREET = SHARED / "data" / "camvid" / "val" / "images", ROOT / "export" / "street"
VERIFY = 8
PASSED_OVER_MS = 0.1
"""CPU time of a frame that is not looked at stays far below."""
Images = list[NDArray[np.uint8]]
INCLUDES = {
    "wall": "a frame from memory to its overlay, without drift",
    "cpu": "the same in CPU time of all threads",
    "wall more": "what drift adds to it, of the pair of one round",
    "cpu more": "the same in CPU time",
    "inside": "CPU time in looks, of all CPU time of a run with drift",
    "look": "CPU time of one look at a frame, within a run",
}


def street(folder: Path) -> tuple[Path, Images]:
    """The demo network on frames of its own generator."""
    sys.path.insert(0, str(STREET))
    scene = importlib.import_module("scenes").Scene
    images = [scene(700_000 + n, mood="day").render(2.0, 540, 960)[0] for n in range(VERIFY)]
    for number, image in enumerate(images):
        cv2.imwrite(str(folder / f"{number}.png"), image)
    options = ExportOptions(
        checkpoint=STREET / "street.pth", size=Size(384, 768),
        classes=str(STREET / "classes.txt"), verify=folder,
    )  # fmt: skip
    path = folder / "street.onnx"
    export(f"{STREET / 'network.py'}:street_net", path, options=options)
    return path, images


def fastscnn(folder: Path) -> tuple[Path, Images]:
    """Fast-SCNN at 512x1024 on enlarged frames of CamVid."""
    images: Images = []
    for number, path in enumerate(sorted(CAMVID.iterdir())[:: 101 // VERIFY][:VERIFY]):
        images.append(cv2.resize(cv2.imread(str(path)), (2048, 1024)))  # type: ignore[arg-type]
        cv2.imwrite(str(folder / f"{number}.png"), images[-1])
    path = folder / "fastscnn.onnx"
    options = ExportOptions(classes="camvid", verify=folder)
    export(SHARED / "models" / "fastscnn_camvid_512x1024.onnx", path, options=options)
    return path, images


NETWORKS = {
    "demo network 384x768, frames of 540x960": street,
    "Fast-SCNN 512x1024, frames of 1024x2048": fastscnn,
}


def a_run(segmenter: Any, images: Images, frames: int) -> tuple[float, float]:
    """Wall and CPU time of a frame, in milliseconds."""
    source = MemorySource([images[number % len(images)] for number in range(frames)], fps=25)
    sink = CallableSink(lambda _frame, result: result.overlay(), needs={"overlay"})
    wall, cpu = time.perf_counter(), time.process_time()
    Pipeline(source, segmenter, [sink]).run()
    return (
        1000 * (time.perf_counter() - wall) / frames,
        1000 * (time.process_time() - cpu) / frames,
    )


@contextmanager
def timed_looks() -> Iterator[list[float]]:
    """Milliseconds of CPU time of each frame that is looked at or passed over."""
    look, spent = DriftWatch.look, []

    def timed(self: DriftWatch, frame: Frame, result: object) -> None:
        start = time.thread_time()
        look(self, frame, result)
        spent.append(1000 * (time.thread_time() - start))

    with patch.object(DriftWatch, "look", timed):
        yield spent


def measured(name: str, *, rounds: int, frames: int) -> list[Figure]:
    """The figures of one network."""
    with tempfile.TemporaryDirectory() as folder:
        path, images = NETWORKS[name](Path(folder))
        with load(path) as segmenter:
            known = segmenter.familiar
            assert known is not None
            a_run(segmenter, images, frames)
            found: dict[bool, list[tuple[float, float]]] = {True: [], False: []}
            spent: list[list[float]] = []
            for number in range(rounds):
                for told in (True, False) if number % 2 else (False, True):
                    segmenter.familiar = known if told else None
                    with timed_looks() as taken:
                        found[told].append(a_run(segmenter, images, frames))
                    if told:
                        spent.append(taken)
    inside = [
        100 * sum(taken) / frames / run[1] for taken, run in zip(spent, found[True], strict=True)
    ]
    alone = [value for taken in spent for value in taken if value > PASSED_OVER_MS]
    figures = [Figure.of(name, "look", [alone]), Figure.of(name, "inside", [inside], unit="%")]
    for place, quantity in enumerate(("wall", "cpu")):
        without = [one[place] for one in found[False]]
        more = [
            100 * (told[place] / plain - 1)
            for told, plain in zip(found[True], without, strict=True)
        ]
        figures.append(Figure.of(name, quantity, [without]))
        figures.append(Figure.of(name, f"{quantity} more", [more], unit="%"))
    return figures


def main() -> None:
    """Measure, print, save."""
    parser = harness.saving_parser(__doc__)
    parser.add_argument("--rounds", type=harness.positive(int), default=15)
    parser.add_argument("--frames", type=harness.positive(int), default=40)
    options = parser.parse_args()
    run = harness.Run.begin(options)
    figures = []
    for name in NETWORKS:
        for figure in measured(name, rounds=options.rounds, frames=options.frames):
            span = "" if figure.low is None else f"  ({figure.low:.2f} to {figure.high:.2f})"
            print(
                f"{name:42}{figure.quantity:12}{figure.median:9.2f} {figure.unit}{span}", flush=True
            )
            figures.append(figure)
    run.write("drift", INCLUDES, figures, {"rounds": options.rounds, "frames": options.frames})


if __name__ == "__main__":
    main()

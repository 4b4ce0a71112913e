"""Preprocessing and tail on the CPU, beside torch and OpenCV + NumPy.

One frame of 1024x2048 through a network of 512x1024 whose logits are 11 x 64x128. The logits are
those of a trained Fast-SCNN on a CamVid image where `../shared` has them, else a smooth random
field. Everything runs in this one process, one variant after the other in each turn, so that a
busy machine disturbs all of them alike; figures are milliseconds without the network.

    python benchmarks/tail_cpu.py [--threads 2] [--turns 60] [--quick] [--save]
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import cv2
import harness
import numpy as np
from document import Figure
from frames.scripts import overlay_usual, preprocess_usual

from segedge.card.card import ModelCard
from segedge.card.geometry import Geometry, Size
from segedge.card.labels import label_set
from segedge.cpu.overlay import Blend
from segedge.cpu.preprocess import Preprocess
from segedge.cpu.tail import Tail
from segedge.cpu.workers import Workers
from segedge.machine.processors import usable_processors

SHARED = Path(__file__).resolve().parents[2] / "shared"
MODEL = SHARED / "models" / "fastscnn_camvid_512x1024.onnx"
IMAGES = SHARED / "data" / "camvid" / "val" / "images"
FRAME, NETWORK, GRID = Size(1024, 2048), Size(512, 1024), Size(64, 128)
CAMVID = label_set("camvid")
CARD = ModelCard(CAMVID.names, CAMVID.palette_rgb, NETWORK.height, NETWORK.width, stride=8)
INCLUDES = {
    "call": "one call on arrays that are there already, without the network",
}
SLOW_MS, SLOW_TURNS = 30.0, 5
"""What takes longer would let caches and clock drift: a few turns do for it."""


def opencv_labels(logits: np.ndarray) -> np.ndarray:
    """The usual resize of every class, then argmax."""
    planes = [cv2.resize(plane, (FRAME.width, FRAME.height)) for plane in logits[0]]
    return np.argmax(np.stack(planes), axis=0).astype(np.uint8)


def torch_labels(logits: np.ndarray) -> np.ndarray:
    """The usual interpolate and argmax."""
    import torch

    up = torch.nn.functional.interpolate(
        torch.from_numpy(logits),
        (FRAME.height, FRAME.width),
        mode="bilinear",
        align_corners=False,
    )
    return up.argmax(dim=1)[0].to(torch.uint8).numpy()


def scene() -> tuple[np.ndarray, np.ndarray, str]:
    """A frame, logits for it, and where they are from."""
    if MODEL.exists() and IMAGES.exists():
        path = sorted(IMAGES.iterdir())[40]
        frame = cv2.resize(cv2.imread(str(path)), (FRAME.width, FRAME.height))
        return frame, network_logits(frame), f"Fast-SCNN on CamVid {path.name}"
    rng = np.random.default_rng(0)
    frame = rng.integers(0, 256, (FRAME.height, FRAME.width, 3), np.uint8)
    field = rng.standard_normal((GRID.height, GRID.width, 11)).astype(np.float32)
    smooth = cv2.GaussianBlur(field, (0, 0), 6) * 50
    return frame, np.ascontiguousarray(smooth.transpose(2, 0, 1)[None]), "smooth random field"


def label_map() -> np.ndarray:
    """Labels of the frame."""
    _, logits, _ = scene()
    labels = np.empty((FRAME.height, FRAME.width), np.uint8)
    Tail(CARD, Geometry.fit(FRAME, NETWORK, "stretch"), GRID).run(logits, labels=labels)
    return labels


def network_logits(frame: np.ndarray) -> np.ndarray:
    """Logits before the network's final Resize, which is cut off in memory."""
    import onnx
    import onnxruntime

    model = onnx.load(MODEL)
    resize = next(node for node in reversed(model.graph.node) if node.op_type == "Resize")
    del model.graph.output[:]
    model.graph.output.add().CopyFrom(
        onnx.helper.make_tensor_value_info(resize.input[0], onnx.TensorProto.FLOAT, None)
    )
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    name = session.get_inputs()[0].name
    return session.run(None, {name: preprocess_usual(frame, NETWORK)})[0]


def measure(variants: dict[str, Callable[[], object]], turns: int) -> dict[str, list[float]]:
    """Milliseconds of each variant, taken in turn after two unmeasured rounds."""
    times: dict[str, list[float]] = {name: [] for name in variants}
    for turn in range(turns + 2):
        for name, variant in variants.items():
            if len(times[name]) >= SLOW_TURNS and np.median(times[name]) > SLOW_MS:
                continue
            variant()  # once more, so that each finds its own data in the caches
            start = time.perf_counter_ns()
            variant()
            if turn >= 2:
                times[name].append((time.perf_counter_ns() - start) / 1e6)
    return times


def variants_of(frame: np.ndarray, logits: np.ndarray, threads: int) -> dict[str, Callable]:
    """What is measured, by name; all arrays are made before."""
    geometry = Geometry.fit(FRAME, NETWORK, "stretch")
    workers = Workers(threads)
    preprocessor = Preprocess(CARD, geometry, workers=workers)
    tail = Tail(CARD, geometry, GRID, workers=workers)
    tensor = np.empty(preprocessor.shape, np.float32)
    labels = np.empty((FRAME.height, FRAME.width), np.uint8)
    overlay = np.empty_like(frame)
    confidence = np.empty(labels.shape, np.float32)
    blend = Blend.of(CARD.palette_rgb, 0.5)
    painted = {"overlay": overlay, "frame": frame, "blend": blend}
    palette_bgr = np.uint8(CARD.palette_rgb)[:, ::-1].copy()

    def whole() -> None:
        preprocessor.run(frame, tensor)
        tail.run(logits, **painted)

    return {
        "segedge preprocess": lambda: preprocessor.run(frame, tensor),
        "segedge tail: labels": lambda: tail.run(logits, labels=labels),
        "segedge tail: overlay": lambda: tail.run(logits, **painted),
        "segedge tail: both": lambda: tail.run(logits, labels=labels, **painted),
        "segedge preprocess + overlay": whole,
        "segedge probability": lambda: tail.run(logits, confidence=confidence),
        "segedge margin": lambda: tail.run(logits, confidence=confidence, confidence_kind="margin"),
        "opencv preprocess": lambda: preprocess_usual(frame, NETWORK),
        "opencv labels": lambda: opencv_labels(logits),
        "opencv overlay": lambda: overlay_usual(frame, opencv_labels(logits), palette_bgr),
        "torch labels": lambda: torch_labels(logits),
    }


def main() -> None:
    """Measure, print, save."""
    parser = harness.saving_parser(__doc__, quick="two turns: does it run?")
    parser.add_argument(
        "--threads", type=harness.positive(int), default=min(4, usable_processors())
    )
    parser.add_argument("--turns", type=harness.positive(int), default=60)
    options = parser.parse_args()
    run = harness.Run.begin(options)
    cv2.setNumThreads(options.threads)
    import torch

    torch.set_num_threads(options.threads)
    frame, logits, source = scene()
    uniform = uniform_share(logits)
    print(f"{FRAME} frame, {NETWORK} network, logits {logits.shape}, {options.threads} threads")
    print(f"{source}; {uniform:.0%} of the cells uniform")
    turns = 2 if options.quick else options.turns
    times = measure(variants_of(frame, logits, options.threads), turns)
    figures = [Figure.of(name, "call", [values]) for name, values in times.items()]
    settings = {"threads": options.threads, "source": source, "uniform_cells": uniform}
    print_table(figures)
    run.write("tail_cpu", INCLUDES, figures, settings)


def uniform_share(logits: np.ndarray) -> float:
    """Share of the cells of the logit grid whose four corners have one argmax."""
    grid = logits[0].argmax(0)
    corners = [grid[:-1, :-1], grid[:-1, 1:], grid[1:, :-1], grid[1:, 1:]]
    return float(np.mean(np.all([corner == corners[0] for corner in corners], axis=0)))


def print_table(figures: list[Figure]) -> None:
    """Medians with their spans, and how many times as fast."""
    print(f"\n{'':30}{'median':>9}{'min':>9}  within, ms")
    for figure in figures:
        print(f"{figure.variant:30}{figure.median:9.2f}{figure.minimum:9.2f}  {figure.span}")
    medians = {figure.variant: figure.median for figure in figures}
    print("\ntimes as fast, by medians")
    for ours, theirs in (
        ("segedge preprocess", "opencv preprocess"),
        ("segedge tail: labels", "opencv labels"),
        ("segedge tail: overlay", "opencv overlay"),
        ("segedge tail: labels", "torch labels"),
    ):
        print(f"{ours:30}{medians[theirs] / medians[ours]:9.1f}  than {theirs}")


if __name__ == "__main__":
    main()

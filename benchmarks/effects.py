"""Each effect of `segedge run --effect` on the CPU, beside the usual OpenCV + NumPy.

Logits of one 1024x2048 frame to the finished picture, without the network. The usual way enlarges
the logits of every class by `cv2.resize`, takes argmax or the margin of the foreground, and makes
the picture from that. Its pixels are compared with ours before any time is printed: the share that
differs by more than 8 levels (some of a blur: it smears the foreground into its surroundings, ours
does not).

    python benchmarks/effects.py [--rounds 3] [--seconds 1] [--threads 2] [--save]
"""

from __future__ import annotations

import json
from collections.abc import Callable

import cv2
import harness
import numpy as np
from harness import Samples, Stopwatch
from tail_cpu import CARD, FRAME, GRID, NETWORK, scene

from segedge.card.geometry import Geometry
from segedge.cpu.effects import Effects
from segedge.cpu.memory import ArrayPool
from segedge.cpu.overlay import Blend
from segedge.cpu.tail import Tail
from segedge.cpu.workers import Workers
from segedge.options.effect import Effect, heat_table_rgb, outline_radius
from segedge.reference.look import Look

CLASSES = ("car", "pedestrian", "bicyclist")
EFFECTS = {
    "overlay": Effect(),
    "mask": Effect("mask"),
    "side-by-side": Effect("side-by-side"),
    "cutout": Effect("cutout"),
    "replace": Effect("replace", "#00ff00"),
    "blur": Effect("blur"),
    "outline": Effect("outline"),
    "heat": Effect("heat"),
    "heat-entropy": Effect("heat", heat="entropy"),
}
WAYS = ("segedge", "usual")
INCLUDES = {
    "effect": "logits and frame to the picture, in memory; without network, files and encoding",
}
PALETTE_BGR = np.uint8(CARD.palette_rgb)[:, ::-1].copy()
Frame = np.ndarray


def ours(name: str, frame: Frame, logits: np.ndarray, threads: int) -> Callable[[], Frame]:
    """What draws an effect with segedge; all memory is made before."""
    effect, workers, pool = EFFECTS[name], Workers(threads), ArrayPool()
    geometry = Geometry.fit(FRAME, NETWORK, "stretch")
    tail = Tail(CARD, geometry, GRID, workers=workers)
    out = np.empty(effect.shape(FRAME.height, FRAME.width), np.uint8)
    if name in ("overlay", "mask", "side-by-side"):
        palette = CARD.palette_rgb
        blend = Blend.mask(palette) if name == "mask" else Blend.of(palette, 0.5)
        half = out[:, FRAME.width :] if name == "side-by-side" else out

        def paint() -> Frame:
            if name == "side-by-side":
                np.copyto(out[:, : FRAME.width], frame)
            tail.run(logits, overlay=half, frame=frame, blend=blend)
            return out

        return paint
    effects = Effects(CARD, geometry, GRID, tail, pool=pool)
    named = CLASSES if name in ("cutout", "replace", "blur") else None
    look = Look.of(CARD, effect, FRAME, classes=named)

    def draw() -> Frame:
        effects.run(look, logits, frame=frame, out=out)
        return out

    return draw


def enlarged(logits: np.ndarray) -> np.ndarray:
    """Every class at the frame's size."""
    size = (FRAME.width, FRAME.height)
    return np.stack([cv2.resize(plane, size) for plane in logits[0]])


def usual(name: str, frame: Frame, logits: np.ndarray) -> Callable[[], Frame]:
    """What draws an effect with OpenCV and NumPy."""
    way = USUAL[name]
    return lambda: way(frame, enlarged(logits))


def opacity(planes: np.ndarray) -> np.ndarray:
    """Of the foreground, 0..1, H x W x 1."""
    chosen = np.isin(CARD.classes, CLASSES)
    margin = planes[chosen].max(axis=0) - planes[~chosen].max(axis=0)
    t = np.clip(margin * np.float32(0.5) + np.float32(0.5), 0, 1)
    return (t * t * (3 - 2 * t))[..., None]


def doubt_heat(frame: Frame, doubt: np.ndarray) -> Frame:
    """The frame under the colours of the doubt."""
    colors = heat_table_rgb()[(doubt * 255 + 0.5).astype(np.uint8)][..., ::-1]
    return cv2.addWeighted(frame, 0.5, np.ascontiguousarray(colors), 0.5, 0)


def softmax(planes: np.ndarray) -> np.ndarray:
    """Probabilities of every class."""
    shares = np.exp(planes - planes.max(axis=0))
    return shares / shares.sum(axis=0)


def usual_overlay(frame: Frame, planes: np.ndarray) -> Frame:
    """Palette and weighted sum."""
    return cv2.addWeighted(frame, 0.5, PALETTE_BGR[planes.argmax(axis=0)], 0.5, 0)


def usual_cutout(frame: Frame, planes: np.ndarray) -> Frame:
    """Frame and opacity."""
    alpha = np.uint8(opacity(planes) * 255 + 0.5)
    return np.concatenate([np.where(alpha > 0, frame, 0), alpha], axis=2)


def usual_compose(frame: Frame, planes: np.ndarray, behind: np.ndarray) -> Frame:
    """Weighted sum of frame and background."""
    alpha = opacity(planes)
    return np.uint8(frame * alpha + behind * (1 - alpha) + 0.5)


def usual_blur(frame: Frame, planes: np.ndarray) -> Frame:
    """A Gaussian of the whole frame behind the foreground."""
    sigma = EFFECTS["blur"].blur * FRAME.height
    return usual_compose(frame, planes, cv2.GaussianBlur(frame, (0, 0), sigma))


def usual_outline(frame: Frame, planes: np.ndarray) -> Frame:
    """Colour where erosion and dilation differ."""
    labels = planes.argmax(axis=0).astype(np.uint8)
    window = np.ones((2 * outline_radius(FRAME.height) + 1,) * 2, np.uint8)
    border = cv2.erode(labels, window) != cv2.dilate(labels, window)
    out = frame.copy()
    out[border] = PALETTE_BGR[labels[border]]
    return out


def usual_entropy(frame: Frame, planes: np.ndarray) -> Frame:
    """Entropy of the softmax."""
    shares = softmax(planes)
    found = -(shares * np.log(shares + np.float32(1e-12))).sum(axis=0) / np.log(len(planes))
    return doubt_heat(frame, found)


USUAL: dict[str, Callable[[Frame, np.ndarray], Frame]] = {
    "overlay": usual_overlay,
    "mask": lambda frame, planes: PALETTE_BGR[planes.argmax(axis=0)],
    "side-by-side": lambda f, planes: np.concatenate([f, usual_overlay(f, planes)], axis=1),
    "cutout": usual_cutout,
    "replace": lambda frame, planes: usual_compose(frame, planes, np.float32([0, 255, 0])),
    "blur": usual_blur,
    "outline": usual_outline,
    "heat": lambda frame, planes: doubt_heat(frame, 1 - softmax(planes).max(axis=0)),
    "heat-entropy": usual_entropy,
}


def different(threads: int) -> dict[str, float]:
    """Share of pixels where the two ways differ by more than 8 levels, by effect."""
    frame, logits, _ = scene()
    found = {}
    for name in EFFECTS:
        a = ours(name, frame, logits, threads)().astype(int)
        b = usual(name, frame, logits)().astype(int)
        found[name] = float(np.mean(np.abs(a - b).max(axis=2) > 8))
    return found


def worker(variant: str, threads: int, seconds: float) -> Samples:
    """One effect, one way."""
    cv2.setNumThreads(threads)
    way, _, name = variant.partition(": ")
    frame, logits, _ = scene()
    draw = usual(name, frame, logits) if way == "usual" else ours(name, frame, logits, threads)

    def step() -> dict[str, float]:
        watch = Stopwatch()
        draw()
        return {"effect": watch.lap()}

    return harness.measure(step, seconds=seconds)


def main() -> None:
    """Compare, measure in turn, print, save."""
    options = harness.parsed(harness.parser_of(__doc__, rounds=3, seconds=1.0, threads=2))
    if options.variant:
        print(json.dumps(worker(options.variant, options.threads, options.seconds)))
        return
    run = harness.Run.begin(options)
    apart = different(options.threads)
    variants = [f"{way}: {name}" for name in EFFECTS for way in WAYS]
    turns = run.in_turn(__file__, variants, carry=("threads", "seconds"))
    print(f"{FRAME}, logits {CARD.channels} x {GRID}, {options.threads} threads; {scene()[2]}")
    print_table(turns, apart)
    settings, details = {"threads": options.threads, "scene": scene()[2]}, {"pixels_apart": apart}
    run.write(
        "effects", INCLUDES, turns.figures({}), settings, details=details, skipped=turns.skipped
    )


def print_table(turns: harness.Turns, apart: dict[str, float]) -> None:
    """Medians, and how many times as fast."""
    print(f"\n{'':14}{'segedge':>10}{'usual':>10}{'faster':>9}{'pixels apart':>15}")
    for name in EFFECTS:
        mine, theirs = (turns.median(f"{way}: {name}", "effect") for way in WAYS)
        if mine and theirs:
            print(
                f"{name:14}{mine:7.2f} ms{theirs:7.1f} ms{theirs / mine:8.1f}x{apart[name]:14.2%}"
            )


if __name__ == "__main__":
    main()

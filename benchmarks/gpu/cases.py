"""The kernels to time: their inputs, the bytes that they cannot avoid, and PyTorch's way."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from gpu.clock import Work, upload
from gpu.models import a_card, frame_of
from segedge.card.card import ModelCard
from segedge.card.geometry import AxisMap, Geometry, Size
from segedge.cuda.overlay import Blend
from segedge.cuda.preprocess import Preprocess
from segedge.cuda.runtime.device import Device
from segedge.cuda.runtime.program import Launcher
from segedge.cuda.tail import Picture, Tail
from segedge.reference.look import Tints

SIZES = {
    "720p": Size(720, 1280),
    "1080p": Size(1080, 1920),
    "1024x2048": Size(1024, 2048),
    "4K": Size(2160, 3840),
}
"""Frame sizes."""
PREPROCESS = ("preprocess bgr", "preprocess halve", "preprocess nv12")
TAILS: dict[str, tuple[str, ...]] = {
    "tail labels": ("labels",),
    "tail overlay": ("overlay",),
    "tail confidence": ("confidence",),
    "tail labels, counts": ("labels", "class_pixels"),
    "tail labels, overlay": ("labels", "overlay"),
}
"""Name to what is written."""
_PIXEL_BYTES = {"labels": 1, "overlay": 6, "confidence": 4, "class_pixels": 0}
"""Read and written for each frame pixel; an overlay reads the frame's three and writes three."""


@dataclass
class Case:
    """One kernel on one size and type."""

    name: str
    size: str
    dtype: str
    classes: int | None
    floor_bytes: int
    """What must be read and written once, whoever does it."""
    set_bytes: int
    """Memory of one set of buffers."""
    new_work: Callable[[], Work]
    """The same work on buffers of its own."""
    result: Callable[[], NDArray[Any]]
    """What the first work has written."""
    host: dict[str, Any] = field(default_factory=dict)
    """The inputs on the CPU, for PyTorch."""


def network_of(name: str, frame: Size) -> Size:
    """Half the frame where the kernel is for that, else 0.45 of it in whole 32s, as networks."""
    if name == "preprocess halve":
        return Size(frame.height // 2, frame.width // 2)
    return Size(
        max(frame.height * 45 // 100 // 32 * 32, 32), max(frame.width * 45 // 100 // 32 * 32, 32)
    )


def preprocess_case(device: Device, stream: Any, name: str, size: str, dtype: str) -> Case:
    """From a frame to the network's tensor, NCHW, bilinear."""
    frame, kind = SIZES[size], "nv12" if name.endswith("nv12") else "bgr"
    network = network_of(name, frame)
    card = a_card(network.height, network.width)
    geometry = Geometry.fit(frame, network, "stretch")
    make = Preprocess(card, geometry, pixel_format=kind, dtype=dtype)  # type: ignore[arg-type]
    picture = frame_of(frame.height, frame.width)
    planes = [picture] if kind == "bgr" else [picture[..., 0], picture[: frame.height // 2, :, 1]]
    tensors: list[Any] = []

    def new_work() -> Work:
        given = [upload(device, p, device.pitched(p.shape, np.uint8), stream) for p in planes]
        tensor = device.empty(make.shape, dtype)
        tensors.append(tensor)
        chroma = given[1].plane if len(given) > 1 else None

        def work(launcher: Launcher) -> None:
            make.run(launcher, given[0].plane, tensor.pointer, chroma=chroma)

        return work

    read = bytes_read(geometry, kind)
    written = math.prod(make.shape) * np.dtype(dtype).itemsize
    return Case(
        name, size, dtype, None, read + written, sum(p.size for p in planes) + written, new_work,
        lambda: device.download(tensors[0], stream),
        {"frame": picture, "network": network, "card": card} if kind == "bgr" else {},
    )  # fmt: skip


def bytes_read(geometry: Geometry, kind: str) -> int:
    """Of the frame: the rows that bilinear sampling touches, whole."""
    frame, axis = geometry.frame, geometry.frame_from_network().y
    rows = _rows_touched(axis, geometry.network.height, frame.height)
    if kind == "bgr":
        return rows * frame.width * 3
    half = AxisMap(axis.scale / 2, axis.offset / 2 - 0.25)
    chroma = _rows_touched(half, geometry.network.height, frame.height // 2)
    return (rows + chroma) * frame.width


def _rows_touched(axis: AxisMap, outputs: int, length: int) -> int:
    below = np.floor(axis.scale * np.arange(outputs) + axis.offset).astype(int)
    return len(np.unique(np.clip([below, below + 1], 0, length - 1)))


def tail_case(
    device: Device, stream: Any, name: str, size: str, dtype: str, *, classes: int, scene: str
) -> Case:
    """From logits at stride 8 of a network of half the frame's size, NCHW."""
    frame = SIZES[size]
    network = Size(frame.height // 2, frame.width // 2)
    grid = Size(-(-network.height // 8), -(-network.width // 8))
    card = a_card(network.height, network.width, classes=classes)
    tail = Tail(card, Geometry.fit(frame, network, "stretch"), grid, dtype=dtype)
    logits = LOGITS[scene](classes, grid).astype(dtype)
    picture, outputs = frame_of(frame.height, frame.width), TAILS[name]
    results: list[Any] = []

    def new_work() -> Work:
        buffers = _TailBuffers(device, stream, card, tail, logits, picture, outputs)
        results.append(buffers.targets[outputs[0]])
        return buffers.work

    per_pixel = sum(_PIXEL_BYTES[output] for output in outputs)
    pixels = frame.height * frame.width
    return Case(
        name, size, dtype, classes, logits.nbytes + per_pixel * pixels,
        logits.nbytes + 8 * pixels, new_work, lambda: device.download(results[0], stream),
        {"logits": logits, "frame": picture, "card": card, "uniform": uniform_share(logits)},
    )  # fmt: skip


class _TailBuffers:
    """One set of what a tail reads and writes."""

    def __init__(
        self,
        device: Device,
        stream: Any,
        card: ModelCard,
        tail: Tail,
        logits: NDArray[Any],
        picture: NDArray[np.uint8],
        outputs: tuple[str, ...],
    ) -> None:
        height, width = picture.shape[:2]
        table = Blend.from_tints(Tints.of(np.asarray(card.palette_rgb)[:, ::-1], 0.5)).table
        shapes: dict[str, tuple[tuple[int, ...], Any]] = {
            "labels": ((height, width), np.uint8),
            "overlay": ((height, width, 3), np.uint8),
            "confidence": ((height, width), np.float32),
            "class_pixels": ((len(card.classes),), np.int64),
        }
        self._tail = tail
        self._logits = upload(device, logits, device.empty(logits.shape, logits.dtype), stream)
        self._scratch = device.empty((tail.scratch_bytes,), np.uint8)
        self.targets = {name: device.pitched(*shapes[name]) for name in outputs}
        self._frame: Any = None
        self._table: Any = None
        if "overlay" in outputs:
            frame = device.pitched(picture.shape, np.uint8)
            self._frame = upload(device, picture, frame, stream)
            self._table = upload(device, table, device.empty(table.shape, table.dtype), stream)

    def work(self, launcher: Launcher) -> None:
        """Launch the tail."""
        to = self.targets
        given: dict[str, Any] = {n: to[n].plane for n in ("labels", "confidence") if n in to}
        if "overlay" in to:
            given |= {"overlay": Picture(to["overlay"].plane), "frame": Picture(self._frame.plane)}
            given["blend"] = self._table.pointer
        if "class_pixels" in to:
            given["class_pixels"] = to["class_pixels"].pointer
        self._tail.run(launcher, self._logits.pointer, self._scratch.pointer, **given)


def street_logits(classes: int, grid: Size) -> NDArray[np.float32]:
    """Large regions with soft borders and a little noise, as a trained network gives."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, classes, (4, 7)).astype(np.float32)
    size = (grid.width, grid.height)
    regions = cv2.resize(coarse, size, interpolation=cv2.INTER_NEAREST).astype(int)
    hot = (regions[None] == np.arange(classes)[:, None, None]).astype(np.float32)
    soft = np.stack([cv2.blur(plane, (3, 3)) for plane in hot])
    return (8.0 * soft + 0.3 * rng.standard_normal(soft.shape))[None].astype(np.float32)


def noise_logits(classes: int, grid: Size) -> NDArray[np.float32]:
    """Every cell mixed: the worst that can be."""
    rng = np.random.default_rng(0)
    return rng.standard_normal((1, classes, grid.height, grid.width)).astype(np.float32)


LOGITS: dict[str, Callable[[int, Size], NDArray[np.float32]]] = {
    "street": street_logits,
    "noise": noise_logits,
}


def uniform_share(logits: NDArray[Any]) -> float:
    """Share of grid cells whose four corners have the same winner."""
    best = logits[0].argmax(0)
    corners = [best[:-1, :-1], best[:-1, 1:], best[1:, :-1], best[1:, 1:]]
    return float(np.all([corner == corners[0] for corner in corners], axis=0).mean())

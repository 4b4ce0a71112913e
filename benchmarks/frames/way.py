"""A way to get from an image to its overlay, and segedge's own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from harness import Stopwatch
from numpy.typing import NDArray

from frames.scenes import Scene
from segedge.backends.registry import statuses
from segedge.machine.gpu import find_driver
from segedge.machine.optional import is_importable

Image = NDArray[np.uint8]


@dataclass(frozen=True)
class Picture:
    """What a way made of one frame."""

    overlay: Image
    """H x W x 3 BGR."""
    labels: Callable[[], NDArray[Any]]
    """H x W; called for comparing, never while the clock runs."""
    times: dict[str, float] = field(default_factory=dict)
    """Stage to milliseconds."""


Step = Callable[[Image], Picture]


@dataclass(frozen=True)
class Way:
    """One way, opened in a process of its own."""

    open: Callable[[Scene], Step]
    family: str
    """What the targets are about: ``segedge``, ``PyTorch`` ..."""
    note: str = ""
    """How it differs from the others of its family, and why its pixels may."""
    modules: tuple[str, ...] = ()
    """What must be importable."""
    backend: str = ""
    """Of segedge."""
    on_gpu: bool = False
    is_smooth: bool = False
    """Whether logits, and not labels, are enlarged to the frame: borders as segedge draws them."""

    def problem(self) -> str | None:
        """Why it cannot run here; None where it can."""
        if self.on_gpu and find_driver().gpu is None:
            return f"needs an NVIDIA GPU: {find_driver().problem}"
        missing = [name for name in self.modules if not is_importable(name)]
        if missing:
            return f"not installed: {', '.join(missing)}"
        if self.backend:
            status = {s.name: s for s in statuses()}[self.backend.partition(":")[0]]
            return None if status.ready else f"{self.backend}: {status.detail}"
        return None


def segedge_way(backend: str, *, on_gpu: bool = False, note: str = "") -> Way:
    """The whole frame through segedge."""

    def make(scene: Scene) -> Step:
        import segedge

        segmenter = segedge.load(scene.folder / "cut.onnx", backend=backend)

        def step(image: Image) -> Picture:
            watch = Stopwatch()
            result = segmenter(image, outputs=("overlay",))
            overlay = result.overlay()
            frame_ms = watch.lap()
            times = {**result.times.milliseconds, "frame": frame_ms}
            return Picture(overlay, lambda: result.labels, times)

        return step

    return Way(make, "segedge", note, backend=backend, on_gpu=on_gpu, is_smooth=True)


def network_way(backend: str) -> Way:
    """A backend of segedge alone, tensor to logits in memory that is already there."""

    def make(scene: Scene) -> Step:
        from segedge.backends.registry import open_backend

        opened = open_backend(scene.folder / "cut.onnx", backend).backend
        shape = (1, 3, scene.network.height, scene.network.width)
        tensor = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
        outputs = [np.array(array) for array in opened.run([tensor])]

        def step(image: Image) -> Picture:
            watch = Stopwatch()
            opened.run([tensor], outputs)
            return Picture(image, lambda: outputs[0], {"network": watch.lap()})

        return step

    return Way(make, "network", backend=backend)

"""The usual way, in PyTorch: what projects write around a network, on the same GPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpu.cases import Case

Step = Callable[[], Any]


def open_torch() -> Any:
    """The module, or None where it is not installed or does not reach the GPU."""
    try:
        import torch
    except ImportError:
        return None
    return torch if torch.cuda.is_available() else None


def torch_step(torch: Any, case: Case, *, device: str = "cuda") -> Step | None:
    """The same task for PyTorch, inputs on its device; None where it has no usual way."""
    if case.name.startswith("preprocess"):
        return _preprocess(torch, case, device) if case.host else None
    return _TAILS[case.name](torch, _Given(torch, case, device))


def _preprocess(torch: Any, case: Case, device: str) -> Step:
    card, network = case.host["card"], case.host["network"]
    frame = torch.from_numpy(case.host["frame"]).to(device)
    mean, std = (
        torch.tensor(values, device=device).view(1, 3, 1, 1) for values in (card.mean, card.std)
    )
    kind = getattr(torch, case.dtype)
    size = (network.height, network.width)

    def step() -> Any:
        image = frame.permute(2, 0, 1)[None].flip(1).float()
        image = torch.nn.functional.interpolate(
            image, size=size, mode="bilinear", align_corners=False
        )
        return ((image / 255.0 - mean) / std).to(kind)

    return step


class _Given:
    """A tail's inputs on PyTorch's device, and what all tails begin with."""

    def __init__(self, torch: Any, case: Case, device: str) -> None:
        self._torch = torch
        self.logits = torch.from_numpy(case.host["logits"]).to(device)
        self.frame = torch.from_numpy(case.host["frame"]).to(device)
        palette = np.array(case.host["card"].palette_rgb, np.uint8)[:, ::-1].copy()
        self.palette_bgr = torch.from_numpy(palette).to(device)
        self.classes = len(palette)

    def full(self) -> Any:
        """Logits at the frame's size."""
        size = tuple(self.frame.shape[:2])
        return self._torch.nn.functional.interpolate(
            self.logits, size=size, mode="bilinear", align_corners=False
        )

    def labels(self) -> Any:
        """H x W, int64."""
        return self.full().argmax(1)[0]

    def overlay(self, labels: Any) -> Any:
        """Half and half, H x W x 3 uint8."""
        mixed = self.frame.float() * 0.5 + self.palette_bgr[labels].float() * 0.5
        return mixed.to(self._torch.uint8)


def _labels(torch: Any, given: _Given) -> Step:
    return lambda: given.labels().to(torch.uint8)


def _overlay(torch: Any, given: _Given) -> Step:
    return lambda: given.overlay(given.labels())


def _confidence(torch: Any, given: _Given) -> Step:
    return lambda: given.full().softmax(1).max(1).values[0]


def _counts(torch: Any, given: _Given) -> Step:
    def step() -> Any:
        labels = given.labels()
        torch.bincount(labels.flatten(), minlength=given.classes)
        return labels.to(torch.uint8)

    return step


def _both(torch: Any, given: _Given) -> Step:
    def step() -> Any:
        labels = given.labels()
        given.overlay(labels)
        return labels.to(torch.uint8)

    return step


_TAILS: dict[str, Callable[[Any, _Given], Step]] = {
    "tail labels": _labels,
    "tail overlay": _overlay,
    "tail confidence": _confidence,
    "tail labels, counts": _counts,
    "tail labels, overlay": _both,
}


def torch_round_microseconds(torch: Any, step: Step, *, rounds: int = 7) -> list[float]:
    """Of each round of several calls between two events; the first calls do not count."""
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))

    def timed(count: int) -> float:
        start.record()
        for _ in range(count):
            step()
        end.record()
        end.synchronize()
        return float(start.elapsed_time(end)) * 1e3 / count

    with torch.inference_mode():
        timed(3)
        count = max(3, min(100, int(20_000 / max(timed(3), 1.0))))
        return [timed(count) for _ in range(rounds)]


def agreement(ours: NDArray[Any], theirs: NDArray[Any]) -> float:
    """Share of elements that are the same, up to rounding: PyTorch's overlay cuts fractions off."""
    a, b = ours.astype(np.float32), theirs.astype(np.float32)
    slack = 1.0 if ours.ndim == 3 else 0.01 if ours.dtype.kind == "f" else 0.0
    return float((np.abs(a - b) <= slack).mean())

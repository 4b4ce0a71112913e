"""Ten thousand frames of changing sizes: neither the GPU's memory nor the process may grow."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

from gpu.models import a_card, frame_of
from gpu.report import Options, Report
from segedge.backends.fake_cuda import FakeCudaBackend
from segedge.card.geometry import Size
from segedge.cuda.runtime.device import Device
from segedge.segment.on_gpu import CudaSegmenter

GROWTH_BYTES = 32 << 20
"""More than this between a third of the way and the end is a leak: per change of size that is
below 25 kB, less than any graph, buffer set or plan takes. Memory pools settle before."""
BURST = 5
"""Frames of a size before the next size comes."""


def leaks(report: Report, options: Options) -> None:
    """One row with graphs and one without; sizes go round, more of them than are kept."""
    device = Device.open()
    card = a_card(96, 192) if options.quick else a_card(256, 512)
    unit = 16 if options.quick else 80
    sizes = [Size(unit * (3 + k), unit * (5 + k % 3) + 2 * k) for k in range(9)]
    for graphs in (True, False):
        name = f"{options.frames} frames, graphs {'on' if graphs else 'off'}"
        with (
            report.guard(name),
            CudaSegmenter(card, FakeCudaBackend(card, device), graphs=graphs) as segmenter,
        ):
            samples = _run(segmenter, device, sizes, options.frames)
            _judge(report, name, samples, segmenter.notes if graphs else ())


def _run(
    segmenter: CudaSegmenter, device: Device, sizes: list[Size], frames: int
) -> list[dict[str, int]]:
    """Used memory, sampled thirty times on the way."""
    images = [frame_of(size.height, size.width, k) for k, size in enumerate(sizes)]
    samples = []
    every = max(frames // 30, 1)
    for index in range(frames):
        image = images[index // BURST % len(images)]
        result = segmenter(image, outputs=("labels", "overlay", "class_pixels"))
        assert result.labels.shape == image.shape[:2]
        del result
        if index % every == every - 1:
            gc.collect()
            free, total = device.memory_bytes()
            samples.append({"frame": index + 1, "gpu": total - free, "host": _resident_bytes()})
    return samples


def _judge(
    report: Report, name: str, samples: list[dict[str, int]], notes: tuple[str, ...]
) -> None:
    settled, last = samples[len(samples) // 3 :], samples[-1]
    grown = {kind: last[kind] - min(s[kind] for s in settled) for kind in ("gpu", "host")}
    figures: dict[str, Any] = {"samples": samples, "grown_bytes": grown, "notes": notes}
    text = f"GPU {grown['gpu'] / 1e6:+.1f} MB, process {grown['host'] / 1e6:+.1f} MB"
    text += f" after frame {settled[0]['frame']}" + "".join(f"; {note}" for note in notes)
    bad = max(grown.values()) > GROWTH_BYTES or bool(notes)
    report.add(name, "wrong" if bad else "right", text, **figures)


def _resident_bytes() -> int:
    """Memory of this process (VmRSS of proc(5))."""
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return 0

"""Whole frames in time: graphs on and off, slots, and what surrounds the network."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpu.models import SHARED, a_card, default_models, frame_of, with_card
from gpu.report import Options, Report
from segedge.backends.fake_cuda import FakeCudaBackend
from segedge.backends.registry import open_backend, statuses
from segedge.card.card import ModelCard
from segedge.card.geometry import Size
from segedge.cuda.runtime.device import Device
from segedge.segment.on_gpu import CudaSegmenter

OUTPUTS = ("labels", "overlay")
ROUNDS = 5


@dataclass(frozen=True)
class Case:
    """A network on a backend, opened anew for each segmenter."""

    name: str
    card: ModelCard
    open: Callable[[], Any]


@dataclass(frozen=True)
class Scale:
    """How large and how often."""

    frame: Size
    repeats: int

    @classmethod
    def of(cls, options: Options) -> Scale:
        """Cityscapes' frame size; next to nothing where it must be quick."""
        return cls(Size(128, 256), 4) if options.quick else cls(Size(1024, 2048), 100)


def speed(report: Report, options: Options) -> None:
    """A row a question and case; ratios are of one run, with turns taken."""
    scale = Scale.of(options)
    for case in _cases(report, options):
        for question in (graphs, slots, stages):
            name = f"{question.__name__}, {case.name}"
            with report.guard(name):
                question(report, name, case, scale)


def _cases(report: Report, options: Options) -> list[Case]:
    """The fake network, then each model on each backend that is ready here."""
    device = Device.open()
    card = a_card(64, 128) if options.quick else a_card(512, 1024)
    cases = [_fake(card, device, dtype) for dtype in ("float32", "float16")]
    names = [s.name for s in statuses() if s.ready and s.name in ("tensorrt", "onnxruntime-cuda")]
    if names:
        for model in options.models or default_models():
            with report.guard(model.name, may_refuse=True):
                path, found = with_card(model)
                cases += [_opened(path, found, name) for name in names]
    if any(status.name == "eager-cuda" and status.ready for status in statuses()):
        cases += [_opened(p, c, "eager-cuda") for p, c in _programs(report)]
    return [case for case in cases if _opens(report, case)]


def _fake(card: ModelCard, device: Device, dtype: str) -> Case:
    return Case(f"no network, {dtype}", card, lambda: FakeCudaBackend(card, device, dtype=dtype))


def _opened(path: Path, card: ModelCard, name: str) -> Case:
    return Case(f"{path.name} on {name}", card, lambda: open_backend(path, name).backend)


def _programs(report: Report) -> list[tuple[Path, ModelCard]]:
    """PyTorch programs with the cards of their ONNX twins."""
    found = []
    for path in sorted(SHARED.glob("*.pt2")):
        with report.guard(path.name, may_refuse=True):
            twin = with_card(path.with_suffix(".onnx"))[1]
            found.append((path, twin.replace(stride=1)))  # its own upsampling is still inside
    return found


def _opens(report: Report, case: Case) -> bool:
    """Whether the backend takes the model; a refusal is a row."""
    ready = False
    with report.guard(case.name, may_refuse=True):
        case.open().close()
        ready = True
    return ready


def graphs(report: Report, name: str, case: Case, scale: Scale) -> None:
    """Graph replay against plain launches: the same results, and both times."""
    with ExitStack() as stack:
        pair = {
            kind: stack.enter_context(
                CudaSegmenter(case.card, case.open(), slots=1, graphs=kind == "graphs")
            )
            for kind in ("graphs", "plain")
        }
        image = frame_of(scale.frame.height, scale.frame.width)
        frame = pair["graphs"].backend.device.uploaded(image)
        labels = [s(frame, outputs=OUTPUTS).labels.copy() for s in pair.values() for _ in "123"]
        same = min(float((other == labels[0]).mean()) for other in labels)
        times: dict[str, list[float]] = {kind: [] for kind in pair}
        for _ in range(ROUNDS):
            for kind, segmenter in pair.items():
                times[kind].append(_latency_ms(segmenter, frame, scale.repeats))
        notes = pair["graphs"].notes
    p50 = {kind: statistics.median(values) for kind, values in times.items()}
    ratio = p50["graphs"] / p50["plain"]
    text = f"graphs {p50['graphs'] * 1e3:.0f} us, plain {p50['plain'] * 1e3:.0f} us a frame"
    text += f", ratio {ratio:.2f}; labels {same:.4%} the same" + "".join(f"; {n}" for n in notes)
    verdict = "right" if same >= 0.999 else "wrong"
    report.add(
        name, verdict, text, p50_ms=p50, ratio=ratio, notes=notes, same=same,
        measured={kind: {"unit": "ms", "rounds": values} for kind, values in times.items()},
    )  # fmt: skip


def _latency_ms(segmenter: CudaSegmenter, frame: Any, repeats: int) -> float:
    """Median from the call to the end of the GPU's work."""
    found = []
    for _ in range(repeats + 3):
        started = time.perf_counter_ns()
        segmenter(frame, outputs=OUTPUTS, to_host=False).wait()
        found.append((time.perf_counter_ns() - started) / 1e6)
    return statistics.median(found[3:])


def slots(report: Report, name: str, case: Case, scale: Scale) -> None:
    """Frames a second with one to four in flight: page-locked frames in, both outputs out."""
    counts = (1, 2, 3, 4)
    rates: dict[int, list[float]] = {count: [] for count in counts}
    with ExitStack() as stack:
        segmenters = {
            count: stack.enter_context(CudaSegmenter(case.card, case.open(), slots=count))
            for count in counts
        }
        frames = {count: _pinned_frames(s, scale.frame) for count, s in segmenters.items()}
        for count, segmenter in segmenters.items():
            _rate(segmenter, frames[count], 3 * count)
        for _ in range(ROUNDS):
            for count, segmenter in segmenters.items():
                rates[count].append(_rate(segmenter, frames[count], scale.repeats))
        frames.clear()
    fps = {count: statistics.median(values) for count, values in rates.items()}
    text = ", ".join(f"{count}: {rate:.0f}/s" for count, rate in fps.items())
    measured = {
        f"{count} slot{'s' * (count > 1)}": {"unit": "frames/s", "rounds": values}
        for count, values in rates.items()
    }
    report.add(name, "fact", text, fps=fps, measured=measured)


def _pinned_frames(segmenter: CudaSegmenter, size: Size) -> list[Any]:
    frames = [segmenter.frame_memory(size) for _ in range(4)]
    for seed, frame in enumerate(frames):
        frame[...] = frame_of(size.height, size.width, seed)
    return frames


def _rate(segmenter: CudaSegmenter, frames: Sequence[Any], count: int) -> float:
    started = time.perf_counter()
    for result in segmenter.stream((frames[k % 4] for k in range(count)), outputs=OUTPUTS):
        result.wait()
    return count / (time.perf_counter() - started)


def stages(report: Report, name: str, case: Case, scale: Scale) -> None:
    """What preprocessing and tail add to the network, by events between plain launches."""
    with CudaSegmenter(case.card, case.open(), slots=1, timed=True) as segmenter:
        frame = segmenter.backend.device.uploaded(frame_of(scale.frame.height, scale.frame.width))
        rows = []
        for _ in range(scale.repeats + 5):
            result = segmenter(frame, outputs=OUTPUTS, to_host=False)
            rows.append(dict(result.times.milliseconds))
    p50 = {stage: statistics.median(row[stage] for row in rows[5:]) for stage in rows[-1]}
    added = (p50["preprocess"] + p50["tail"]) / max(p50["network"], 1e-6)
    text = ", ".join(f"{stage} {value * 1e3:.0f} us" for stage, value in p50.items())
    text += f"; preprocess and tail are {added:.0%} of the network"
    measured = {stage: {"unit": "ms", "rounds": [row[stage] for row in rows[5:]]} for stage in p50}
    report.add(name, "fact", text, p50_ms=p50, over_network=added, measured=measured)

"""Quantize under a bound: the most harmful layers stay float until the drop is small enough.

1. Every calibration method is tried with all layers in int8 and judged by the real score: mIoU on
   a data set, or pixels with the float network's label; then the corrections that bring the logits
   nearest to float (`int8.correct`). The best one stays.
2. Where its drop is over the bound, the layers are ranked: each alone in int8, by the error of the
   logits on a few calibration images (simulated).
3. 1, 2, 4 ... of the most harmful layers stay float until the bound holds; then the least number is
   found by bisection. Every network on the way is judged by the real score: that is the curve.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from segedge.card.plain import to_plain
from segedge.convert.onnx_card import check_output
from segedge.errors import UsageError, unknown_name_error
from segedge.measure.bench.durations import repeat, warm_up
from segedge.measure.bench.worker.modes import network_step
from segedge.measure.datasets.datasets import Dataset
from segedge.measure.evaluate.agreement import compare
from segedge.measure.evaluate.evaluate import evaluate
from segedge.measure.optimize.options import allowed_drop
from segedge.precision.int8.correct import correct
from segedge.precision.int8.error import QuantizationError
from segedge.precision.int8.quantizer import (
    LayerChoice,
    Progress,
    QuantizeOptions,
    Quantizer,
    mac_share,
)
from segedge.precision.int8.ranges import Method
from segedge.segment.load import load

if TYPE_CHECKING:
    from segedge.segment.on_gpu import CudaSegmenter
    from segedge.segment.segmenter import Segmenter

Judge = Literal["simulated", "onnxruntime", "openvino"]
JUDGES: dict[str, tuple[str, str]] = {
    "simulated": ("onnxruntime", "onnxruntime:simulated"),
    "onnxruntime": ("onnxruntime", "onnxruntime"),
    "openvino": ("openvino", "openvino"),
}
"""Judge to the backends of the float and of the quantized network."""
_TIMED_SECONDS = 0.3
"""How long a network is warmed up, and timed."""
_RANKED_ON = 4
"""Calibration images that the ranking is measured on."""


@dataclass(frozen=True)
class GuardOptions:
    """What is asked for."""

    max_drop: float | None = None
    """Largest drop in points (of 100); None: 0.5 of mIoU, 1.0 of agreement."""
    judge: Judge = "simulated"
    """On what networks are judged. ``simulated`` is right for TensorRT and CPUs with VNNI."""
    limit: int | None = None
    """At most so many images of the data set, evenly spread."""

    def __post_init__(self) -> None:
        if self.judge not in JUDGES:
            raise unknown_name_error("judge", str(self.judge), list(JUDGES))
        if self.max_drop is not None and self.max_drop < 0:
            raise UsageError(f"--max-drop is in points and not negative, found {self.max_drop:g}")


@dataclass(frozen=True)
class GuardPoint:
    """One network on the curve. Shares are 0..1."""

    method: Method
    kept: int
    """How many of the layers that may be int8 stayed float."""
    mac_share: float
    """Of the convolutions' multiplications in int8."""
    score: float
    """mIoU or agreement."""
    drop: float
    """Points (of 100) below the float network."""
    corrections: tuple[str, ...] = ()
    network_ms: float | None = None
    """Median time of the network alone on the judge; None where it is simulated."""


@dataclass(frozen=True)
class LayerHarm:
    """What one layer, by its node's name, does alone in int8.

    The error is the root mean square of the logits', relative to their standard deviation.
    """

    name: str
    logit_error: float
    macs: int


@dataclass(frozen=True)
class GuardReport:
    """What was tried, what was measured, and what was written."""

    out: Path
    size_bytes: int
    source_bytes: int
    metric: Literal["miou", "agreement"]
    """What the score is."""
    judge: Judge
    judged_on: str
    """The data, in words."""
    float_score: float
    """The float network's score, 0..1; 1 for agreement."""
    float_network_ms: float | None
    """Its time as of the points."""
    max_drop: float
    """The bound, in points."""
    points: tuple[GuardPoint, ...]
    """Every network that was judged, in the order of the trials."""
    chosen: GuardPoint
    """The one that was written."""
    ranking: tuple[LayerHarm, ...]
    """The most harmful layer first; empty where the bound held with all layers in int8."""
    layers: tuple[LayerChoice, ...]
    """What became of each layer."""
    images: int
    """Calibration images."""
    images_sha256: str
    warnings: tuple[str, ...]

    @property
    def holds(self) -> bool:
        """Whether the written network is within the bound."""
        return self.chosen.drop <= self.max_drop

    @property
    def curve(self) -> tuple[GuardPoint, ...]:
        """The points of the method and corrections that were chosen, all layers in int8 first."""
        wanted = (self.chosen.method, self.chosen.corrections)
        own = [point for point in self.points if (point.method, point.corrections) == wanted]
        return tuple(sorted(own, key=lambda point: point.kept))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**to_plain(self), "holds": self.holds}


def quantize_guarded(
    model: Path,
    out: Path,
    *,
    calibrate: Sequence[str | Path],
    dataset: Dataset | None = None,
    options: QuantizeOptions | None = None,
    guard: GuardOptions | None = None,
    progress: Progress | None = None,
) -> GuardReport:
    """Quantize a network, keeping as many layers float as the bound needs.

    Where the bound cannot hold, the network with the smallest drop is written, and the report's
    ``holds`` is False. Without a data set, agreement with the float network on the calibration
    images is the judge.
    """
    check_output(out, source=model)
    guard = guard or GuardOptions()
    quantizer = Quantizer.calibrate(
        model, calibrate, options=options or QuantizeOptions(), progress=progress
    )
    with tempfile.TemporaryDirectory(prefix="segedge-") as folder:
        trial = _Trial(quantizer, dataset, guard, Path(folder), progress)
        return trial.run(out)


class _Trial:
    """One guarded quantization."""

    def __init__(
        self,
        quantizer: Quantizer,
        dataset: Dataset | None,
        guard: GuardOptions,
        folder: Path,
        progress: Progress | None,
    ) -> None:
        self.quantizer, self.dataset, self.guard = quantizer, dataset, guard
        self.folder, self.progress = folder, progress
        self.points: list[GuardPoint] = []
        self.ranking: tuple[LayerHarm, ...] = ()
        self.max_drop = allowed_drop(guard.max_drop, has_labels=dataset is not None)
        self.float_score = 1.0
        self.float_network_ms: float | None = None

    def run(self, out: Path) -> GuardReport:
        source = self.quantizer.source
        if self.dataset is not None:
            self.float_score, self.float_network_ms = self._score(source, 0, "judging float")
        elif self.guard.judge != "simulated":
            with load(source, backend=JUDGES[self.guard.judge][0]) as segmenter:
                self.float_network_ms = _network_ms(segmenter)
        for method in self.quantizer.methods():
            self._judge(method, 0)
        best = self._corrected(min(self.points, key=lambda point: point.drop))
        chosen = best if best.drop <= self.max_drop else self._search(best)
        return self._written(out, chosen)

    def _corrected(self, plain: GuardPoint) -> GuardPoint:
        """The better of the best plain network and the one that corrections bring nearest."""
        if not self.quantizer.options.correct:
            return plain
        before = self.quantizer
        found = correct(before, before.reference(), progress=self.progress)
        if found.quantizer is before:
            return plain
        self.quantizer = found.quantizer
        point = self._judge(found.method, 0)
        if point.drop < plain.drop:
            return point
        self.quantizer = before
        return plain

    def _search(self, best: GuardPoint) -> GuardPoint:
        """The point with the fewest layers kept at which the bound holds, else the best of all."""
        self.ranking = self._rank(best.method)
        most = len(self.ranking) - 1
        failed, kept = 0, 1
        found: GuardPoint | None = None
        while failed < most:
            point = self._judge(best.method, min(kept, most))
            if point.drop <= self.max_drop:
                found = point
                break
            failed, kept = point.kept, 2 * kept
        if found is None:
            own = [p for p in self.points if p.corrections == self.quantizer.corrections]
            return min(own, key=lambda point: point.drop)
        while found.kept - failed > 1:
            point = self._judge(best.method, (found.kept + failed) // 2)
            if point.drop <= self.max_drop:
                found = point
            else:
                failed = point.kept
        return found

    def _rank(self, method: Method) -> tuple[LayerHarm, ...]:
        """Each layer alone in int8, by the error of the logits."""
        reference = self.quantizer.reference(_RANKED_ON)
        candidates = self.quantizer.candidates()
        harms = []
        for number, layer in enumerate(candidates):
            others = {other.name for other in candidates} - {layer.name}
            error = reference.error(self.quantizer.network(method, kept=others))
            harms.append(LayerHarm(layer.name, _harm(error), layer.macs))
            self._tell("ranking layers", number + 1, len(candidates))
        return tuple(sorted(harms, key=lambda harm: (-harm.logit_error, harm.name)))

    def _judge(self, method: Method, kept: int) -> GuardPoint:
        choices = self._choices(kept)
        path = self.folder / f"{method}-{kept}.onnx"
        record = self._record(method, choices, score=0.0)
        network = self._network(method, kept)
        self.quantizer.write(network, path, record, is_proved=False)
        score, network_ms = self._score(path, 1, f"judging {method}, {kept} layers float")
        path.unlink()
        drop = 100 * (self.float_score - score)
        share, corrections = mac_share(choices), self.quantizer.corrections
        point = GuardPoint(method, kept, share, score, drop, corrections, network_ms)
        self.points.append(point)
        return point

    def _network(self, method: Method, kept: int) -> Any:
        return self.quantizer.network(method, kept=[harm.name for harm in self.ranking[:kept]])

    def _choices(self, kept: int) -> tuple[LayerChoice, ...]:
        reasons = {
            harm.name: f"number {number} in harm: alone it moves the logits by "
            f"{100 * harm.logit_error:.1f} % of their deviation"
            for number, harm in enumerate(self.ranking[:kept], start=1)
        }
        return self.quantizer.choices(reasons)

    def _score(self, path: Path, side: int, what: str) -> tuple[float, float | None]:
        """Score, 0..1, and the time of the network alone, where the judge really computes."""
        backend, source = JUDGES[self.guard.judge][side], self.quantizer.source
        # What is tried has no proof yet: it gets one when it is written.
        with load(path, backend=backend, check=path == source) as segmenter:
            if self.dataset is not None:
                found = evaluate(
                    segmenter, self.dataset, boundary=False, limit=self.guard.limit,
                    progress=lambda done, total: self._tell(what, done, total),
                )  # fmt: skip
                return found.miou, self._time(segmenter)
            images = self.quantizer.images
            with load(source, backend=JUDGES[self.guard.judge][0]) as reference:
                agreement = compare(reference, segmenter, images.images()).agreement
            return agreement, self._time(segmenter)

    def _time(self, segmenter: Segmenter | CudaSegmenter) -> float | None:
        return None if self.guard.judge == "simulated" else _network_ms(segmenter)

    def _record(self, method: Method, choices: Sequence[LayerChoice], *, score: float) -> Any:
        return self.quantizer.record(
            method, choices, metric=self._metric, judge=self.guard.judge,
            float_score=self.float_score, score=score, judged_on=self._judged_on,
            max_drop=self.max_drop,
        )  # fmt: skip

    @property
    def _metric(self) -> Literal["miou", "agreement"]:
        return "agreement" if self.dataset is None else "miou"

    @property
    def _judged_on(self) -> str:
        if self.dataset is None:
            return f"{self.quantizer.images.count} calibration images"
        count = min(len(self.dataset), self.guard.limit or len(self.dataset))
        return f"{self.dataset.name}, {count} images"

    def _written(self, out: Path, chosen: GuardPoint) -> GuardReport:
        choices = self._choices(chosen.kept)
        record = self._record(chosen.method, choices, score=chosen.score)
        size = self.quantizer.write(self._network(chosen.method, chosen.kept), out, record)
        return GuardReport(
            out=out,
            size_bytes=size,
            source_bytes=self.quantizer.source.stat().st_size,
            metric=self._metric,
            judge=self.guard.judge,
            judged_on=self._judged_on,
            float_score=self.float_score,
            float_network_ms=self.float_network_ms,
            max_drop=self.max_drop,
            points=tuple(self.points),
            chosen=chosen,
            ranking=self.ranking,
            layers=choices,
            images=self.quantizer.images.count,
            images_sha256=self.quantizer.images.sha256,
            warnings=self.quantizer.images.warnings(),
        )

    def _tell(self, what: str, done: int, total: int) -> None:
        if self.progress is not None:
            self.progress(what, done, total)


def _network_ms(segmenter: Segmenter | CudaSegmenter) -> float:
    """Median time of the network alone, as `segedge bench` measures it, but shorter."""
    step = network_step(segmenter)
    warm_up(step, seconds=_TIMED_SECONDS)
    return statistics.median(repeat(step, seconds=_TIMED_SECONDS))


def _harm(error: QuantizationError) -> float:
    """The logits' error; of a network that gives labels, its disagreement."""
    return error.logit_error or error.disagreement

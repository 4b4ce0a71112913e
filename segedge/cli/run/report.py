"""What `segedge run` prints: the head, the table at the end, and JSON."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segedge.backends.remote.address import address_text
from segedge.cli.checked import checked_dict, print_checked
from segedge.cli.console import print_error, print_prose, print_row
from segedge.cli.progress import clock
from segedge.errors import SegedgeError
from segedge.frames.timing import COMPUTING
from segedge.machine.files import megabytes

if TYPE_CHECKING:
    from segedge.frames.protocols import SourceFailure, SourceInfo
    from segedge.options.smoothing import Flicker, Smoothing
    from segedge.pipeline.stats import RunReport
    from segedge.segment.on_gpu import CudaSegmenter
    from segedge.segment.segmenter import Segmenter


def print_head(segmenter: Segmenter | CudaSegmenter, sources: Sequence[SourceInfo]) -> None:
    """The backend and the sources, before the run."""
    print_row("backend", f"{segmenter.backend.description}: {segmenter.backend_reason}")
    print_checked(segmenter)
    if segmenter.windows:
        print_row("slide", segmenter.windows)
    for info in sources:
        facts = []
        if info.size:
            facts.append(f"{info.size[1]}x{info.size[0]}")
        if info.fps:
            facts.append(f"{info.fps:g} fps")
        if info.fps and info.frame_count:
            facts.append(clock(round(info.frame_count / info.fps)))
        if info.frame_count:
            facts.append(f"{info.frame_count} {'frame' if info.frame_count == 1 else 'frames'}")
        if info.live:
            facts.append("live")
        if info.tags.hdr:
            facts.append(f"HDR ({info.tags.hdr})")
        print_row("source", f"{short_name(info.name)}  {', '.join(facts)}")


def short_name(name: str) -> str:
    """A path's last part; an address as it is."""
    return name if "://" in name else Path(name).name or name


def print_failures(reports: Sequence[RunReport]) -> None:
    """What could not be read, on stderr."""
    for report in reports:
        for failure in report.failures:
            print_error(_failure_error(failure))


@dataclasses.dataclass(frozen=True)
class Outcome:
    """All that is told after a run; of the sequences one entry a source."""

    model: Path
    segmenter: Segmenter | CudaSegmenter
    reports: Sequence[RunReport]
    notes: Sequence[Sequence[str]]
    flicker: Sequence[Flicker | None]

    def to_dict(self) -> dict[str, Any]:
        """One source: its report beside the model's facts; several: a list of them."""
        head = {
            "model": address_text(self.model),
            "backend": self.segmenter.backend.description,
            "reason": self.segmenter.backend_reason,
            "checked": checked_dict(self.segmenter),
        }
        rows = []
        for report, notes, counted in zip(self.reports, self.notes, self.flicker, strict=True):
            row = {**report.to_dict(), "drops": report.drops, "source_notes": list(notes)}
            if counted is not None:
                row["flicker"] = {**dataclasses.asdict(counted), "shares": counted.shares()}
            rows.append(row)
        if len(rows) == 1:
            return {**head, **rows[0]}
        return {**head, "machine": self.reports[0].machine, "sources": rows}


def print_outcome(outcome: Outcome) -> None:
    """The same for people."""
    segmenter, reports = outcome.segmenter, outcome.reports
    for report, notes, counted in zip(reports, outcome.notes, outcome.flicker, strict=True):
        if len(reports) > 1:
            print_row("source", short_name(report.source))
        _print_report(report)
        if report.motion is not None:
            _print_motion(report.motion)
        if report.drift is not None:
            from segedge.drift.watch import sentence as drift_sentence
            from segedge.engine.file import is_engine

            model = "MODEL.onnx" if is_engine(outcome.model) else address_text(outcome.model)
            command = f"segedge adapt {model} --images {report.source}"
            print_prose("camera", drift_sentence(report.drift, command))
        if counted is not None:
            print_row("flicker", _flicker_text(counted, segmenter.options.smoothing))
        for note in (*report.notes, *notes):
            print_row("note", note)
        if report.interrupted:
            print_row("interrupted", "the outputs hold the frames up to here")
        for path in report.paths:
            print_row("wrote", f"{path}  {_size_text(path)}")
    for note in segmenter.notes:
        print_row("note", note)
    _print_machine(reports[0].machine)


def _flicker_text(counted: Flicker, smoothing: Smoothing | None) -> str:
    """Shares of the still points whose label changed, with and without smoothing."""
    shares = counted.shares()
    if shares is None:
        return "nothing was still from one frame to the next"
    without = f"{100 * shares['changed_before']:.2f} % of still points change label a frame"
    back = f"{100 * shares['returned_before']:.2f} % change back"
    if smoothing is None or smoothing.is_off:
        return f"{without}, {back}"
    return (
        f"{without}, {back}; smoothed {100 * shares['changed']:.2f} % and"
        f" {100 * shares['returned']:.2f} %"
    )


def _failure_error(failure: SourceFailure) -> SegedgeError:
    """What of the source is missing, in the form of an error."""
    what, fix = "could not be read", "copy or convert it again"
    if failure.cut:
        what, fix = "ends early", "copy it again; what there was is in the output"
    elif failure.reason.startswith("damaged"):
        what = "could not be read completely"
    return SegedgeError(f"{failure.name} {what}", facts={"found": failure.reason}, fix=fix)


def _print_report(report: RunReport) -> None:
    """The table of stages; what runs in other threads is marked as overlapped."""
    if report.stages:
        print_row("", f"{'p50':>9} {'p95':>9}    share of the frame")
    compute = report.compute
    for stage, summary in report.stages.items():
        if stage not in COMPUTING or compute is None:
            share = "(overlapped)"
        else:
            total_ms = max(compute.count * compute.mean_ms, 1e-9)
            share = f"{100 * summary.count * summary.mean_ms / total_ms:3.0f} %"
            if report.motion is not None and summary.count < compute.count:
                share += f"  of {summary.count} of {compute.count} frames"
        print_row(stage, f"{summary.p50_ms:6.1f} ms {summary.p95_ms:6.1f} ms    {share}")
    if compute is not None:
        print_row("frame", f"{compute.p50_ms:6.1f} ms {compute.p95_ms:6.1f} ms")
    if report.latency is not None:
        _print_latency(report)
    lost = f", {report.failed} failed" if report.failed else ""
    where = ", ".join(f"{count} at {place}" for place, count in report.drops.items())
    print_row(
        "frames",
        f"{report.read} read = {report.written} written, {report.dropped} dropped{lost};"
        f" {report.fps:.1f} fps over {report.seconds:.1f} s",
    )
    if where:
        print_row("dropped", where)


def _print_motion(facts: Mapping[str, Any]) -> None:
    """Where the network saw some frames: how many, and what that did to the labels."""
    from segedge.motion.summary import no_vectors, sentence

    print_prose("motion", sentence(facts))
    if facts["network_ms"] is not None:
        print_row("", f"the network took {facts['network_ms']:.1f} ms (p50) beside the frames")
    lacking = no_vectors(facts)
    if lacking:
        print_row("note", lacking)


def _print_latency(report: RunReport) -> None:
    latency, jitter = report.latency, report.jitter
    assert latency is not None, "asked before"
    text = f"{latency.p50_ms:6.1f} ms {latency.p95_ms:6.1f} ms    p99 {latency.p99_ms:.1f} ms"
    if jitter is not None:
        text += f", jitter {jitter.p50_ms:.1f} ms (p99 {jitter.p99_ms:.1f} ms)"
    print_row("latency", f"{text}; {report.policy}")


def _print_machine(machine: dict[str, Any]) -> None:
    process, gpu = machine.get("process"), machine.get("gpu")
    if process is None:
        return
    text = (
        f"CPU {process['cpu_percent']:.0f} % of {100 * process['processors']} %,"
        f" memory {process['peak_memory_mb']:.0f} MB at most"
    )
    for name, unit in (("load_percent", " %"), ("power_w", " W")):
        if gpu and name in gpu:
            label = "GPU " if unit == " %" else ""
            text += f", {label}{gpu[name]['mean']:.0f}{unit}"
    print_row("machine", text)


def _size_text(path: Path) -> str:
    if path.is_dir():
        count = sum(1 for found in path.rglob("*") if found.is_file())
        return f"{count} {'file' if count == 1 else 'files'} in it"  # older ones, too
    return megabytes(path.stat().st_size) if path.exists() else ""

"""The live view's numbers: for the page, and as Prometheus text.

What the pipeline publishes of a source takes precedence; what it does not say comes from the
frames that the view itself has seen.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from segedge.live.channel import Channel

_COUNTS = {
    "read": "Frames taken from the source",
    "written": "Frames that every sink has taken",
    "dropped": "Frames given up because something was slower than the source",
    "failed": "Frames lost to an error",
}
_MOTION = {
    "agreement": ("gauge", "agreement", "Share of clear points with the network's label where it "
                  "was carried, at the newest key frame"),
    "network_frames_total": ("counter", "network_frames", "Frames that the network saw"),
    "frames_total": ("counter", "frames", "Frames that got logits by the network or by motion"),
    "key_age_ms": ("gauge", "key_age_ms", "Age of the key frame that the newest was carried from"),
}  # fmt: skip
"""Metric behind ``segedge_motion_`` to its kind, its name in what is published, its meaning."""
_DRIFT = {
    "confidence": ("confidence", "Mean probability of the label over the last frames"),
    "confidence_familiar": ("familiar", "The same when the model was exported or adapted"),
    "confidence_alarm": ("alarm", "Confidence below which the camera differs"),
    "camera_differs": ("differs", "1 where the confidence is below the alarm"),
    "camera_classes_moved": ("classes_moved", "Share of the points that would have to change their "
                            "class to have the shares of then"),
}  # fmt: skip
"""Metric behind ``segedge_`` to its name in what is published, and its meaning."""
_OWN = (*_COUNTS, "fps", "latency_ms", "motion", "drift")
"""What is published of a source and has families of its own."""
_QUANTILES = {"p50": "0.5", "p95": "0.95", "p99": "0.99"}


def plain(stats: Mapping[str, Any]) -> dict[str, Any]:
    """Plain types all the way down; dataclasses such as `Summary` become dictionaries."""
    values: dict[str, Any] = {}
    for key, value in stats.items():
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            value = dataclasses.asdict(value)
        values[str(key)] = plain(value) if isinstance(value, Mapping) else value
    return values


def source_stats(channel: Channel) -> dict[str, Any]:
    """Counts, rate and latency of a source."""
    meter, said = channel.meter, channel.published
    own = {
        "read": meter.written + meter.gaps,
        "written": meter.written,
        "dropped": meter.gaps,
        "failed": 0,
        "fps": meter.fps(),
        "latency_ms": meter.latency_ms(),
    }
    return own | {key: said[key] for key in own if said.get(key) is not None}


def page_stats(
    channels: Sequence[Channel], viewers: int, published: Mapping[str, Any]
) -> dict[str, Any]:
    """What the page is told once a second."""
    sources = []
    for channel in channels:
        values = source_stats(channel)
        values["latency_ms"] = _latency(values["latency_ms"])
        point = channel.meter.history()[-1:]
        told = {"state": channel.state, "point": point[0] if point else None}
        sources.append({**values, **told, "motion": channel.published.get("motion")})
    system = {key: value for key, value in published.items() if _is_number(value)}
    return {"kind": "stats", "viewers": viewers, "sources": sources, "system": system}


def prometheus(channels: Sequence[Channel], viewers: int, published: Mapping[str, Any]) -> str:
    """Prometheus' text format, version 0.0.4."""
    rows = [(f'{{source="{_escaped(c.name)}"}}', source_stats(c), c) for c in channels]
    lines = _family("segedge_viewers", "gauge", "Open pages", [f"segedge_viewers {viewers}"])
    for count, meaning in _COUNTS.items():
        name = f"segedge_frames_{count}_total"
        lines += _family(
            name,
            "counter",
            meaning,
            [f"{name}{label} {values[count]}" for label, values, _ in rows],
        )
    name = "segedge_fps"
    lines += _family(
        name,
        "gauge",
        "Frames a second over the last seconds",
        [f"{name}{label} {_number(values['fps'])}" for label, values, _ in rows],
    )
    lines += _family(
        "segedge_latency_seconds",
        "summary",
        "From capture to the sink; quantiles of the last seconds, sum and count as the view saw it",
        [line for label, values, c in rows for line in _latency_lines(label, values, c)],
    )
    name = "segedge_stage_seconds_total"
    lines += _family(
        name,
        "counter",
        "Time spent by stage, over all frames that were shown to the view",
        [
            f"{name}{_with_label(label, 'stage', stage)} {_number(milliseconds / 1e3)}"
            for label, _, channel in rows
            for stage, milliseconds in list(channel.meter.stage_sums_ms.items())
        ],
    )
    for name, (kind, key, meaning) in _MOTION.items():
        lines += _part_family(f"segedge_motion_{name}", kind, "motion", key, meaning, rows)
    for name, (key, meaning) in _DRIFT.items():
        lines += _part_family(f"segedge_{name}", "gauge", "drift", key, meaning, rows)
    further: dict[str, list[str]] = {}
    for label, _, channel in rows:
        _add_gauges(further, channel.published, label, skip={*_OWN})
    _add_gauges(further, published, "", skip=set())
    for name, samples in further.items():
        lines += [f"# TYPE {name} gauge", *samples]
    return "\n".join(lines) + "\n"


def _part_family(
    name: str, kind: str, part: str, key: str, meaning: str,
    rows: Sequence[tuple[str, Any, Channel]],
) -> list[str]:  # fmt: skip
    """Of the sources that publish a part, motion or drift; none at all where there is none."""
    found = [(label, (c.published.get(part) or {}).get(key)) for label, _, c in rows]
    numbers = [(label, int(v) if isinstance(v, bool) else v) for label, v in found]
    samples = [f"{name}{label} {_number(value)}" for label, value in numbers if value is not None]
    return _family(name, kind, meaning, samples) if samples else []


def _latency_lines(label: str, values: Mapping[str, Any], channel: Channel) -> list[str]:
    name = "segedge_latency_seconds"
    lines = [
        f"{name}{_with_label(label, 'quantile', quantile)} {_number(milliseconds / 1e3)}"
        for key, quantile in _QUANTILES.items()
        if (milliseconds := _latency(values["latency_ms"]).get(key)) is not None
    ]
    lines.append(f"{name}_sum{label} {_number(channel.meter.latency_sum_ms / 1e3)}")
    return [*lines, f"{name}_count{label} {channel.meter.written}"]


def _latency(values: Mapping[str, Any]) -> dict[str, Any]:
    """p50, p95, p99: `Summary` calls them p50_ms and so on."""
    return {key: values.get(key, values.get(f"{key}_ms")) for key in _QUANTILES}


def _add_gauges(
    further: dict[str, list[str]], values: Mapping[str, Any], label: str, *, skip: set[str]
) -> None:
    """Any further numbers, under their own names; samples of one name stand together.

    A table of numbers is one name with a label ``part``.
    """
    for key, value in values.items():
        name = "segedge_" + re.sub(r"[^a-zA-Z0-9_]", "_", key)
        parts = value if isinstance(value, Mapping) else {"": value}
        for part, number in parts.items():
            if key not in skip and _is_number(number):
                where = _with_label(label, "part", str(part)) if part else label
                further.setdefault(name, []).append(f"{name}{where} {_number(number)}")


def _with_label(label: str, key: str, value: str) -> str:
    inner = [label[1:-1]] if label else []
    return "{" + ",".join([*inner, f'{key}="{_escaped(value)}"']) + "}"


def _family(name: str, kind: str, meaning: str, samples: Iterable[str]) -> list[str]:
    return [f"# HELP {name} {meaning}", f"# TYPE {name} {kind}", *samples]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _number(value: float) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")

"""Engines of every precision: built, loaded, run, and compared with ONNX Runtime on the CPU."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpu.host_engine import HostTensorRtBackend
from gpu.models import default_models
from gpu.report import Options, Report
from segedge.backends.onnxruntime import OnnxRuntimeBackend
from segedge.engine.options import BuildOptions
from segedge.machine.processors import usable_processors

WORST_AGREEMENT = {"fp32": 0.999, "fp16": 0.99, "int8": 0.9}
"""Share of pixels that must have ONNX Runtime's label; noise images, so edges everywhere."""


def engines(report: Report, options: Options) -> None:
    """A row a model and precision; times hold the copies to and from the CPU, and no more."""
    runs = 5 if options.quick else 200
    for model in options.models or default_models():
        for precision in options.precisions:
            name = f"{model.name} {precision}"
            with report.guard(name, may_refuse=True):
                row = measured(model, precision, options.flavour, runs)
                agrees = row["agreement"] >= WORST_AGREEMENT[precision] and row["finite"]
                text = (
                    f"{row['agreement']:.4%} of the pixels agree, error {row['max_error']:.3g}, "
                    f"p50 {row['p50_ms']:.2f} ms, p95 {row['p95_ms']:.2f} ms"
                )
                report.add(name, "right" if agrees else "wrong", text, **row)


def measured(model: Path, precision: str, flavour: str, runs: int) -> dict[str, Any]:
    """Agreement and times of one engine."""
    started = time.perf_counter()
    options = BuildOptions(precision=precision)  # type: ignore[arg-type]
    engine = HostTensorRtBackend(model, flavour=flavour, options=options)
    opened = time.perf_counter() - started
    reference = OnnxRuntimeBackend(model, threads=usable_processors())
    image = noise(engine.specs[0][0].shape)
    wanted = np.asarray(reference.run([image])[0], np.float32)
    found = np.asarray(engine.run([image])[0], np.float32)
    output = [found.copy()]
    times = [timed(engine, image, output) for _ in range(runs // 10 + runs)][runs // 10 :]
    stable = bool(np.array_equal(output[0], engine.run([image])[0]))
    description = engine.description
    engine.close()
    return {
        "backend": description,
        "includes": "host to device copy, network, device to host copy; not decode, pre, tail",
        "open_seconds": round(opened, 3),
        "finite": bool(np.isfinite(found).all()),
        "stable": stable,
        "agreement": float((wanted.argmax(1) == found.argmax(1)).mean()),
        "max_error": float(np.abs(wanted - found).max()),
        "logit_range": float(np.ptp(wanted)),
        "p50_ms": float(np.percentile(times, 50)),
        "p95_ms": float(np.percentile(times, 95)),
        "p99_ms": float(np.percentile(times, 99)),
        "runs": runs,
        "measured": {"engine": {"unit": "ms", "rounds": times}},
    }


def noise(shape: tuple[int | None, ...]) -> NDArray[np.float32]:
    """Smooth noise, about normal, of an input's shape; dynamic axes are 1."""
    import cv2

    batch, channels, height, width = (axis or 1 for axis in shape)
    rng = np.random.default_rng(0)
    planes = rng.standard_normal((batch * channels, 8, 16)).astype(np.float32)
    large = [cv2.resize(plane, (width, height)) for plane in planes]
    return np.stack(large).reshape(batch, channels, height, width)


def timed(
    engine: HostTensorRtBackend, image: NDArray[np.float32], output: list[NDArray[np.float32]]
) -> float:
    """Milliseconds of one run, copies included."""
    started = time.perf_counter()
    engine.run([image], output)
    return (time.perf_counter() - started) * 1e3

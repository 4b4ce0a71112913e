"""Engines on a real GPU: built, loaded, run, and compared with ONNX Runtime on the CPU.

    python benchmarks/gpu_check.py [MODEL.onnx ...]

Without models it takes those in ../shared/models, else it makes a small one. For each model and
precision it prints a row and writes benchmarks/results/gpu-<name>.json: agreement of the labels,
largest logit error, times with copies to and from the CPU, and what the GPU or TensorRT refuses,
in words. Exit code 2 on a machine without a GPU, 1 where a result is wrong.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from harness import write_results
from numpy.typing import NDArray

from segedge.backends.onnxruntime import OnnxRuntimeBackend
from segedge.backends.registry import available_threads
from segedge.backends.tensorrt_host import HostTensorRtBackend
from segedge.convert.engine_options import PRECISIONS, BuildOptions
from segedge.errors import SegedgeError
from segedge.flavour import flavour_statuses
from segedge.gpu import find_driver

MODELS = Path(__file__).parents[2] / "shared" / "models"
WARM_UP, RUNS = 20, 200
WORST_AGREEMENT = {"fp32": 0.999, "fp16": 0.99, "int8": 0.9}
"""Share of pixels that must have ONNX Runtime's label; noise images, so edges everywhere."""


def main() -> int:
    """Check every model in every precision that it has."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=_Raw)
    parser.add_argument("models", nargs="*", type=Path)
    parser.add_argument("--precision", nargs="*", default=["fp32", "fp16"], choices=PRECISIONS)
    parser.add_argument("--flavour", default="auto")
    arguments = parser.parse_args()
    driver = find_driver()
    for status in flavour_statuses(driver=driver):
        print(f"{status.name:<13} {status.version or '-':<12} {status.detail}")
    if driver.gpu is None:
        print(f"gpu_check: nothing to check here: {driver.problem}", file=sys.stderr)
        return 2
    print(f"{'gpu':<13} {driver.gpu}, driver for {driver.cuda_text}")
    rows = [
        check(model, precision, arguments.flavour)
        for model in arguments.models or default_models()
        for precision in arguments.precision
    ]
    name = "gpu-" + re.sub(r"[^a-z0-9]+", "-", driver.gpu.name.lower()).strip("-")
    figures = {
        "gpu": asdict(driver.gpu),
        "driver_cuda": driver.cuda_text,
        "flavours": [asdict(status) for status in flavour_statuses(driver=driver)],
        "includes": "host to device copy, network, device to host copy; not decode, pre, tail",
        "rows": rows,
    }
    print(f"wrote {write_results(name, figures)}")
    return 1 if any(row["verdict"] == "wrong" for row in rows) else 0


class _Raw(argparse.RawDescriptionHelpFormatter):
    """Keep the docstring's lines."""


def default_models() -> list[Path]:
    """The trained networks where they are, else a small convolution."""
    return sorted(MODELS.glob("*.onnx")) or [small_model()]


def small_model() -> Path:
    """A network of two convolutions, written to a temporary folder."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(0)
    weights = {"w0": (16, 3, 3, 3), "w1": (19, 16, 3, 3)}
    nodes = [
        helper.make_node("Conv", ["image", "w0"], ["a"], pads=[1, 1, 1, 1], strides=[2, 2]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "w1"], ["logits"], pads=[1, 1, 1, 1]),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, (1, 3, 256, 512))],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, (1, 19, 128, 256))],
        [
            numpy_helper.from_array(rng.normal(0, 0.2, shape).astype(np.float32), key)
            for key, shape in weights.items()
        ],
    )
    path = Path(tempfile.mkdtemp()) / "small.onnx"
    opsets = [helper.make_opsetid("", 20)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), path)
    return path


def check(model: Path, precision: str, flavour: str) -> dict[str, Any]:
    """Build, load, run and compare one engine; a refusal is a row, too."""
    row: dict[str, Any] = {"model": model.name, "precision": precision}
    try:
        row |= measured(model, precision, flavour)
        agrees = row["agreement"] >= WORST_AGREEMENT[precision]
        row["verdict"] = "right" if agrees and row["finite"] else "wrong"
        text = (
            f"{row['agreement']:.4%} of the pixels agree, error {row['max_error']:.3g}, "
            f"p50 {row['p50_ms']:.2f} ms, p95 {row['p95_ms']:.2f} ms"
        )
    except SegedgeError as error:
        row |= {"verdict": "refused", "headline": error.headline, "facts": error.facts}
        text = str(error).replace("\n", "\n" + " " * 14)
    print(f"{row['verdict']:<13} {model.name} {precision}: {text}", flush=True)
    return row


def measured(model: Path, precision: str, flavour: str) -> dict[str, Any]:
    """Agreement and times of one engine."""
    started = time.perf_counter()
    options = BuildOptions(precision=precision)  # type: ignore[arg-type]
    engine = HostTensorRtBackend(model, flavour=flavour, options=options)
    opened = time.perf_counter() - started
    reference = OnnxRuntimeBackend(model, threads=available_threads())
    image = noise(engine.specs[0][0].shape)
    wanted = np.asarray(reference.run([image])[0], np.float32)
    found = np.asarray(engine.run([image])[0], np.float32)
    output = [found]
    times = [timed(engine, image, output) for _ in range(WARM_UP + RUNS)][WARM_UP:]
    stable = bool(np.array_equal(output[0], engine.run([image])[0]))
    description = engine.description
    engine.close()
    return {
        "backend": description,
        "open_seconds": round(opened, 3),
        "finite": bool(np.isfinite(found).all()),
        "stable": stable,
        "agreement": float((wanted.argmax(1) == found.argmax(1)).mean()),
        "max_error": float(np.abs(wanted - found).max()),
        "logit_range": float(np.ptp(wanted)),
        "p50_ms": float(np.percentile(times, 50)),
        "p95_ms": float(np.percentile(times, 95)),
        "p99_ms": float(np.percentile(times, 99)),
        "runs": RUNS,
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


if __name__ == "__main__":
    sys.exit(main())

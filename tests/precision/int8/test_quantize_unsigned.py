"""uint8 activations: faster on CPUs, the same network otherwise, and nothing for TensorRT."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from quantize_nets import RESIDUAL, WEIGHTS, network, prepare, save, weight

import segedge
from segedge.card.card import ModelCard
from segedge.card.modelfile import read_metadata
from segedge.engine.source import read_buildable
from segedge.errors import ModelError, UsageError
from segedge.precision.int8.int8 import quantize
from segedge.precision.int8.quantizer import QuantizeOptions
from segedge.precision.int8.rewrite import never_negative
from tests.small_model import run_verb

UNSIGNED = QuantizeOptions(method="minmax", activations="uint8", weight_bits=7, correct=False)
SIGNED = QuantizeOptions(method="minmax", weight_bits=7, correct=False)


@pytest.fixture(scope="module")
def made(model: Path, images: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("made")
    for name, options in (("uint8", UNSIGNED), ("int8", SIGNED)):
        quantize(model, folder / f"{name}.onnx", calibrate=[images], options=options)
    return {name: folder / f"{name}.onnx" for name in ("uint8", "int8")}


def parameters(path: Path) -> dict[str, tuple[float, Any]]:
    """Scale and zero point of each quantized activation."""
    graph = onnx.load(path).graph
    stored = {w.name: numpy_helper.to_array(w) for w in graph.initializer}
    return {
        node.input[0]: (float(stored[node.input[1]]), stored[node.input[2]])
        for node in graph.node
        if node.op_type == "QuantizeLinear"
    }


def test_what_is_never_negative_has_all_levels(made: dict[str, Path]) -> None:
    unsigned, signed = parameters(made["uint8"]), parameters(made["int8"])
    assert set(unsigned) == set(signed)
    positive = {"r1", "rd", "rs", "ro"}
    for name, (scale, zero) in unsigned.items():
        assert zero.dtype == np.uint8
        levels, point = (255, 0) if name in positive else (127, 128)
        assert zero == point, name
        assert scale == pytest.approx(signed[name][0] * 127 / levels, rel=1e-6), name
    assert all(zero.dtype == np.int8 and zero == 0 for _, zero in signed.values())


def test_which_values_are_never_negative() -> None:
    body = """
        a = Relu (image) b = Clip (image, zero, six) c = Clip (image, minus, six)
        d = Add (a, b) e = Add (a, c) f = Concat <axis = 1> (d, b)
        g = MaxPool <kernel_shape = [2, 2]> (f)
        h = Mul (a, half) i = Mul (a, minus) j = Sigmoid (e) k = Conv (a, w) l = Clip (image)
        logits = Conv (a, w)
    """
    weights = {
        "zero": np.float32(0), "six": np.float32(6), "minus": np.float32(-1),
        "half": np.float32(0.5), "w": weight(3, 3),
    }  # fmt: skip
    assert never_negative(prepare(network(body, weights))) == set("abdfghj")


def optimised(path: Path, folder: Path) -> list[str]:
    """Operators of the graph that ONNX Runtime makes of a file on this CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(folder / "optimised.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return [node.op_type for node in onnx.load(folder / "optimised.onnx").graph.node]


def test_onnx_runtime_computes_convolutions_with_a_relu_in_integers(
    made: dict[str, Path], tmp_path: Path
) -> None:
    # All but the classifier and the one that only it reads.
    assert optimised(made["uint8"], tmp_path).count("QLinearConv") == 4
    assert optimised(made["int8"], tmp_path).count("QLinearConv") < 4


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_real_integers_give_what_the_nodes_say(
    made: dict[str, Path], images: Path, backend: str
) -> None:
    """Seven bits: two products of 255 and 63 fit the 16-bit sums of CPUs without VNNI."""
    pytest.importorskip(backend)
    shares = []
    with (
        segedge.load(made["uint8"], backend="onnxruntime:simulated") as simulated,
        segedge.load(made["uint8"], backend=backend) as real,
    ):
        for file in sorted(images.iterdir()):
            image = cv2.imread(str(file))
            shares.append(np.mean(simulated(image).labels == real(image).labels))
    # OpenVINO is wrong where an int8 layer reads a Concat: docs/quantize.md.
    assert np.mean(shares) > (0.99 if backend == "onnxruntime" else 0.9)


def test_tensorrt_is_refused_with_the_fix(made: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="quantized for CPUs: TensorRT takes zero points of 0"):
        read_buildable(made["uint8"])
    assert read_buildable(made["int8"]).card is not None


def test_as_a_user_types_it(model: Path, images: Path, tmp_path: Path) -> None:
    out = tmp_path / "cpu.onnx"
    words = (model, "--calibrate", images, "-o", out, "--method", "mse")
    run_verb("quantize", *words, "--activations", "uint8", "--weight-bits", 7)
    card = ModelCard.from_metadata(read_metadata(out))
    assert card is not None
    assert card.quantization is not None
    assert card.quantization.activations == "uint8"
    assert "weights of 7 bits, activations uint8" in run_verb("inspect", out).stdout
    done = run_verb("quantize", *words, "--activations", "unit8", code=2)
    assert "no kind of activations 'unit8'; did you mean 'uint8'" in done.stderr
    with pytest.raises(UsageError):
        QuantizeOptions(activations="int16")  # type: ignore[arg-type]


def test_a_residual_net_again(images: Path, tmp_path: Path) -> None:
    """A sum of what is never negative and what may be: each with its own zero point."""
    path = save(tmp_path / "net.onnx", network(RESIDUAL, WEIGHTS))
    found = quantize(path, tmp_path / "q.onnx", calibrate=[images], options=UNSIGNED)
    zeros = {name: int(zero) for name, (_, zero) in parameters(found.out).items()}
    assert zeros["r1"] == 0
    assert zeros["p"] == 128
    assert found.agreement > 0.9

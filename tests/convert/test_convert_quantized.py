"""Other people's quantized files: cut through their Q/DQ pairs, built by TensorRT or refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_static,
)

import segedge
from segedge.card.geometry import Size
from segedge.convert import ExportOptions, ExportReport, adopt
from segedge.convert.noise import smooth_noise
from segedge.engine.source import read_buildable
from segedge.errors import ModelError

SIZE = Size(32, 64)
MEAN, STD = np.array((0.485, 0.456, 0.406)), np.array((0.229, 0.224, 0.225))
SYMMETRIC = {"ActivationSymmetric": True, "WeightSymmetric": True}
NETWORK = """<ir_version: 10, opset_import: ["" : 20]>
net (float[1, 3, 32, 64] image) => ({type}[1, {axes}32, 64] y)
<float[8, 3, 5, 5] w0, float[8] b0, float[3, 8, 3, 3] w1, float[3] b1> {{
    c0 = Conv <pads = [2, 2, 2, 2], strides = [4, 4]> (image, w0, b0)
    r0 = Relu (c0)
    l = Conv <pads = [1, 1, 1, 1], strides = [2, 2]> (r0, w1, b1)
    s = Constant <value = float[4] {{1, 1, 8, 8}}> ()
    {tail}
}}"""
WEIGHTS = {"w0": (8, 3, 5, 5), "b0": (8,), "w1": (3, 8, 3, 3), "b1": (3,)}
ENDS = {
    "logits": ("float", "3, ", 'y = Resize <mode = "linear"> (l, , s)'),
    "labels": (
        "int64", "",
        'u = Resize <mode = "linear"> (l, , s)\n y = ArgMax <axis = 1, keepdims = 0> (u)',
    ),
}  # fmt: skip


def tensor(image: np.ndarray) -> np.ndarray:
    return ((image[..., ::-1] / 255.0 - MEAN) / STD).transpose(2, 0, 1)[None].astype(np.float32)


class Reader(CalibrationDataReader):
    """A few pictures of noise."""

    def __init__(self) -> None:
        self.images: Iterator[np.ndarray] = smooth_noise(SIZE)

    def get_next(self) -> dict[str, np.ndarray] | None:
        image = next(self.images, None)
        return None if image is None else {"image": tensor(image)}


def quantized(folder: Path, tail: str = "logits", **options: Any) -> Path:
    """A small network by onnxruntime's own quantizer."""
    kind, axes, end = ENDS[tail]
    proto = onnx.parser.parse_model(NETWORK.format(type=kind, axes=axes, tail=end))
    del proto.graph.initializer[:]
    rng = np.random.default_rng(3)
    for name, shape in WEIGHTS.items():
        array = rng.normal(0, 0.2, shape).astype(np.float32)
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    onnx.save(proto, folder / "float.onnx")
    usual = {"activation_type": QuantType.QInt8, "weight_type": QuantType.QInt8}
    path = folder / "theirs.onnx"
    quantize_static(folder / "float.onnx", path, Reader(), **{**usual, **options})
    return path


def adopted(path: Path) -> ExportReport:
    return adopt(path, path.with_name("ours.onnx"), options=ExportOptions())


VARIANTS: dict[str, dict[str, Any]] = {
    "uint8": {"activation_type": QuantType.QUInt8},
    "uint8, a scale a channel": {"activation_type": QuantType.QUInt8, "per_channel": True},
    "int8": {},
    "symmetric": {"extra_options": SYMMETRIC},
    "labels": {"tail": "labels"},
    "QLinearConv": {"activation_type": QuantType.QUInt8, "quant_format": QuantFormat.QOperator},
}


@pytest.mark.parametrize("name", VARIANTS)
def test_the_tail_is_cut_through_the_pairs(tmp_path: Path, name: str) -> None:
    path = quantized(tmp_path, **VARIANTS[name])
    report = adopted(path)
    assert report.tail.removed[0] == "Resize x8 bilinear"
    assert (report.output_shape, report.card.stride) == ((1, 3, 4, 8), 8)
    parity = report.card.parity
    assert parity is not None
    assert parity.agreement == 1.0
    assert parity.ambiguous < 0.1, "within a step of the quantizer"
    theirs = onnxruntime.InferenceSession(path)
    for backend in ("onnxruntime", "openvino:f32"):
        if backend.startswith("openvino") and name == "QLinearConv":
            continue  # an operator that OpenVINO does not have
        pytest.importorskip(backend.partition(":")[0])
        shares = []
        with segedge.load(report.path, backend=backend) as segmenter:
            for image in smooth_noise(SIZE):
                said = theirs.run(None, {"image": tensor(image)})[0]
                wanted = said[0] if said.ndim == 3 else said[0].argmax(0)
                assert len(np.unique(wanted)) > 1, "a constant answer proves nothing"
                shares.append(np.mean(segmenter(image).labels == wanted))
        assert np.mean(shares) > 0.97, backend


def test_tensorrt_builds_what_is_symmetric_once_its_biases_are_float(tmp_path: Path) -> None:
    from segedge.engine.builder.build import build_engine

    pytest.importorskip("tensorrt_rtx_bindings", reason="TensorRT-RTX is not installed")
    path = quantized(tmp_path, extra_options=SYMMETRIC)
    with pytest.raises(ModelError) as caught:
        build_engine(path, flavour="tensorrt_rtx")
    assert "segedge export theirs.onnx makes them float" in str(caught.value)
    report = adopted(path)
    graph = onnx.load(report.path).graph
    assert not [t for t in graph.initializer if t.data_type == onnx.TensorProto.INT32]
    kinds = Counter(node.op_type for node in graph.node)
    assert kinds["Conv"] == 2
    assert kinds["QuantizeLinear"] >= 3, "weights and activations stay codes"
    assert kinds["DequantizeLinear"] >= kinds["QuantizeLinear"] + 2
    assert build_engine(report.path, flavour="tensorrt_rtx").facts.precision == "int8"


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({}, "int8 with a zero point of"),
        ({"activation_type": QuantType.QUInt8}, "uint8 with a zero point of"),
    ],
)
def test_other_codes_are_refused_for_tensorrt_with_the_option(
    tmp_path: Path, options: dict[str, Any], found: str
) -> None:
    path = quantized(tmp_path, **options)
    for file in (path, adopted(path).path):
        with pytest.raises(ModelError) as caught:
            read_buildable(file)
        assert found in caught.value.facts["found"]
        assert "onnx.quantize" in caught.value.facts["quantized by"]
        assert "'ActivationSymmetric': True" in str(caught.value)


def test_unsigned_codes_from_zero_on_are_refused_too(tmp_path: Path) -> None:
    """As NNCF writes them behind a Relu: TensorRT would cut off the upper half of their range."""
    proto = onnx.load(quantized(tmp_path, activation_type=QuantType.QUInt8))
    for constant in proto.graph.initializer:
        array = onnx.numpy_helper.to_array(constant)
        if array.dtype == np.uint8:
            zeros = onnx.numpy_helper.from_array(np.zeros_like(array), constant.name)
            constant.CopyFrom(zeros)
    proto.producer_name = "pytorch"
    onnx.save(proto, tmp_path / "unsigned.onnx")
    with pytest.raises(ModelError, match="segedge quantize MODEL --calibrate IMAGES"):
        read_buildable(tmp_path / "unsigned.onnx")


def test_scales_a_channel_behind_the_upsample(tmp_path: Path) -> None:
    """Some tools quantize each class by itself; made by hand from ONNX Runtime's file.

    A class that is clipped then loses to one that is not yet: labels stay those of the original
    only where the tail stays.
    """
    proto = onnx.load(quantized(tmp_path, extra_options=SYMMETRIC))
    graph = proto.graph
    scales = np.array([0.02, 0.03, 0.04], np.float32)
    graph.initializer.append(onnx.numpy_helper.from_array(scales, "scales"))
    graph.initializer.append(onnx.numpy_helper.from_array(np.zeros(3, np.int8), "zeros"))
    next(node for node in graph.node if node.output[0] == "y").output[0] = "before"
    for operator, source, result in (
        ("QuantizeLinear", "before", "codes"), ("DequantizeLinear", "codes", "y"),
    ):  # fmt: skip
        inputs = [source, "scales", "zeros"]
        graph.node.append(onnx.helper.make_node(operator, inputs, [result], axis=1))
    onnx.save(proto, tmp_path / "theirs.onnx")
    report = adopted(tmp_path / "theirs.onnx")
    assert not report.tail.cut
    assert "clips each class at a value of its own" in report.tail.reason
    assert report.card.parity is not None
    assert report.card.parity.agreement == 1.0

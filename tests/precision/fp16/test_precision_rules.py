"""What stays fp32 and why, on graphs of a few nodes each."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from precision_helpers import (
    CONV,
    FLOAT,
    FLOAT16,
    build_rtx,
    casts,
    conv_weight,
    convert,
    images,
    network,
    node_types,
    require_sound,
    run_model,
    to_fp16,
    types_of,
    value,
)

from segedge.errors import UsageError
from segedge.precision.fp16.fp16 import RANGE_LIMIT


def kept(report: Any) -> dict[str, str]:
    return {layer.name: layer.reason for layer in report.kept}


OVERFLOW = """
    a = Conv(image, w)
    b = Mul(a, huge)
    c = Relu(b)
    d = Mul(c, tiny)
    logits = Conv(d, v)
"""
SCALES = {"huge": [60000.0], "tiny": [0.0002]}


@pytest.mark.parametrize("limit", [RANGE_LIMIT, np.inf], ids=["by range", "by rounding"])
def test_an_overflow_is_found_kept_and_named(limit: float) -> None:
    half, report = convert(OVERFLOW, SCALES, limit=limit)
    assert report.overflow.name == "b"
    assert report.overflow.op == "Mul"
    assert set(kept(report)) == {"b", "c", "d"}
    assert report.max_abs > 65504
    assert report.max_abs_value in ("b", "c")
    assert report.check.parity.agreement > 0.99
    assert not report.check.nonfinite
    assert any("overflow" in line and "b (Mul)" in line for line in report.lines())
    assert {node_types(half)[name] for name in "bcd"} == {FLOAT}


def test_an_overflow_of_a_layer_that_is_kept_anyway_is_the_first_one() -> None:
    """Its constant alone keeps `b` in fp32; what overflows first is still `b`, not its reader."""
    _, report = convert(OVERFLOW, {**SCALES, "huge": [80000.0]})
    assert "constant huge" in kept(report)["b"]
    assert report.overflow.name == "b"
    assert report.overflow.reason.startswith("gives values up to ")


def test_an_overflow_that_no_output_shows_is_found() -> None:
    """sigmoid(inf) is 1: the labels look right until a GPU rounds otherwise."""
    body = "a = Conv(image, w) b = Mul(a, huge) c = Sigmoid(b) logits = Conv(c, v)"
    _, report = convert(body, SCALES, limit=np.inf)
    assert report.overflow.name == "b"
    assert set(kept(report)) == {"b", "c"}


def test_values_near_the_end_of_the_range_are_kept_and_are_no_overflow() -> None:
    body = "a = Clip(image, low, high) b = Mul(a, k) c = Mul(b, tiny) logits = Conv(c, w)"
    weights = {"low": np.float32(0), "high": np.float32(1), "k": [40000.0], "tiny": [1e-3]}
    _, report = convert(body, weights)
    assert kept(report) == {
        "b": "gives values up to 40000; the limit is 32752",
        "c": "reads values up to 40000; the limit is 32752",
    }
    assert report.overflow is None


def test_between_fp32_layers_no_value_is_narrowed() -> None:
    half, _ = convert(OVERFLOW, SCALES)
    names = {name for cast in casts(half) for name in (*cast.input, *cast.output)}
    assert not names & {"b", "c", "b_fp16", "c_fp16"}


@pytest.mark.parametrize(
    ("body", "layers"),
    [
        ("a = Conv(image, w) b = Softmax<axis=1>(a) logits = Conv(b, v)", {"b"}),
        ("a = Conv(image, w) b = GlobalAveragePool(a) c = Mul(a, b) logits = Conv(c, v)", {"b"}),
        ("a = Conv(image, w) b = Exp(a) c = Log(b) logits = Conv(c, v)", {"b", "c"}),
        (
            """a = Conv(image, w) m = ReduceMean(a, axis) d = Sub(a, m) s = Mul(d, d)
            q = ReduceMean(s, axis) e = Add(q, eps) r = Sqrt(e) n = Div(d, r)
            logits = Conv(n, v)""",
            {"m", "d", "s", "q", "e", "r", "n"},
        ),
        (
            """a = Conv(image, w) t = ReduceMean(a, axis) f = Concat<axis=1>(t, t)
            p = Transpose<perm=[0,2,3,1]>(f) b = GridSample(a, p) logits = Conv(b, v)""",
            {"t", "f", "p", "b"},
        ),
    ],
    ids=["softmax", "pooling", "exponential", "layer norm in pieces", "sampling positions"],
)
def test_long_sums_norms_and_positions_stay_fp32(body: str, layers: set[str]) -> None:
    _, report = convert(body, {"axis": np.array([1]), "eps": [1e-12]})
    assert set(kept(report)) == layers


def test_resize_scales_and_shape_arithmetic_keep_their_bits() -> None:
    body = """
        a = Conv(image, w)
        factor = Constant<value_floats = [1.7, 1.7]>()
        scale = Concat<axis = 0>(unit, factor)
        b = Resize<mode = "linear">(a, , scale)
        logits = Conv(b, v)
    """
    half, report = convert(body, {"unit": [1.0, 1.0]})
    assert kept(report) == {"scale": "arithmetic on shapes and constants"}
    types = node_types(half)
    assert types["b"] == FLOAT16
    resize = next(n for n in half.graph.node if n.op_type == "Resize")
    assert types_of(half)[resize.input[2]] == FLOAT
    assert run_model(half, images()[0]).shape == (1, 6, 13, 27)


def test_a_region_of_interest_keeps_its_bits() -> None:
    body = """a = Conv(image, w)
        b = Resize<mode = "linear", coordinate_transformation_mode = "tf_crop_and_resize">
            (a, region, , sizes) logits = Conv(b, v)"""
    region = [0, 0, 0.1001, 0.1001, 1, 1, 0.9001, 0.9001]
    half, _ = convert(body, {"region": region, "sizes": np.array([1, 4, 16, 32])})
    arrays = {w.name: onnx.numpy_helper.to_array(w) for w in half.graph.initializer}
    np.testing.assert_array_equal(arrays["region"], np.float32(region))
    assert "region_fp16" not in arrays


def test_a_weight_of_both_kinds_of_layers_keeps_its_bits_in_fp32() -> None:
    body = "a = Conv(image, w) b = Mul(a, k) c = Add(a, k) d = Add(b, c) logits = Conv(d, v)"
    half, _ = convert(body, {"k": [1.0001]}, keep=["b"])
    arrays = {w.name: onnx.numpy_helper.to_array(w) for w in half.graph.initializer}
    assert arrays["k"] == np.float32(1.0001)
    assert arrays["k_fp16"].dtype == np.float16


def test_bounds_beyond_the_range_are_clamped_and_reported() -> None:
    body = "a = Conv(image, w) b = Clip(a, low, high) logits = Conv(b, v)"
    half, report = convert(body, {"low": np.float32(0), "high": np.float32(3e38)})
    assert kept(report) == {}
    assert report.clamped == ("high: 1 of 1 values beyond 65504",)
    arrays = {w.name: onnx.numpy_helper.to_array(w) for w in half.graph.initializer}
    assert arrays["high_fp16"] == 65504


def test_factors_beyond_the_range_stay_fp32() -> None:
    body = "a = Conv(image, w) b = Mul(a, k) c = Mul(b, tiny) logits = Conv(c, v)"
    _, report = convert(body, {"k": [1e5], "tiny": [1e-3]})
    assert "constant k reaches 100000" in kept(report)["b"]
    assert report.clamped == ()


def test_too_small_weights_are_counted_and_a_lone_epsilon_is_kept() -> None:
    small = CONV["w"].copy()
    small[0], small[1] = 1e-9, 1e-6
    body = "a = Conv(image, w) b = Add(a, eps) logits = Conv(b, v)"
    _, report = convert(body, {"w": small, "eps": [1e-9]})
    assert (report.flushed, report.subnormal) == (3, 3)
    assert report.weights == 12 + 24
    assert kept(report) == {"b": "constant eps is 1e-09"}


def test_layers_stay_fp32_by_name_and_by_operator() -> None:
    body = "stem_a = Conv(image, w) stem_b = Relu(stem_a) c = Sigmoid(stem_b) logits = Conv(c, v)"
    _, report = convert(body, keep=["stem_*", "Sigmoid"])
    assert kept(report) == {
        "stem_a": "asked for: stem_*",
        "stem_b": "asked for: stem_*",
        "c": "asked for: Sigmoid",
    }
    with pytest.raises(UsageError, match="did you mean 'Sigmoid'"):
        convert(body, keep=["sigmoit"])


def test_inputs_and_outputs_can_be_fp16() -> None:
    body = "a = Conv(image, w) b = Softmax<axis=1>(a) logits = Conv(b, v)"
    half, report = convert(body, keep_io=False)
    types = types_of(half)
    assert types["image"] == types["logits"] == FLOAT16
    assert report.casts == ("a_to_fp32", "b_to_fp16")
    assert report.check.parity.agreement > 0.98
    assert build_rtx(half) == ""


def test_labels_inside_the_graph_stay_integers() -> None:
    body = "a = Conv(image, w) b = Conv(a, v) logits = ArgMax<axis=1>(b)"
    model = network(body, CONV)
    model.graph.output[0].type.tensor_type.elem_type = 7
    half, report = to_fp16(model, images=images())
    require_sound(half)
    assert report.casts == ("image_to_fp16",)
    assert report.check.parity.agreement > 0.98


def test_casts_of_the_graph_itself_are_dissolved() -> None:
    body = """
        a = Cast<to = 10>(image) b = Cast<to = 1>(a) c = Conv(b, w)
        d = Cast<to = 10>(c) e = Cast<to = 1>(d) logits = Conv(e, v)
    """
    half, report = convert(body)
    assert report.casts == ("image_to_fp16", "logits_to_fp32")
    assert len(half.graph.node) == 4


def test_old_and_nameless_graphs() -> None:
    model = network("a = Conv(image, w) logits = Conv(a, v)", CONV, opset=13)
    model.graph.input.extend([value("w", [4, 3, 1, 1]), value("v", [6, 4, 1, 1])])
    for node in model.graph.node:
        node.ClearField("name")
    half, report = to_fp16(model, images=images())
    require_sound(half)
    assert [v.name for v in half.graph.input] == ["image"]
    assert report.converted == ("Conv_0", "Conv_1")


BRANCHES = """
    a = Conv(image, w)
    m = ReduceMax(a)
    yes = Greater(m, zero)
    b = If (yes) <
        then_branch = g1 () => (float[n,c,h,w] t) { t = Relu(a) },
        else_branch = g2 () => (float[n,c,h,w] e) { e = Neg(a) }
    >
    logits = Conv(b, v)
"""


def test_subgraphs_stay_fp32_and_read_fp32() -> None:
    _, report = convert(BRANCHES, {"zero": np.float32(0)})
    assert kept(report) == {"b": "holds subgraphs"}
    assert "a_to_fp32" in report.casts
    assert report.check.parity.agreement > 0.98


def test_a_subgraph_reads_a_narrowed_input_in_its_own_type() -> None:
    body = BRANCHES.replace("Relu(a)", "Relu(image)").replace("Neg(a)", "Neg(image)")
    half, report = convert(body, {"zero": np.float32(0), "v": conv_weight(6, 3)}, keep_io=False)
    assert types_of(half)["image"] == FLOAT16
    assert "image_to_fp32" in report.casts
    assert report.check.parity.agreement > 0.98


def test_a_subgraph_reads_what_a_dissolved_cast_gave() -> None:
    narrow = "c = Cast<to = 10>(a) d = Cast<to = 1>(c) m = ReduceMax(d)"
    body = BRANCHES.replace("m = ReduceMax(a)", narrow).replace("Neg(a)", "Cast<to = 1>(c)")
    half, report = convert(body.replace("Relu(a)", "Relu(d)"), {"zero": np.float32(0)})
    branches = next(node for node in half.graph.node if node.op_type == "If").attribute
    read = {name for branch in branches for node in branch.g.node for name in node.input}
    assert {types_of(half)[name] for name in read} == {FLOAT, FLOAT16}
    assert report.check.parity.agreement > 0.98


def test_sequences_stay_fp32() -> None:
    body = """
        a = Conv(image, w) s = SplitToSequence<axis = 1>(a) first = SequenceAt(s, at)
        b = ConcatFromSequence<axis = 1>(s) c = Add(b, first) logits = Conv(c, v)
    """
    _, report = convert(body, {"at": np.array(0)})
    assert kept(report) == dict.fromkeys(("first", "b"), "works on sequences")
    assert report.casts == ("image_to_fp16", "a_to_fp32", "b_to_fp16", "first_to_fp16",
                            "logits_to_fp32")  # fmt: skip
    assert report.check.parity.agreement > 0.98


def test_functions_are_inlined() -> None:
    text = """
        <ir_version: 9, opset_import: ["" : 20, "local" : 1]>
        g (float[1,3,8,16] image) => (float[1,3,8,16] logits) { logits = local.twice(image) }
        <opset_import: ["" : 20], domain: "local">
        twice (x) => (y) { y = Add(x, x) }
    """
    half, report = to_fp16(onnx.parser.parse_model(text), images=images())
    require_sound(half)
    assert len(report.converted) == 1


def test_quantised_layers_follow_into_fp16() -> None:
    body = """
        q = QuantizeLinear(image, s, z) x = DequantizeLinear(q, s, z)
        y = DequantizeLinear(w8, s, z) logits = Conv(x, y)
    """
    weights = {"s": np.float32(0.05), "z": np.int8(0), "w8": np.ones((4, 3, 1, 1), np.int8)}
    half, report = convert(body, weights)
    assert kept(report) == {}
    assert report.casts == ("logits_to_fp32",)  # the image is quantised from float32 directly
    assert build_rtx(half) == ""


def test_an_nhwc_uint8_image_is_cast_once() -> None:
    body = """
        x = Cast<to = 1>(image) p = Transpose<perm = [0, 3, 1, 2]>(x) s = Mul(p, k)
        a = Conv(s, w) logits = Conv(a, v)
    """
    model = network(body, {**CONV, "k": [1 / 255]})
    model.graph.input[0].CopyFrom(value("image", [1, 8, 16, 3], onnx.TensorProto.UINT8))
    half, report = to_fp16(model)
    require_sound(half)
    assert report.casts == ("logits_to_fp32",)
    assert node_types(half)["x"] == FLOAT16
    assert report.check.parity.sizes == ("8x16",)
    assert report.max_abs == 255

"""The measuring itself: extremes are the true ones, roundings are float16's, overflows show."""

from __future__ import annotations

import numpy as np
import onnx
from precision_helpers import (
    conv_weight,
    emulated,
    graph_of,
    images,
    network,
    prepare,
    retype,
    run_model,
    to_fp16,
)

from segedge.card.card import ModelCard
from segedge.precision.measure import float_values, input_tensors, probe

WEIGHTS = {"w": conv_weight(4, 3), "k": np.array([[400.0]], np.float32)}
BODY = "a = Conv(image, w) b = Relu(a) logits = Mul(b, k)"


def test_probes_are_the_true_extremes() -> None:
    graph = prepare(network(BODY, WEIGHTS))
    tensors = images(3)
    found = probe(graph.model, tensors)
    stack = np.concatenate(tensors)
    a = np.einsum("nchw,oc->nohw", stack, WEIGHTS["w"][:, :, 0, 0])
    assert set(found.absmax) == {"image", "a", "b", "logits"}
    assert found.absmax["image"] == np.abs(stack).max()
    np.testing.assert_allclose(found.absmax["a"], np.abs(a).max(), rtol=1e-5)
    np.testing.assert_allclose(found.absmax["b"], a.max(), rtol=1e-5)
    assert found.nonfinite == ()
    assert len(found.outputs) == 3


def test_the_rounding_is_that_of_float16() -> None:
    model = network("a = Mul(image, third) logits = Add(a, third)", {"third": np.float32(1 / 3)})
    half, _ = to_fp16(model, images=images())
    image = images(1)[0]
    third = np.float16(1 / 3)
    expected = (image.astype(np.float16) * third) + third  # NumPy rounds after each step, too
    np.testing.assert_array_equal(run_model(emulated(half), image), expected.astype(np.float32))


def test_an_overflow_shows_in_the_emulation_and_not_in_a_plain_run() -> None:
    """Pins why `check_fp16` rewrites the graph; when the last line fails, ONNX Runtime changed."""
    body = "a = Mul(image, k) b = Mul(a, k) c = Relu(b) d = Div(c, k) logits = Div(d, k)"
    graph = prepare(network(body, {"k": np.float32(400)}))
    half = retype(graph, wide=(), keep_io=True)
    image = np.ones((1, 3, 8, 16), np.float32)
    found = probe(graph_of(emulated(half)), [image], names=float_values(graph_of(half)))
    assert found.nonfinite[0] == "b_fp16"
    assert np.isinf(found.outputs[0][0]).all()
    assert np.isfinite(run_model(half, image)).all()


def test_noise_has_the_size_of_the_card_where_the_graph_leaves_it_open() -> None:
    model = network("logits = Relu(image)")
    for axis, name in ((2, "h"), (3, "w")):
        model.graph.input[0].type.tensor_type.shape.dim[axis].dim_param = name
    assert input_tensors(graph_of(model), None)[0][0].shape == (1, 3, 256, 512)
    card = ModelCard(("a", "b", "c"), ((0, 0, 0),) * 3, 96, 160)
    onnx.helper.set_model_props(model, card.to_metadata())
    tensors, kind = input_tensors(graph_of(model), [])
    assert (tensors[0].shape, kind) == ((1, 3, 96, 160), "noise")
    assert to_fp16(model)[1].check.parity.sizes == ("96x160",)

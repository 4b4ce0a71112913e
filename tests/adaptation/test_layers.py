"""Statistics and folding against NumPy, slowly."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

import onnx_ir
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from segedge.adaptation.layers import find_layers, folded
from segedge.adaptation.measure import measure, with_positions
from segedge.adaptation.moves import Found, Move, move_of
from segedge.card.statistics import Channels, Statistics
from segedge.machine.onnx_session import Session
from tests.adaptation.pictures import Trained, fog, scene, tensor_of

RNG = np.random.default_rng(0)


def network(opset: int = 20) -> Any:
    """Every layer that can be moved: grouped, shared, without bias, transposed, normalising."""
    make = helper.make_node
    nodes = [
        make("Conv", ["image", "w0"], ["first"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        make("Conv", ["first", "w1", "b1"], ["grouped"], group=2),
        make("Conv", ["grouped", "w1", "b1"], ["shared"], group=2),
        make("ConvTranspose", ["shared", "w2", "b2"], ["wide"], group=2, strides=[2, 2]),
        make("BatchNormalization", ["wide", "s", "b", "m", "v"], ["normed"]),
        make("GlobalAveragePool", ["normed"], ["mean"]),
        make("Conv", ["mean", "w3"], ["pooled"]),
        make("Add", ["normed", "pooled"], ["logits"]),
    ]
    shapes = {
        "w0": (4, 3, 3, 3), "w1": (4, 2, 1, 1), "b1": (4,), "w2": (4, 3, 2, 2), "b2": (6,),
        "s": (6,), "b": (6,), "m": (6,), "v": (6,), "w3": (6, 6, 1, 1),
    }  # fmt: skip
    arrays = {name: RNG.normal(0, 1, shape).astype(np.float32) for name, shape in shapes.items()}
    arrays["v"] = np.abs(arrays["v"]) + 0.1
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "g", [info("image", TensorProto.FLOAT, [1, 3, 8, 12])],
        [info("logits", TensorProto.FLOAT, [1, 6, 16, 24])],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )  # fmt: skip
    opsets = [helper.make_opsetid("", opset)]
    return onnx_ir.from_proto(helper.make_model(graph, opset_imports=opsets, ir_version=9))


CHANNELS = {"first": 4, "grouped": 4, "shared": 4, "wide": 6, "normed": 6, "pooled": 6}


def expected() -> Statistics:
    return Statistics.of(
        "BatchNorm",
        {
            name: Channels(RNG.normal(0, 1, count), RNG.uniform(0.5, 2, count))
            for name, count in CHANNELS.items()
        },
    )


def image() -> np.ndarray[Any, np.dtype[np.float32]]:
    return RNG.normal(0, 1, (1, 3, 8, 12)).astype(np.float32)


@pytest.mark.parametrize("name", list(CHANNELS))
def test_a_layer_takes_the_move_of_its_value(name: str) -> None:
    model = network()
    layers = find_layers(model, expected())
    assert [layer.value for layer in layers] == list(CHANNELS)
    count = CHANNELS[name]
    move = Move(RNG.uniform(0.5, 2, count), RNG.normal(0, 1, count))
    moved = folded(model, layers, {name: move})
    assert len(moved.graph) == len(model.graph)
    tensor = image()
    before, after = (value_of(which, name, tensor) for which in (model, moved))
    wanted = before * move.scale.reshape(1, -1, 1, 1) + move.shift.reshape(1, -1, 1, 1)
    np.testing.assert_allclose(after, wanted, rtol=1e-4, atol=1e-4)
    if name == "shared":  # the other reader of its weights stays as it is
        np.testing.assert_array_equal(
            value_of(model, "grouped", tensor), value_of(moved, "grouped", tensor)
        )


def value_of(model: Any, name: str, tensor: Any) -> Any:
    copy = onnx_ir.to_proto(model)
    if name not in {value.name for value in copy.graph.output}:
        copy.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    return Session(copy).run(tensor, [name])[0]


def test_pooled_values_are_marked() -> None:
    model = network()
    layers = with_positions(model, find_layers(model, expected()), image())
    assert [layer.value for layer in layers if layer.small] == ["pooled"]


def test_statistics_of_another_graph_name_no_layer() -> None:
    other = Statistics.of("BatchNorm", {"first": Channels(np.zeros(5), np.ones(5))})
    assert find_layers(network(), other) == ()


@pytest.mark.parametrize("opset", [17, 20])
def test_plain_statistics_are_those_of_numpy(opset: int) -> None:
    model = network(opset)
    layers = find_layers(model, expected())
    tensors = [image() for _ in range(5)]
    found = measure(model, layers, tensors, normalise=False)
    for layer in layers:
        values = np.concatenate([value_of(model, layer.value, t) for t in tensors])
        units = (values - layer.expected.mean.reshape(1, -1, 1, 1)) / (
            layer.expected.deviation.reshape(1, -1, 1, 1)
        )
        one = found[layer.value]
        np.testing.assert_allclose(one.mean, units.mean(axis=(0, 2, 3)), rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(one.variance, units.var(axis=(0, 2, 3)), rtol=1e-3, atol=1e-3)


def test_a_layer_is_measured_behind_adapted_ones() -> None:
    """The same by hand: two layers, each brought to what it expects before the next."""
    trained = Trained()
    model = onnx_ir.from_proto(trained.model())
    layers = find_layers(model, Statistics.of("x", dict(zip("ab", trained.expected, strict=True))))
    tensors = [tensor_of(scene(seed, fog)[0]) for seed in range(4)]
    found = measure(model, layers, tensors)
    sums: dict[str, list[Any]] = {"a": [0.0, 0.0], "b": [0.0, 0.0]}
    for count, tensor in enumerate(tensors, start=1):
        x = tensor.reshape(3, -1).astype(np.float64)
        for number, layer in enumerate(layers):
            mean, deviation = (
                getattr(layer.expected, name)[:, None] for name in ("mean", "deviation")
            )
            y = trained.weights[number] @ x + trained.biases[number][:, None]
            t = (y - mean) / deviation
            total = sums[layer.value]
            total[0] += (t.mean(axis=1) - total[0]) / count
            total[1] += ((t**2).mean(axis=1) - total[1]) / count
            variance = total[1] - total[0] ** 2
            t = (t - total[0][:, None]) / np.sqrt(variance)[:, None]
            x = np.maximum(t * deviation + mean, 0.0)
    for value, (mean, square) in sums.items():
        np.testing.assert_allclose(found[value].mean, mean, rtol=2e-3, atol=2e-3)
        np.testing.assert_allclose(found[value].variance, square - mean**2, rtol=5e-3, atol=5e-3)


numbers = st.floats(-5, 5)


@given(numbers, st.floats(0.1, 5), numbers, st.floats(0.05, 20), st.floats(0, 1))
def test_a_move_brings_a_channel_where_it_was_expected(
    mean: float, deviation: float, off: float, variance: float, share: float
) -> None:
    one = Channels(np.array([mean]), np.array([deviation]))
    move = move_of(one, Found(np.array([off]), np.array([variance])), share)
    values = mean + deviation * (off + np.sqrt(variance) * np.array([-1.0, 1.0]))
    moved = values * move.scale[0] + move.shift[0]
    units = (moved - mean) / deviation
    wanted = np.sqrt(variance / (1 - share + share * variance))
    assert (units.max() - units.min()) / 2 == pytest.approx(wanted)
    assert units.mean() == pytest.approx(
        (1 - share) * off / np.sqrt(1 - share + share * variance), abs=1e-9
    )


def test_dead_channels_stay() -> None:
    one = Channels(np.array([1.0, 2.0]), np.array([1.0, 0.0]))
    move = move_of(one, Found(np.array([3.0, 3.0]), np.array([4.0, 4.0])), 1.0)
    assert (move.scale[1], move.shift[1]) == (1.0, 0.0)
    assert move.scale[0] == pytest.approx(0.5)

"""What makes int8 lose less: equalised channels are the same network, and biases keep the mean."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from quantize_nets import RESIDUAL, WEIGHTS, layers_of, network, prepare, save, weight

from segedge.card.card import ModelCard
from segedge.card.modelfile import read_metadata
from segedge.graph.kit import constant, session_of
from segedge.graph.typed import TypedGraph
from segedge.machine.onnx_session import Session
from segedge.measure.optimize.guard import GuardOptions, quantize_guarded
from segedge.precision.int8.calibrate import measure_channels
from segedge.precision.int8.correct import correct
from segedge.precision.int8.equalize import equalized, factors, find_pairs
from segedge.precision.int8.error import spread
from segedge.precision.int8.int8 import quantize
from segedge.precision.int8.quantizer import QuantizeOptions, Quantizer
from segedge.precision.int8.rewrite import mean_output
from tests.small_model import run_verb

DEPTHWISE = """
    a = Conv (image, wa, ba)
    ra = Relu (a)
    d = Conv <kernel_shape = [3, 3], pads = [1, 1, 1, 1], group = 8> (ra, wd)
    rd = Relu (d)
    m = Conv (rd, wm)
    rm = Relu (m)
    logits = Conv (rm, wl)
"""


def uneven(seed: int, spread_by: float = 100.0) -> dict[str, Any]:
    """Weights whose channels differ by orders of magnitude, which a later layer takes back."""
    rng = np.random.default_rng(seed)
    up = np.exp(rng.uniform(-1, 1, 8) * np.log(spread_by) / 2).astype(np.float32)
    return {
        "wa": weight(8, 3, seed=seed) * up[:, None, None, None],
        "ba": (rng.normal(0, 0.3, 8) * up).astype(np.float32),
        "wd": weight(8, 1, 3, seed=seed),
        "wm": weight(8, 8, seed=seed) / up[None, :, None, None],
        "wl": weight(3, 8, seed=seed),
    }


def images(count: int = 3) -> list[NDArray[np.float32]]:
    rng = np.random.default_rng(5)
    return [rng.normal(0, 1, (1, 3, 24, 32)).astype(np.float32) for _ in range(count)]


def absmax_of(graph: TypedGraph, names: list[str]) -> dict[str, NDArray[np.float32]]:
    return {n: found.absmax for n, found in measure_channels(graph, names, images()).items()}


def answer(graph: TypedGraph, tensor: NDArray[np.float32]) -> NDArray[np.float32]:
    (found,) = session_of(graph.model).run(tensor)
    return np.asarray(found)


def test_pairs_are_layers_that_alone_read_each_other() -> None:
    graph = prepare(network(DEPTHWISE, uneven(0)))
    pairs = find_pairs(graph, layers_of(graph))
    assert [(p.first.name, p.second.name) for p in pairs] == [("a", "d"), ("d", "m")]
    graph = prepare(network(RESIDUAL, WEIGHTS))
    pairs = find_pairs(graph, layers_of(graph))
    # r1 is read by a sum, too; e and rs go to a Concat; the classifier stays float.
    assert [(p.first.name, p.second.name) for p in pairs] == [("d", "p")]
    pairs = find_pairs(graph, layers_of(graph, classifier=True))
    assert [(p.first.name, p.second.name) for p in pairs] == [("d", "p"), ("o", "logits")]


@pytest.mark.parametrize(
    ("between", "why"),
    [
        ("r = Clip (a, low, high)", "a bound is no Relu's"),
        ("r = Sigmoid (a)", "not homogeneous"),
        ("r = Relu (a) s = Conv (image, wa)", "the weights have another reader"),
    ],
)
def test_no_pair(between: str, why: str) -> None:
    body = f"a = Conv (image, wa, ba) {between} b = Conv (r, wm) logits = Conv (b, wl)"
    weights = {**uneven(1), "low": np.float32(0), "high": np.float32(6)}
    graph = prepare(network(body, weights))
    assert "a" not in [pair.first.name for pair in find_pairs(graph, layers_of(graph))], why


def test_factors_by_hand() -> None:
    absmax = np.array([4, 16, 0, 1], np.float32)
    mixing = np.zeros((2, 4, 1, 1), np.float32)
    mixing[1] = np.array([1, 4, 9, 1])[:, None, None]
    # sqrt(4/1), sqrt(16/4), -, sqrt(1/1): 2, 2, 1, over their geometric mean 4 ** (1/3)
    wanted = np.array([2, 2, 0, 1]) / 4 ** (1 / 3)
    found = factors(absmax, mixing, "Conv", 1)
    np.testing.assert_allclose(found[[0, 1, 3]], wanted[[0, 1, 3]], rtol=1e-6)
    assert found[2] == 1
    depthwise = np.ones((4, 1, 3, 3), np.float32)
    found = factors(absmax, depthwise, "Conv", 4)
    np.testing.assert_allclose((absmax / found)[[0, 1, 3]], 4.0, rtol=1e-6)  # all as large
    assert factors(np.zeros(4, np.float32), depthwise, "Conv", 4).tolist() == [1] * 4
    transposed = np.ones((4, 2, 2, 2), np.float32)
    found = factors(absmax, transposed, "ConvTranspose", 1)
    np.testing.assert_allclose(found[1] / found[3], 4.0, rtol=1e-6)
    far = factors(np.array([1e-9, 1e9], np.float32), np.ones((2, 1, 1, 1), np.float32), "Conv", 2)
    assert far.max() / far.min() == pytest.approx(256.0**2)


@given(seed=st.integers(0, 10_000), groups=st.sampled_from([1, 2, 4, 8]), stride=st.booleans())
@settings(max_examples=25, deadline=None)
def test_the_equalised_network_is_the_same_in_float(seed: int, groups: int, stride: bool) -> None:
    steps = "strides = [2, 2], " if stride else ""
    body = f"""
        a = Conv (image, wa, ba)
        ra = Relu (a)
        d = Conv <{steps}kernel_shape = [3, 3], pads = [1, 1, 1, 1], group = {groups}> (ra, wd, bd)
        t = ConvTranspose <kernel_shape = [2, 2], strides = [2, 2]> (d, wt)
        rt = Relu (t)
        logits = Conv (rt, wl)
    """
    weights = uneven(seed)
    weights |= {
        "wd": weight(8, 8 // groups, 3, seed=seed), "bd": np.ones(8, np.float32),
        "wt": weight(8, 5, 2, seed=seed), "wl": weight(3, 5, seed=seed),
    }  # fmt: skip
    graph = prepare(network(body, weights))
    pairs = find_pairs(graph, layers_of(graph, classifier=True))
    assert [p.first.name for p in pairs] == ["a", "d", "t"]
    other = equalized(graph, pairs, absmax_of(graph, [pair.value for pair in pairs]))
    assert (constant(other.values["wa"]) != constant(graph.values["wa"])).any()
    for tensor in images(2):
        expected = answer(graph, tensor)
        np.testing.assert_allclose(
            answer(other, tensor), expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max()
        )
    if groups == 8:  # depthwise: all that it reads became equally large
        found = absmax_of(other, ["ra"])["ra"]
        live = found[found > 0]
        np.testing.assert_allclose(live, live[0], rtol=1e-3)


@given(seed=st.integers(0, 10_000), groups=st.sampled_from([1, 2, 4]))
@settings(max_examples=20, deadline=None)
def test_mean_of_a_convolution(seed: int, groups: int) -> None:
    """Of an image that is constant in each channel, away from the border."""
    rng = np.random.default_rng(seed)
    weights = rng.normal(0, 1, (8, 4 // groups, 3, 3)).astype(np.float32)
    mean = rng.normal(0, 1, 4).astype(np.float32)
    found = mean_output(weights, mean, groups)
    for output in range(8):
        group = output // (8 // groups)
        read = mean[group * (4 // groups) : (group + 1) * (4 // groups)]
        wanted = sum(weights[output, k].sum() * read[k] for k in range(len(read)))
        assert found[output] == pytest.approx(wanted, rel=1e-4, abs=1e-5)


def test_corrected_biases_keep_the_means(tmp_path: Path, images: Path) -> None:
    """Seven bits: enough rounding to see it. Every layer, not only those with a bias before."""
    path = save(tmp_path / "net.onnx")
    options = QuantizeOptions(method="minmax", weight_bits=7)
    plain = Quantizer.calibrate(path, [images], options=options)
    corrected = plain.with_corrected_biases()
    assert corrected.corrections == ("biases corrected",)
    tensors = spread(plain.images.tensors(plain.card), 4)
    wanted = _mean_of(plain.graph.model, "rd", tensors)
    errors = [
        float(np.abs(_mean_of(one.network("minmax"), "rd", tensors) - wanted).mean())
        for one in (plain, corrected)
    ]
    assert errors[1] < 0.7 * errors[0]
    named = set(corrected.network("minmax").graph.initializers)
    assert {"b1_corrected", "d_corrected", "p_corrected"} <= named


def _mean_of(model: Any, name: str, tensors: list[NDArray[np.float32]]) -> NDArray[np.float64]:
    copy = onnx_ir.to_proto(model)
    copy.graph.output.append(onnx.helper.make_tensor_value_info(name, 1, None))
    session = Session(copy, simulate=True)
    means = [np.asarray(session.run(t)[-1]).mean(axis=(0, 2, 3), dtype=np.float64) for t in tensors]
    return np.mean(means, axis=0)


def test_what_helps_is_taken_and_written_down(tmp_path: Path, images: Path) -> None:
    path = save(tmp_path / "net.onnx", network(DEPTHWISE, uneven(3)))
    found = quantize(path, tmp_path / "with.onnx", calibrate=[images])
    without = quantize(
        path, tmp_path / "without.onnx", calibrate=[images], options=QuantizeOptions(correct=False)
    )
    assert found.agreement > without.agreement
    assert found.corrections[0] == "2 layer pairs equalised"
    assert without.corrections == ()
    assert set(without.tried) < set(found.tried)
    assert found.agreement == max(found.tried.values()) == found.tried[found.taken]
    card = ModelCard.from_metadata(read_metadata(found.out))
    assert card is not None
    assert card.quantization is not None
    assert card.quantization.corrections == found.corrections
    shown = run_verb("inspect", found.out).stdout
    assert f"corrected   {', '.join(found.corrections)}" in shown
    told = run_verb("quantize", path, "--calibrate", images, "-o", tmp_path / "c.onnx").stdout
    assert f"{found.taken} " in told
    taken = next(line for line in told.splitlines() if line.endswith("taken"))
    assert "equalised" in taken
    plain = run_verb(
        "quantize", path, "--calibrate", images, "-o", tmp_path / "d.onnx", "--no-correct"
    ).stdout
    assert "equalised" not in plain


def test_nothing_to_equalise_and_nothing_that_helps(tmp_path: Path, images: Path) -> None:
    body = "a = Conv (image, wa, ba) s = Sigmoid (a) logits = Conv (s, wl)"
    path = save(tmp_path / "net.onnx", network(body, uneven(2)))
    quantizer = Quantizer.calibrate(path, [images], options=QuantizeOptions(method="mse"))
    assert quantizer.with_equal_channels() is None
    found = correct(quantizer, quantizer.reference())
    assert list(found.tried) == ["mse", "mse, biases corrected"]
    assert (found.quantizer is quantizer) == (found.taken == "mse")


def test_the_guard_judges_what_corrections_bring(tmp_path: Path, images: Path) -> None:
    path = save(tmp_path / "net.onnx", network(DEPTHWISE, uneven(3)))
    told = []
    found = quantize_guarded(
        path, tmp_path / "g.onnx", calibrate=[images], guard=GuardOptions(max_drop=30.0),
        progress=lambda what, done, total: told.append(what),
    )  # fmt: skip
    assert "calibrating equalised" in told
    assert found.chosen.corrections
    assert found.chosen.drop < min(p.drop for p in found.points if not p.corrections)
    assert all(point.corrections == found.chosen.corrections for point in found.curve)
    assert tuple(found.to_dict()["chosen"]["corrections"]) == found.chosen.corrections
    done = run_verb(
        "quantize", path, "--calibrate", images, "-o", tmp_path / "h.onnx", "--max-drop", 30
    ).stdout
    assert f"{found.chosen.method}, corrected" in done
    assert f"corrected   {', '.join(found.chosen.corrections)}" in done

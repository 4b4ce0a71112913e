"""quantize(): the file that it writes, against NumPy, and what each runtime makes of it."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from quantize_nets import RESIDUAL, SIZE, WEIGHTS, card, network, pictures, save, weight

from segedge.card.card import ModelCard
from segedge.card.geometry import Geometry, Size
from segedge.card.modelfile import read_metadata
from segedge.errors import CardError, ModelError, SegedgeError, SourceError, UsageError
from segedge.machine.onnx_session import Session
from segedge.precision.int8.int8 import QuantizeReport, quantize
from segedge.precision.int8.quantizer import QuantizeOptions, Quantizer
from segedge.precision.int8.ranges import METHODS
from segedge.reference.frame import preprocess

Array = np.ndarray


@pytest.fixture(scope="module")
def made(model: Path, images: Path, tmp_path_factory: pytest.TempPathFactory) -> QuantizeReport:
    out = tmp_path_factory.mktemp("out") / "int8.onnx"
    return quantize(
        model, out, calibrate=[images], options=QuantizeOptions(method="minmax", correct=False)
    )


def convolved(x: Array, w: Array, *, pad: int = 0, groups: int = 1) -> Array:
    """Stride 1, in double precision."""
    k, per = w.shape[2], w.shape[1]
    x = np.pad(x.astype(np.float64), ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    windows = np.lib.stride_tricks.sliding_window_view(x, (k, k), axis=(2, 3))
    outputs = w.shape[0] // groups
    parts = [
        np.einsum(
            "nchwij,ocij->nohw",
            windows[:, g * per : (g + 1) * per],
            w[g * outputs : (g + 1) * outputs],
        )
        for g in range(groups)
    ]
    return np.concatenate(parts, axis=1)


def truth(model: Any, image: Array) -> Array:
    """The residual network with every rounding that its Q/DQ nodes ask for."""
    stored = {w.name: numpy_helper.to_array(w) for w in model.graph.initializer}

    def q(name: str, x: Array) -> Array:
        scale = stored[f"{name}_scale"].astype(np.float64)
        return np.clip(np.rint(x / scale), -128, 127) * scale

    def w(name: str) -> Array:
        scales = stored[f"{name}_scale"].reshape(-1, 1, 1, 1).astype(np.float64)
        return stored[f"{name}_int8"] * scales

    c1 = convolved(q("image", image), w("w1"), pad=1) + stored["b1"].reshape(1, -1, 1, 1)
    r1 = q("r1", np.maximum(c1, 0))
    rd = q("rd", np.maximum(convolved(r1, w("wd"), pad=1, groups=8), 0))
    p = q("p", convolved(rd, w("wp")))
    rs = q("rs", np.maximum(r1 + p, 0))
    e = q("e", convolved(rs, w("we")))
    cat = q("cat", np.concatenate([e, rs], axis=1))
    ro = np.maximum(convolved(cat, w("wo")), 0)
    return convolved(ro, stored["wl"])


def tensor(folder: Path) -> Array:
    image = cv2.imread(str(folder / "0.png"))
    geometry = Geometry.fit(Size(*image.shape[:2]), Size(*SIZE), "stretch")
    return preprocess(image, card(), geometry)


def test_simulated_is_numpys_fake_quantization(made: QuantizeReport, images: Path) -> None:
    model = onnx.load(made.out)
    image = tensor(images)
    (found,) = Session(model, simulate=True).run(image)
    expected = truth(model, image)
    # Values on the edge between two steps may round the other way: float32 sums, here double.
    assert np.mean(np.abs(found - expected) > 1e-4 * np.ptp(expected)) < 0.01
    float_net = network(RESIDUAL, WEIGHTS)
    (unrounded,) = Session(float_net).run(image)
    assert 0 < np.abs(found - unrounded).max() < 0.1 * np.ptp(unrounded)


def test_every_zero_point_is_zero_and_weights_have_a_scale_a_channel(made: QuantizeReport) -> None:
    model = onnx.load(made.out)
    stored = {w.name: numpy_helper.to_array(w) for w in model.graph.initializer}
    nodes = [n for n in model.graph.node if n.op_type in ("QuantizeLinear", "DequantizeLinear")]
    assert nodes
    for node in nodes:
        zero = stored[node.input[2]]
        assert zero.dtype == np.int8
        assert not zero.any()
    for layer in made.layers:
        assert layer.int8 == (layer.name != "logits")
    assert stored["w1_scale"].shape == (8,)
    assert stored["w1_int8"].dtype == np.int8
    assert stored["b1"].dtype == np.float32
    assert "w1" not in stored
    assert stored["wl"].dtype == np.float32
    joined = [stored[f"{name}_scale"] for name in ("r1", "p", "rs", "e", "cat")]
    assert len(set(map(float, joined))) == 1


def test_minmax_scales_are_the_largest_magnitudes_over_all_images(
    made: QuantizeReport, images: Path, model: Path
) -> None:
    found = onnx.load(made.out)
    stored = {w.name: numpy_helper.to_array(w) for w in found.graph.initializer}
    quantizer = Quantizer.calibrate(model, [images], options=QuantizeOptions())
    tensors = list(quantizer.images.tensors(quantizer.card))
    largest = max(float(np.abs(t).max()) for t in tensors)
    assert len(tensors) == 4
    assert np.isclose(stored["image_scale"], largest / 127, rtol=1e-6)
    assert np.allclose(tensors[0], tensor(images), atol=1e-5)  # as deployed


def test_the_card_says_what_was_done(made: QuantizeReport, model: Path, images: Path) -> None:
    found = ModelCard.from_metadata(read_metadata(made.out))
    before = ModelCard.from_metadata(read_metadata(model))
    assert found is not None
    assert before is not None
    record = found.quantization
    assert record is not None
    assert (record.method, record.weight_bits, record.images) == ("minmax", 8, 4)
    digest = hashlib.sha256()
    for file in sorted(images.iterdir()):
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    assert record.images_sha256 == digest.hexdigest() == made.images_sha256
    assert (record.layers, record.kept) == (5, ("logits",))
    assert record.mac_share == made.mac_share
    assert (record.metric, record.judge, record.score) == (
        "agreement", "simulated", made.agreement,
    )  # fmt: skip
    assert (found.precision, before.precision) == ("int8", "float32")
    assert found.replace(quantization=None) == before


def test_the_same_images_give_the_same_file(
    made: QuantizeReport, model: Path, images: Path, tmp_path: Path
) -> None:
    options = QuantizeOptions(method="minmax", correct=False)
    again = quantize(model, tmp_path / "b.onnx", calibrate=[images], options=options)
    assert again.out.read_bytes() == made.out.read_bytes()


def test_auto_takes_the_method_that_agrees_best(model: Path, images: Path, tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    found = quantize(
        model, tmp_path / "a.onnx", calibrate=[images],
        progress=lambda *facts: told.append(facts),
    )  # fmt: skip
    assert {name.split(",")[0] for name in found.tried} == set(METHODS)
    assert found.tried[found.taken] == max(found.tried.values()) == found.agreement
    assert found.agreement > 0.9
    assert told[7] == ("calibrating", 8, 8)
    assert told[-1] == ("comparing", 9, 9)


def test_seven_bits(model: Path, images: Path, tmp_path: Path) -> None:
    options = QuantizeOptions(method="minmax", correct=False, weight_bits=7)
    found = quantize(model, tmp_path / "7.onnx", calibrate=[images], options=options)
    stored = {w.name: numpy_helper.to_array(w) for w in onnx.load(found.out).graph.initializer}
    assert np.abs(stored["w1_int8"]).max() == 63


def test_a_float_reader_of_a_float_value_reads_it_unrounded(images: Path, tmp_path: Path) -> None:
    """A Resize and a Conv read the image: only the Conv gets it in int8."""
    body = """
        a = Conv (image, w)
        s = Sigmoid (image)
        b = Concat <axis = 1> (a, s)
        logits = Conv (b, v)
    """
    path = save(tmp_path / "n.onnx", network(body, {"w": weight(4, 3), "v": weight(3, 7)}))
    out = tmp_path / "q.onnx"
    quantize(path, out, calibrate=[images], options=QuantizeOptions(method="minmax", correct=False))
    nodes = {node.name: node for node in onnx.load(out).graph.node}
    assert nodes["s"].input[0] == "image"
    assert nodes["a"].input[0] == "image_dq"


def test_layers_may_share_weights(images: Path, tmp_path: Path) -> None:
    body = "a = Conv (image, w) b = Conv (a, w) c = Conv (b, w) logits = Conv (c, v)"
    path = save(tmp_path / "n.onnx", network(body, {"w": weight(3, 3), "v": weight(3, 3, seed=5)}))
    options = QuantizeOptions(method="minmax", correct=False, keep=("b",))
    quantize(path, tmp_path / "q.onnx", calibrate=[images], options=options)
    model = onnx.load(tmp_path / "q.onnx")
    names = {node.name: node.input[1] for node in model.graph.node if node.op_type == "Conv"}
    assert names == {"a": "w_dq", "b": "w", "c": "w_dq", "logits": "v"}
    onnx.checker.check_model(model, full_check=True)


def test_tensorrt_builds_it(made: QuantizeReport) -> None:
    from segedge.engine.builder.build import build_engine
    from segedge.engine.flavour import is_installed
    from segedge.engine.options import BuildOptions

    if not is_installed("tensorrt_rtx"):
        pytest.skip("TensorRT-RTX is not installed")
    built = build_engine(made.out, options=BuildOptions(), flavour="tensorrt_rtx", cache=None)
    assert "int8" in str(built.facts.engine_layers)


@pytest.mark.parametrize("backend", ["onnxruntime:simulated", "onnxruntime", "openvino"])
def test_backends_run_it(images: Path, tmp_path: Path, backend: str) -> None:
    """Seven bits, no Concat: OpenVINO's sums saturate with eight on CPUs without VNNI.

    And OpenVINO 2026.4 miscomputes a Concat of int8 convolutions; docs/quantize.md.
    """
    import segedge
    from segedge.backends.registry import BACKENDS

    if not BACKENDS[backend.partition(":")[0]].status().ready:
        pytest.skip(f"{backend} is not installed")
    body = RESIDUAL.replace("cat = Concat <axis = 1> (e, rs)", "cat = Identity (e)")
    model = save(tmp_path / "net.onnx", network(body, {**WEIGHTS, "wo": weight(8, 8)}))
    options = QuantizeOptions(method="minmax", correct=False, weight_bits=7)
    seven = quantize(model, tmp_path / "7.onnx", calibrate=[images], options=options)
    image = cv2.imread(str(images / "3.png"))
    with (
        segedge.load(seven.out, backend=backend) as one,
        segedge.load(model, backend="onnxruntime") as two,
    ):
        assert np.mean(one(image).labels == two(image).labels) > 0.9


# What cannot work, and what is said.


def refused(error: type[SegedgeError], model: Path, out: Path, **options: Any) -> str:
    with pytest.raises(error) as caught:
        quantize(model, out, **options)
    assert not out.exists() or out.samefile(model)
    assert not list(out.parent.glob(".*.part-*"))
    return str(caught.value)


def test_a_quantized_model_is_refused(made: QuantizeReport, images: Path, tmp_path: Path) -> None:
    said = refused(ModelError, made.out, tmp_path / "b.onnx", calibrate=[images])
    assert "int8.onnx is quantized already" in said
    assert "start from the float32 file" in said


def test_the_model_itself_is_no_output(model: Path, images: Path) -> None:
    before = model.read_bytes()
    assert "is the source itself" in refused(UsageError, model, model, calibrate=[images])
    assert model.read_bytes() == before


def test_no_card(images: Path, tmp_path: Path) -> None:
    path = save(tmp_path / "bare.onnx", has_card=False)
    said = refused(CardError, path, tmp_path / "b.onnx", calibrate=[images])
    assert "carries no card" in said
    assert "segedge export" in said


def test_no_onnx(images: Path, tmp_path: Path) -> None:
    path = tmp_path / "text.onnx"
    path.write_text("hello")
    assert "no ONNX file" in refused(ModelError, path, tmp_path / "b.onnx", calibrate=[images])


def test_no_images(model: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").write_text("no picture")
    said = refused(SourceError, model, tmp_path / "b.onnx", calibrate=[tmp_path / "empty"])
    assert "no images" in said
    assert "--calibrate" in said


def test_black_images(model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "black"
    folder.mkdir()
    for number in range(3):
        cv2.imwrite(str(folder / f"{number}.png"), np.zeros((24, 32, 3), np.uint8))
    said = refused(SourceError, model, tmp_path / "b.onnx", calibrate=[folder])
    assert "all calibration images are one colour" in said
    assert "3, first 0.png" in said


def test_one_image_and_black_ones_are_warned_of(model: Path, tmp_path: Path) -> None:
    folder = pictures(tmp_path / "few", 1)
    cv2.imwrite(str(folder / "black.png"), np.zeros((24, 32, 3), np.uint8))
    found = quantize(
        model,
        tmp_path / "b.onnx",
        calibrate=[folder],
        options=QuantizeOptions(method="minmax", correct=False),
    )
    assert found.images == 1
    assert "calibrated on one image" in found.warnings[0]
    assert "1 images are one colour and were left out, first black.png" in found.warnings[1]


def test_a_damaged_image_is_named(model: Path, tmp_path: Path) -> None:
    folder = pictures(tmp_path / "some", 2)
    (folder / "0.png").write_bytes(b"no picture")
    said = refused(SourceError, model, tmp_path / "b.onnx", calibrate=[folder])
    assert "cannot read image" in said
    assert "0.png" in said
    assert "--calibrate" in said


def test_nothing_to_quantize(images: Path, tmp_path: Path) -> None:
    path = save(tmp_path / "n.onnx", network("logits = Conv (image, w)", {"w": weight(3, 3)}))
    said = refused(ModelError, path, tmp_path / "b.onnx", calibrate=[images])
    assert "no convolution to quantize" in said
    assert "--quantize-classifier" in said


def test_an_old_opset(images: Path, tmp_path: Path) -> None:
    weights = {"w": weight(4, 3), "v": weight(3, 4)}
    net = network("a = Conv (image, w) logits = Conv (a, v)", weights, opset=11)
    said = refused(
        ModelError, save(tmp_path / "n.onnx", net), tmp_path / "b.onnx", calibrate=[images]
    )
    assert "opset 11" in said


def test_half_precision(images: Path, tmp_path: Path) -> None:
    body = "h = Cast <to = 10> (image) a = Conv (h, w) f = Cast <to = 1> (a) logits = Conv (f, v)"
    weights = {"w": weight(4, 3).astype(np.float16), "v": weight(3, 4)}
    said = refused(
        ModelError, save(tmp_path / "n.onnx", network(body, weights)), tmp_path / "b.onnx",
        calibrate=[images],
    )  # fmt: skip
    assert "is in fp16" in said


def test_weights_that_are_not_finite(images: Path, tmp_path: Path) -> None:
    broken = weight(4, 3)
    broken[0] = np.inf
    body = "a = Conv (image, w) b = Conv (a, v) logits = Conv (b, x)"
    net = network(body, {"w": broken, "v": weight(4, 4), "x": weight(3, 4)})
    said = refused(
        ModelError, save(tmp_path / "n.onnx", net), tmp_path / "b.onnx", calibrate=[images]
    )
    assert "inf or NaN" in said


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"method": "kl"}, "no calibration method 'kl'"),
        ({"percentile": 10.0}, "--percentile is 50 to 100, found 10"),
        ({"images": 0}, "--images must be at least 1"),
        ({"weight_bits": 4}, "7 or 8 bits, found 4"),
    ],
)
def test_options_that_cannot_be_meant(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        QuantizeOptions(**wrong)

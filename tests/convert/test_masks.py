"""Networks that classify masks: composed in the graph, told by names, compared with their own."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from segedge.card.geometry import Scaling, Size
from segedge.card.labels import label_set
from segedge.card.modelfile import read_card
from segedge.convert import ExportOptions, export
from segedge.convert.huggingface import SUMMED_AT, load_huggingface
from segedge.convert.mask_head import choose_outputs
from segedge.convert.noise import smooth_noise
from segedge.convert.outputs import OutputSpec, pick_masks
from segedge.errors import ExportError, UsageError
from segedge.machine.onnx_session import Session
from segedge.options.sliding import Slide
from segedge.reference.masks import SCORE_FLOOR, SummedAt, semantic_labels, semantic_logits
from segedge.segment.load import load

QUERIES, CLASSES = 5, 3
SHAPES = (OutputSpec("pred_logits", (1, 5, 4)), OutputSpec("pred_masks", (1, 5, 8, 8)))


class Masks(torch.nn.Module):
    """Five queries: fixed classes that lean on the image's mean, masks of a convolution."""

    def __init__(self, names: tuple[str, str] = ("pred_logits", "pred_masks")) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.names = names
        self.stem = torch.nn.Conv2d(3, 8, 4, stride=4)
        self.body = torch.nn.Conv2d(8, 8, 3, padding=1)
        self.masks = torch.nn.Conv2d(8, QUERIES, 3, padding=1)
        self.classes = torch.nn.Linear(8, QUERIES * (CLASSES + 1))
        self.masks.weight.data *= 6

    def forward(self, image: Any) -> dict[str, Any]:
        found = torch.relu(self.body(torch.relu(self.stem(image))))
        classes = 3 * self.classes(found.mean(dim=(2, 3))).reshape(-1, QUERIES, CLASSES + 1)
        return {self.names[0]: classes, self.names[1]: self.masks(found)}


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("masks") / "m.onnx"
    report = export(Masks(), path, options=ExportOptions(size=Size(64, 96)))
    assert report.output_shape == (1, CLASSES, 32, 48)  # masks at stride 4, enlarged twice
    assert report.card.mask_scale == 2
    assert report.card.parity is not None
    assert report.card.parity.max_logit_error is None
    return path


def random_pair(seed: int, queries: int, classes: int, grid: Size) -> tuple[Any, Any]:
    generator = np.random.default_rng(seed)
    return (
        (3 * generator.standard_normal((1, queries, classes + 1))).astype(np.float32),
        (4 * generator.standard_normal((1, queries, grid.height, grid.width))).astype(np.float32),
    )


@given(
    seed=st.integers(0, 99),
    queries=st.integers(1, 7),
    classes=st.integers(2, 6),
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    scale=st.sampled_from([1, 2, 4]),
)
def test_the_reference_is_torchs(
    seed: int, queries: int, classes: int, height: int, width: int, scale: int
) -> None:
    pair = random_pair(seed, queries, classes, Size(height, width))
    shares = torch.from_numpy(pair[0]).softmax(-1)[..., :-1]
    masks = torch.from_numpy(pair[1])
    if scale > 1:
        masks = torch.nn.functional.interpolate(masks, scale_factor=scale, mode="bilinear")
    scores = torch.einsum("bqc,bqhw->bchw", shares, masks.sigmoid())
    found = semantic_logits(*pair, scale=scale)
    np.testing.assert_allclose(found, torch.log(scores + SCORE_FLOOR), atol=2e-5)


@pytest.mark.parametrize("family", ["mask2former", "maskformer", "oneformer", "eomt"])
def test_own_labels_are_the_familys_post_processing(family: str) -> None:
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("PIL")
    size, frame = Size(32, 48), Size(40, 44)
    name = {"mask2former": "Mask2Former", "maskformer": "MaskFormer", "oneformer": "OneFormer"}
    maker = getattr(transformers, f"{name.get(family, 'Eomt')}ImageProcessor")
    options: dict[str, Any] = {"size": {"shortest_edge": size.height, "longest_edge": size.width}}
    processor = maker(**(options if family == "eomt" else {}))
    classes, masks = random_pair(3, 9, 6, Size(8, 12))
    outputs = SimpleNamespace(
        class_queries_logits=torch.from_numpy(classes),
        masks_queries_logits=torch.from_numpy(masks),
        patch_offsets=None,
    )
    targets = [(frame.height, frame.width)]
    if family == "oneformer":  # resized by torchvision
        summed_at: SummedAt = SUMMED_AT["maskformer"]
        assert SUMMED_AT[family] == summed_at
        processor = transformers.MaskFormerImageProcessor()
    own = processor.post_process_semantic_segmentation(outputs, target_sizes=targets)[0].numpy()
    at = SUMMED_AT[family]
    # EoMT's "input" is its processor's size; its sums are enlarged to the frame.
    found = semantic_labels(classes, masks, summed_at=size if at == "input" else at, size=frame)
    assert np.mean(found == own) > 0.999


def test_own_labels_at_the_input_need_no_sums_of_full_size() -> None:
    pair = random_pair(5, 4, 3, Size(6, 7))
    at_size = semantic_labels(*pair, summed_at=Size(30, 21), size=Size(30, 21))
    assert np.array_equal(semantic_labels(*pair, summed_at="input", size=Size(30, 21)), at_size)


@pytest.mark.parametrize("scale", [1, 2])
def test_composed_in_the_graph(tmp_path: Path, scale: int) -> None:
    network = Masks()
    path = tmp_path / "m.onnx"
    export(network, path, options=ExportOptions(size=Size(32, 64), mask_scale=scale))
    operators = {node.op_type for node in onnx.load(path).graph.node}
    assert "Einsum" not in operators
    assert {"Softmax", "Slice", "Sigmoid", "MatMul", "Reshape", "Log"} <= operators
    assert ("Resize" in operators) == (scale > 1)
    tensor = np.random.default_rng(0).standard_normal((1, 3, 32, 64)).astype(np.float32)
    with torch.no_grad():
        pair = [value.numpy() for value in network(torch.from_numpy(tensor)).values()]
    np.testing.assert_allclose(
        Session(path)(tensor), semantic_logits(*pair, scale=scale), atol=1e-4
    )


def test_an_onnx_file_with_the_pair(tmp_path: Path) -> None:
    network = Masks(("scores", "areas")).eval()
    torch.onnx.export(
        network, (torch.zeros(1, 3, 32, 32),), str(tmp_path / "raw.onnx"), dynamo=False,
        output_names=["scores", "areas"], opset_version=17,
    )  # fmt: skip
    with pytest.raises(ExportError, match="look like classes and masks") as caught:
        export(tmp_path / "raw.onnx", tmp_path / "m.onnx")
    assert "--head masks:scores,areas" in (caught.value.fix or "")
    options = ExportOptions(masks=("scores", "1"), classes=("a", "b", "c"))
    report = export(tmp_path / "raw.onnx", tmp_path / "m.onnx", options=options)
    assert report.output_shape == (1, CLASSES, 16, 16)
    # A file that is adopted again has its masks composed already.
    again = export(tmp_path / "m.onnx", tmp_path / "again.onnx")
    assert again.card.mask_scale == 2
    assert again.output_shape == report.output_shape


def test_the_pair_is_told_by_names_or_by_hand() -> None:
    assert pick_masks(SHAPES, wanted=None, source="x") == (0, 1)
    assert pick_masks(SHAPES[::-1], wanted=None, source="x") == (1, 0)
    nested = (OutputSpec("out.class_queries_logits", (1, 5, 4)),
              OutputSpec("out.masks_queries_logits", (1, 5, 8, 8)))  # fmt: skip
    assert pick_masks(nested, wanted=None, source="x") == (0, 1)
    # Logits of pixels beside something called alike are none.
    pixels = (OutputSpec("logits", (1, 4, 8, 8)), OutputSpec("pred_masks", (1, 5, 8, 8)))
    assert pick_masks(pixels, wanted=None, source="x") is None
    with pytest.raises(UsageError, match="does not classify masks") as caught:
        pick_masks(SHAPES, wanted=("pred_masks", "pred_logits"), source="x")
    assert "in this order" in (caught.value.fix or "")
    with pytest.raises(UsageError, match="no output 'pred_mask'; did you mean 'pred_masks'"):
        pick_masks(SHAPES, wanted=("0", "pred_mask"), source="x")
    head, indices = choose_outputs(SHAPES, ExportOptions(), source="x", channels=None)
    assert head is not None
    assert (head.scale, indices) == (2, (0, 1))
    head, _ = choose_outputs(SHAPES, ExportOptions(), source="x", channels=None, summed_at="grid")
    assert head is not None
    assert head.scale == 1


def test_options_that_cannot_be_meant() -> None:
    with pytest.raises(UsageError, match="names a head of pixels"):
        ExportOptions(masks=("a", "b"), output="c")
    with pytest.raises(UsageError, match="enlarged 3 times"):
        ExportOptions(mask_scale=3)


def test_openvino_says_the_same(exported: Path) -> None:
    pytest.importorskip("openvino")
    image = next(smooth_noise(Size(80, 120), 1))
    with (
        load(exported, backend="onnxruntime") as here,
        load(exported, backend="openvino:f32") as there,
    ):
        first, second = here(image), there(image)
        np.testing.assert_allclose(first.logits, second.logits, atol=1e-3)
        assert np.mean(first.labels == second.labels) > 0.999


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_tensorrt_rtx_builds_it(
    exported: Path, tmp_path: Path, own_cache: Path, precision: Any
) -> None:
    from segedge.engine.builder.build import build_engine
    from segedge.engine.flavour import is_installed
    from segedge.engine.options import BuildOptions

    if not is_installed("tensorrt_rtx"):
        pytest.skip("TensorRT-RTX is not installed: pip install 'segedge[rtx]'")
    options = BuildOptions(precision=precision)
    path = tmp_path / "m.engine"
    build_engine(exported, output=path, flavour="tensorrt_rtx", options=options)
    assert path.stat().st_size > 0


def test_int8_leaves_the_sum_of_probabilities_alone(exported: Path, tmp_path: Path) -> None:
    from segedge.precision.int8.int8 import quantize

    for number in range(3):
        noise = np.random.default_rng(number).integers(0, 256, (64, 96, 3), np.uint8)
        cv2.imwrite(str(tmp_path / f"{number}.png"), cv2.blur(noise, (9, 9)))
    quantize(exported, tmp_path / "int8.onnx", calibrate=[tmp_path])
    graph = onnx.load(tmp_path / "int8.onnx").graph
    makers = {name: node.op_type for node in graph.node for name in node.output}
    assert "DequantizeLinear" in makers.values()
    composed = [n for n in graph.node if n.op_type in ("Softmax", "Sigmoid", "MatMul", "Log")]
    assert len(composed) == 4
    assert not {makers.get(name) for node in composed for name in node.input} & {
        "QuantizeLinear", "DequantizeLinear",
    }  # fmt: skip


def test_fp16_keeps_the_sum_of_probabilities_in_fp32(exported: Path) -> None:
    from segedge.graph.kit import load_model
    from segedge.precision.fp16.fp16 import to_fp16

    converted, report = to_fp16(load_model(exported))
    kept = {layer.op: layer.reason for layer in report.kept}
    assert kept["Sigmoid"] == kept["MatMul"] == "masks and classes: sums of probabilities"
    assert {"Softmax", "Log"} <= kept.keys()
    computed = {node.op_type for node in converted.graph if node.name in report.converted}
    assert "Conv" in computed
    assert not computed & {"Softmax", "Sigmoid", "MatMul", "Log"}
    assert report.check.parity.agreement > 0.99


def test_confidence_is_the_share_of_a_class(exported: Path) -> None:
    from segedge.card.geometry import Geometry
    from segedge.reference import frame as reference

    card = read_card(exported)
    assert card is not None
    assert (card.activation, card.probabilities) == ("softmax", False)
    tensor = np.random.default_rng(2).standard_normal((1, 3, 64, 96)).astype(np.float32)
    logits = Session(exported)(tensor)
    scores = np.exp(logits[0]) / np.exp(logits[0]).sum(axis=0)
    grid = Size(*logits.shape[2:])
    found = reference.confidence(
        logits, card.replace(stride=1), Geometry.fit(grid, grid, "stretch")
    )
    np.testing.assert_allclose(found, scores.max(axis=0), atol=1e-5)


def folder_with(path: Path, model_type: str, names: tuple[str, ...]) -> Path:
    path.mkdir()
    labels = {str(label): name for label, name in enumerate(names)}
    (path / "config.json").write_text(json.dumps({"model_type": model_type, "id2label": labels}))
    return path


@pytest.mark.parametrize(
    ("model_type", "names", "words"),
    [
        ("detr", ("a", "b"), "is a panoptic checkpoint: it finds objects"),
        ("mask2former", label_set("coco-panoptic").names[:80], "is an instance checkpoint"),
    ],
)
def test_checkpoints_without_a_map_of_classes(
    tmp_path: Path, model_type: str, names: tuple[str, ...], words: str
) -> None:
    pytest.importorskip("transformers")
    with pytest.raises(ExportError, match=words) as caught:
        export(folder_with(tmp_path / "hf", model_type, names), tmp_path / "m.onnx")
    assert "semantic" in (caught.value.fix or "")


@pytest.fixture(scope="module")
def eomt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.EomtConfig(
        hidden_size=32, num_hidden_layers=3, num_attention_heads=4, image_size=64, patch_size=8,
        num_blocks=1, num_queries=12, num_upscale_blocks=1,
        id2label={0: "road", 1: "sky", 2: "car"}, label2id={"road": 0, "sky": 1, "car": 2},
    )  # fmt: skip
    model = transformers.EomtForUniversalSegmentation(config)
    model.attn_mask_probs.zero_()
    for head in (model.class_predictor, model.mask_head.fc3):
        head.weight.data *= 8
    folder = tmp_path_factory.mktemp("eomt") / "hf"
    model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(
        json.dumps({"size": {"height": 64, "width": 64}})
    )
    return folder


def test_a_folder_of_eomt(eomt: Path, tmp_path: Path) -> None:
    report = export(eomt, tmp_path / "m.onnx")
    assert report.card.classes == ("road", "sky", "car")
    assert report.output_shape == (1, 3, 32, 32)
    assert any("12 queries x 3" in each.detail for each in report.passes)


def with_processor(eomt: Path, folder: Path, **settings: Any) -> Path:
    shutil.copytree(eomt, folder)
    given = {"image_processor_type": "EomtImageProcessor", "do_pad": True, **settings}
    (folder / "preprocessor_config.json").write_text(json.dumps(given))
    return folder


def test_eomt_pads_below_and_to_the_right(eomt: Path, tmp_path: Path) -> None:
    size = {"shortest_edge": 64, "longest_edge": 64}
    card = export(with_processor(eomt, tmp_path / "hf", size=size), tmp_path / "m.onnx").card
    assert (card.fit, card.scaling, card.at_start) == ("letterbox", Scaling(0, 0, 64, 64), True)
    assert card.parity is not None
    assert card.parity.way is not None
    assert card.parity.way.levels < 0.01
    assert (card.parity.way.after or 0) > 0.9  # on noise, by a network of noise


def test_eomts_split_images_are_windows(eomt: Path, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    size = {"shortest_edge": 64, "longest_edge": None}
    folder = with_processor(eomt, tmp_path / "hf", size=size, do_split_image=True)
    report = export(folder, tmp_path / "m.onnx")
    assert any("--slide auto --overlap 0" in note for note in report.notes)
    image = next(smooth_noise(Size(80, 120), 1))
    model = transformers.EomtForUniversalSegmentation.from_pretrained(folder).eval()
    processor = transformers.AutoImageProcessor.from_pretrained(folder)
    with torch.no_grad():
        outputs = model(**processor(images=image[..., ::-1].copy(), return_tensors="pt"))
    own = processor.post_process_semantic_segmentation(outputs, target_sizes=[(80, 120)])[0]
    with load(report.path, backend="onnxruntime", slide=Slide(overlap=0)) as segmenter:
        assert np.mean(segmenter(image).labels == own.numpy()) > 0.9


def test_a_folder_of_eomt_that_was_not_trained_to_the_end(eomt: Path) -> None:
    transformers = pytest.importorskip("transformers")
    model = transformers.EomtForUniversalSegmentation.from_pretrained(eomt)
    model.attn_mask_probs.fill_(0.25)
    folder = eomt.parent / "unfinished"
    model.save_pretrained(folder)
    with pytest.raises(ExportError, match="at random: its training was not finished"):
        load_huggingface(folder)

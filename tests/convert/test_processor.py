"""Hugging Face folders: exactly as their own pipelines, or refused by one message."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from segedge.card.card import RESIZE_RULES, ModelCard
from segedge.card.geometry import Size
from segedge.convert import ExportOptions, export
from segedge.convert.huggingface import load_huggingface
from segedge.convert.noise import smooth_noise
from segedge.convert.way import Independent
from segedge.errors import CardError, CheckpointError, ExportError, SegedgeError, UsageError
from segedge.reference import frame as reference
from segedge.segment.load import load

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytest.importorskip("PIL")

SEGFORMER: dict[str, Any] = {
    "image_processor_type": "SegformerImageProcessor", "size": {"height": 64, "width": 96},
}  # fmt: skip


def segformer(folder: Path, settings: dict[str, Any] | None, **config: Any) -> Path:
    """A tiny SegFormer of four classes, whose head is scaled so that several of them occur."""
    torch.manual_seed(0)
    shape = transformers.SegformerConfig(
        depths=[1, 1, 1, 1], hidden_sizes=[8, 8, 16, 16], num_attention_heads=[1, 1, 2, 2],
        decoder_hidden_size=16, num_labels=4,
    )  # fmt: skip
    module = transformers.SegformerForSemanticSegmentation(shape).eval()
    spread(module)
    module.save_pretrained(folder)
    if settings is not None:
        (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    if config:
        known = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**known, **config}))
    return folder


def spread(module: Any) -> None:
    """Scale a network's last layer so that several classes occur."""
    with torch.no_grad():
        noise = np.stack(list(smooth_noise(Size(64, 96), 2))).transpose(0, 3, 1, 2)
        logits = module(torch.from_numpy(noise / 64.0 - 2.0).float()).logits
        mean, deviation = logits.mean(dim=(0, 2, 3)), logits.std(dim=(0, 2, 3))
        last = module.decode_head.classifier
        last.weight /= deviation[:, None, None, None]
        last.bias.copy_((last.bias - mean) / deviation)


@pytest.mark.parametrize(
    "settings",
    [
        SEGFORMER,
        {**SEGFORMER, "resample": 3, "image_mean": [0.5] * 3, "rescale_factor": 1 / 127.5},
        {"image_processor_type": "MobileViTImageProcessor", "size": {"shortest_edge": 80},
         "crop_size": {"height": 64, "width": 96}},
        {"image_processor_type": "MobileViTImageProcessor", "size": {"shortest_edge": 81},
         "crop_size": {"height": 63, "width": 96}, "do_flip_channel_order": False},
        {"image_processor_type": "MobileViTImageProcessor", "do_resize": False,
         "crop_size": {"height": 61, "width": 96}},
        {**SEGFORMER, "do_flip_channel_order": True, "keep_aspect_ratio": True,
         "ensure_multiple_of": 32},
        {"image_processor_type": "BeitImageProcessor", "size": {"height": 64, "width": 96}},
        {"image_processor_type": "DPTImageProcessor", "size": {"height": 70, "width": 90},
         "ensure_multiple_of": 32},
    ],
    ids=["bilinear", "bicubic", "mobilevit crop", "odd crop", "crop alone", "not the class's",
         "defaults of the class", "multiples"],
)  # fmt: skip
def test_labels_are_those_of_the_own_pipeline(tmp_path: Path, settings: dict[str, Any]) -> None:
    folder = segformer(tmp_path / "net", settings)
    report = export(folder, tmp_path / "m.onnx")
    parity = report.card.parity
    assert parity is not None
    assert parity.way is not None
    assert parity.way.levels < 0.01, "Pillow's rounding, to the bit"
    assert min(parity.way.whole or 0, parity.way.preprocessing or 0) > 0.999
    assert "transformers" in str(parity.way)
    assert "pixels equal" in str(parity.way)


def upernet(folder: Path) -> Path:
    """A tiny UPerNet: its own code enlarges the logits, and its post-processing again."""
    torch.manual_seed(0)
    backbone = transformers.ConvNextConfig(
        depths=[1, 1, 1, 1], hidden_sizes=[8, 8, 8, 8],
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )  # fmt: skip
    config = transformers.UperNetConfig(
        backbone_config=backbone, hidden_size=8, pool_scales=[1, 2], num_labels=16,
        use_auxiliary_head=False,
    )  # fmt: skip
    module = transformers.UperNetForSemanticSegmentation(config).eval()
    spread(module)
    module.save_pretrained(folder)
    settings = {**SEGFORMER, "size": {"height": 64, "width": 64}}
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    return folder


def test_a_tail_whose_cut_loses_labels_of_the_own_way_stays(tmp_path: Path) -> None:
    folder = upernet(tmp_path / "net")
    blocks = np.random.default_rng(0).integers(0, 256, (24, 24, 3), np.uint8)
    cv2.imwrite(str(tmp_path / "blocks.png"), blocks.repeat(4, axis=0).repeat(4, axis=1))
    options = ExportOptions(verify=tmp_path / "blocks.png")
    kept = export(folder, tmp_path / "m.onnx", options=options)
    assert not kept.tail.cut
    assert any("--cut-tail for the faster file" in note for note in kept.notes)
    cut = export(folder, tmp_path / "m.onnx", options=replace(options, keep_tail=False))
    assert cut.tail.cut
    assert any("--keep-tail keeps them" in note for note in cut.notes)
    ways = [report.card.parity.way for report in (kept, cut) if report.card.parity is not None]
    after = [way.after for way in ways if way is not None and way.after is not None]
    assert after[0] > 0.999
    assert after[1] < 0.995


def test_on_noise_which_hides_half_of_it_less_may_be_lost(tmp_path: Path) -> None:
    report = export(upernet(tmp_path / "net"), tmp_path / "m.onnx")
    assert not report.tail.cut
    assert any("were its own (wanted 99.9 %)" in note for note in report.notes)


def test_what_a_crop_cuts_off_has_no_label(tmp_path: Path) -> None:
    settings = {
        "image_processor_type": "MobileViTImageProcessor", "size": {"shortest_edge": 64},
        "crop_size": {"height": 64, "width": 64}, "resample": 2,
    }  # fmt: skip
    report = export(segformer(tmp_path / "net", settings), tmp_path / "m.onnx")
    image = next(smooth_noise(Size(120, 200), 1))
    with load(report.path, backend="onnxruntime") as segmenter:
        result = segmenter(image, outputs=["labels", "overlay", "class_pixels", "confidence"])
        labels, overlay = result.labels, result.overlay()
    top, left, bottom, right = report.card.place(Size(120, 200)).seen()
    assert (top, bottom) == (0, 120)
    assert left > 30
    outside = np.ones(labels.shape, bool)
    outside[:, left:right] = False
    assert np.all(labels[outside] == 255)
    assert np.all(labels[~outside] < 4)
    assert np.array_equal(overlay[outside], image[outside])
    assert np.all(result.confidence[outside] == 0)
    assert sum(result.class_pixels.values()) == np.count_nonzero(~outside)
    np.testing.assert_array_equal(
        labels, reference.labels(result.logits, report.card, report.card.place(Size(120, 200)))
    )


def test_a_size_that_follows_the_frame_is_asked_for_and_checked(tmp_path: Path) -> None:
    folder = segformer(tmp_path / "net", {**SEGFORMER, "size": {"shortest_edge": 64}})
    with pytest.raises(UsageError) as caught:
        export(folder, tmp_path / "m.onnx")
    assert caught.value.facts["its processor"].endswith("shorter side to 64")
    report = export(folder, tmp_path / "m.onnx", options=ExportOptions(size=Size(64, 96)))
    assert report.card.input_size == Size(64, 96)
    assert any("this file is for frames that it brings to 64x96" in note for note in report.notes)
    with pytest.raises(ExportError, match="brings frames of 96x96 to 64x64, not to 96x96"):
        export(folder, tmp_path / "n.onnx", options=ExportOptions(size=Size(96, 96)))


@pytest.mark.parametrize(
    ("settings", "config", "error", "words", "fix"),
    [
        (None, {}, CardError, "has no preprocessor_config.json", "save_pretrained"),
        (SEGFORMER, {"auto_map": {"AutoModel": "code.Net"}}, ExportError,
         "names Python code of its own, which is never executed", "nets.py:factory"),
        ({**SEGFORMER, "auto_map": {"AutoImageProcessor": "code.P"}}, {}, ExportError,
         "preprocessor_config.json names Python code", "nets.py:factory"),
        ({**SEGFORMER, "image_processor_type": "Mask2FormerImageProcessor"}, {}, ExportError,
         "of another family than its network", "that the weights came with"),
        ({**SEGFORMER, "image_processor_type": "ViTImageProcessor"}, {}, ExportError,
         "none of a semantic segmentation network", "that the weights came with"),
        (SEGFORMER, {"backbone": "org/net", "use_pretrained_backbone": True}, ExportError,
         "takes its backbone from a hub", "save_pretrained"),
    ],
    ids=["no settings", "code", "code of the processor", "masks", "classifier", "backbone"],
)  # fmt: skip
def test_folders_that_are_refused(
    tmp_path: Path, settings: Any, config: dict[str, Any], error: type[SegedgeError], words: str,
    fix: str,
) -> None:  # fmt: skip
    folder = segformer(tmp_path / "net", settings, **config)
    with pytest.raises(error, match=words) as caught:
        export(folder, tmp_path / "m.onnx")
    assert fix in (caught.value.fix or "")
    assert not (tmp_path / "m.onnx").exists()


def test_a_processor_that_fails_is_told_of(tmp_path: Path) -> None:
    settings = {"image_processor_type": "DPTImageProcessor", "size": {"shortest_edge": 64}}
    folder = segformer(tmp_path / "net", settings)
    with pytest.raises(ExportError, match="fails on an image with the folder's settings"):
        export(folder, tmp_path / "m.onnx", options=ExportOptions(size=Size(64, 96)))


def test_images_that_hide_another_preparation_do_not_decide(tmp_path: Path) -> None:
    """Black stays black wherever a crop lies, which a border of an odd width moves by a pixel."""
    settings = {
        "image_processor_type": "MobileViTImageProcessor", "size": {"height": 41, "width": 96},
        "crop_size": {"height": 64, "width": 96},
    }  # fmt: skip
    folder = segformer(tmp_path / "net", settings)
    if not type(transformers.AutoImageProcessor.from_pretrained(folder)).__name__.endswith("Pil"):
        pytest.skip("torchvision's processors put the border where segedge puts it")
    cv2.imwrite(str(tmp_path / "black.png"), np.zeros((80, 90, 3), np.uint8))
    options = ExportOptions(verify=tmp_path / "black.png")
    with pytest.raises(ExportError, match="images are not prepared as by MobileViT"):
        export(folder, tmp_path / "m.onnx", options=options)


@pytest.mark.parametrize("saved_as", ["SegformerModel", "SegformerForImageClassification"])
def test_a_folder_without_a_segmentation_head_is_refused(tmp_path: Path, saved_as: str) -> None:
    folder = segformer(tmp_path / "net", SEGFORMER)
    config = transformers.SegformerConfig.from_pretrained(folder)
    getattr(transformers, saved_as)(config).save_pretrained(folder)
    with pytest.raises(CheckpointError, match="weights of net do not fit its network") as caught:
        export(folder, tmp_path / "m.onnx")
    assert "decode_head.classifier.weight" in caught.value.facts["missing"]
    assert caught.value.facts["saved as"] == saved_as
    assert not (tmp_path / "m.onnx").exists()


def test_weights_of_other_classes_than_the_config_has_are_named(tmp_path: Path) -> None:
    names = {str(index): f"c{index}" for index in range(5)}
    folder = segformer(tmp_path / "net", SEGFORMER, id2label=names)
    with pytest.raises(CheckpointError, match="do not fit its network") as caught:
        export(folder, tmp_path / "m.onnx")
    found = "classifier.weight (4, 16, 1, 1); config.json says (5, 16, 1, 1)"
    assert found in caught.value.facts["found"]


def test_what_no_label_depends_on_may_be_missing(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = segformer(tmp_path / "net", SEGFORMER)
    weights = load_file(folder / "model.safetensors")
    left = {name: value for name, value in weights.items() if "num_batches" not in name}
    assert len(left) < len(weights)
    save_file(left, folder / "model.safetensors", metadata={"format": "pt"})
    assert load_huggingface(folder)[0].config.num_labels == 4


@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
def test_weights_of_half_precision_are_computed_in_float32(
    tmp_path: Path, kind: str, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = segformer(tmp_path / "net", SEGFORMER)
    module = transformers.SegformerForSemanticSegmentation.from_pretrained(folder)
    module.to(getattr(torch, kind)).save_pretrained(folder)
    capfd.readouterr()
    report = export(folder, tmp_path / "m.onnx")
    assert capfd.readouterr().err == "", "no bar, no table of transformers'"
    image = next(smooth_noise(Size(90, 131), 1))
    rounded = module.float().eval()
    processor = transformers.AutoImageProcessor.from_pretrained(folder)
    with torch.inference_mode():
        outputs = rounded(**processor(images=image[..., ::-1].copy(), return_tensors="pt"))
    own = processor.post_process_semantic_segmentation(outputs, target_sizes=[(90, 131)])[0]
    with load(report.path, backend="onnxruntime") as segmenter:
        labels = segmenter(image, outputs=["labels"]).labels
    assert np.mean(labels == own.numpy()) > 0.999
    assert len(np.unique(labels)) > 1


def test_weights_on_a_hub_are_not_fetched(tmp_path: Path) -> None:
    folder = segformer(tmp_path / "net", SEGFORMER, _name_or_path="org/net")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ExportError, match="has no weights; its config names 'org/net'") as caught:
        export(folder, tmp_path / "m.onnx")
    assert "hf download org/net --local-dir" in (caught.value.fix or "")


class Logits(torch.nn.Module):  # type: ignore[misc]
    """A graph that ends at its logits of stride 4."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.layer = torch.nn.Conv2d(3, 5, 8, stride=4, padding=2)

    def forward(self, image: Any) -> Any:
        return self.layer(image)


def test_enlarging_that_nobody_says_is_told_and_can_be_chosen(tmp_path: Path) -> None:
    size = Size(32, 48)
    told = export(Logits(), tmp_path / "m.onnx", options=ExportOptions(size=size))
    assert any("half-pixel is assumed" in note for note in told.notes)
    assert not told.card.align_corners
    options = ExportOptions(size=size, align_corners=True)
    asked = export(Logits(), tmp_path / "n.onnx", options=options)
    assert asked.card.align_corners
    assert not any("assumed" in note for note in asked.notes)


@pytest.mark.parametrize("rule", RESIZE_RULES)
@pytest.mark.parametrize("fit", ["stretch", "letterbox", "crop"])
def test_an_independent_library_prepares_alike(rule: Any, fit: Any) -> None:
    card = ModelCard(("a", "b"), ((0, 0, 0), (1, 1, 1)), 40, 56, resize=rule, fit=fit)
    for image in smooth_noise(Size(90, 130), 2):
        own = Independent(rule).tensor(image, card)
        ours = reference.preprocess(image, card, card.place(Size(90, 130)))
        np.testing.assert_allclose(ours, own, atol=2e-3)

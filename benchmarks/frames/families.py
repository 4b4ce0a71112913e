"""Hugging Face's per-pixel families as small random networks, with their own processors.

Weights are random and few, drawn with a fixed seed. So that labels mean something, two things are
then set on real images: the statistics of batch normalisations, and the last convolution, whose
weights and biases are scaled so that over the pixels each class's logits have mean 0 and standard
deviation 1. Without it one class wins everywhere, and any mistake before it goes unseen.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

CLASSES = 12
Pair = tuple[Any, Any]
"""A model and its image processor."""


@dataclass(frozen=True)
class Family:
    """A family of networks, and how one of them is exported."""

    make: Callable[[], Pair]
    """A small random network and its processor."""
    settle: Callable[[Any, dict[str, Any]], None] = lambda model, given: settle(model, given)
    """Sets the head of such a network on what its processor makes of images."""
    asked: dict[str, Any] = field(default_factory=dict)
    """What its processor is asked besides."""
    options: dict[str, Any] = field(default_factory=dict)
    """Fields of `segedge.ExportOptions` that the user must give."""
    give: str = ""
    """The same on the command line."""
    crops: bool = False
    """Whether its processor cuts the centre, or pads: equality is then counted at the network's
    pixels, since the family's own post-processing stretches their labels over the image."""
    slides: bool = False
    """Whether its processor cuts images into windows."""


def save(family: Family, folder: Path, images: Sequence[Image.Image]) -> Pair:
    """Make a family's network, settle it on images and write it as ``save_pretrained`` does."""
    import torch

    torch.manual_seed(0)
    model, processor = family.make()
    model.eval()
    given = [processor(images=image, return_tensors="pt", **family.asked) for image in images]
    tensors = {name for name, value in given[0].items() if isinstance(value, torch.Tensor)}
    family.settle(model, {name: torch.cat([one[name] for one in given]) for name in tensors})
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return model, processor


def settle(model: Any, given: dict[str, Any]) -> None:
    """Statistics of batch normalisations and the scale of the last convolution, from images."""
    import torch

    norms = [m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the mean over all batches
        norm.train()
    with torch.no_grad():
        model(**given)
        for norm in norms:
            norm.momentum = 0.1
            norm.eval()
        logits = model(**given).logits
        mean, deviation = logits.mean(dim=(0, 2, 3)), logits.std(dim=(0, 2, 3))
        last = [
            m for m in model.modules()
            if isinstance(m, torch.nn.Conv2d) and m.out_channels == len(mean)
        ][-1]  # fmt: skip
        if last.bias is None:
            last.bias = torch.nn.Parameter(torch.zeros(len(mean)))
        last.weight /= deviation[:, None, None, None]
        last.bias.copy_((last.bias - mean) / deviation)


def _segformer() -> Pair:
    import transformers as hf

    config = hf.SegformerConfig(
        depths=[1, 1, 1, 1], hidden_sizes=[16, 32, 48, 64], num_attention_heads=[1, 2, 3, 4],
        decoder_hidden_size=64, num_labels=CLASSES,
    )  # fmt: skip
    processor = hf.SegformerImageProcessor(size={"height": 256, "width": 320})
    return hf.SegformerForSemanticSegmentation(config), processor


def _upernet() -> Pair:
    import transformers as hf

    backbone = hf.ConvNextConfig(
        depths=[1, 1, 1, 1], hidden_sizes=[16, 32, 48, 64],
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )  # fmt: skip
    config = hf.UperNetConfig(
        backbone_config=backbone, hidden_size=32, auxiliary_in_channels=48, auxiliary_channels=16,
        num_labels=CLASSES, use_auxiliary_head=False,
    )  # fmt: skip
    processor = hf.SegformerImageProcessor(size={"height": 256, "width": 256})
    return hf.UperNetForSemanticSegmentation(config), processor


_VIT: dict[str, Any] = {
    "hidden_size": 64, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 128,
    "num_labels": CLASSES,
}  # fmt: skip


def _beit(**processor: Any) -> Pair:
    import transformers as hf

    config = hf.BeitConfig(
        **_VIT, image_size=224, out_indices=[1, 2, 3, 4], use_relative_position_bias=True,
        use_auxiliary_head=False,
    )  # fmt: skip
    return hf.BeitForSemanticSegmentation(config), hf.BeitImageProcessor(**processor)


def _data2vec() -> Pair:
    import transformers as hf

    config = hf.Data2VecVisionConfig(
        **_VIT, image_size=224, out_indices=[0, 1, 2, 3], use_auxiliary_head=False
    )
    return hf.Data2VecVisionForSemanticSegmentation(config), hf.BeitImageProcessor()


def _dpt() -> Pair:
    import transformers as hf

    config = hf.DPTConfig(
        **_VIT, image_size=256, backbone_out_indices=[0, 1, 2, 3], fusion_hidden_size=32,
        neck_hidden_sizes=[16, 32, 48, 64], use_auxiliary_head=False,
    )  # fmt: skip
    processor = hf.DPTImageProcessor(size={"height": 256, "width": 256})
    return hf.DPTForSemanticSegmentation(config), processor


def _mobilevit() -> Pair:
    import transformers as hf

    config = hf.MobileViTConfig(
        hidden_sizes=[48, 64, 80], neck_hidden_sizes=[8, 16, 24, 48, 64, 80, 160],
        aspp_out_channels=48, num_labels=CLASSES,
    )  # fmt: skip
    processor = hf.MobileViTImageProcessor(
        size={"shortest_edge": 288}, crop_size={"height": 256, "width": 256}
    )
    return hf.MobileViTForSemanticSegmentation(config), processor


def _mobilevitv2() -> Pair:
    import transformers as hf

    config = hf.MobileViTV2Config(
        width_multiplier=0.5, base_attn_unit_dims=[64, 96, 128], n_attn_blocks=[1, 1, 1],
        aspp_out_channels=48, num_labels=CLASSES,
    )  # fmt: skip
    processor = hf.MobileViTImageProcessor(
        size={"shortest_edge": 288}, crop_size={"height": 256, "width": 256}
    )
    return hf.MobileViTV2ForSemanticSegmentation(config), processor


def _mobilenet_v2() -> Pair:
    import transformers as hf

    config = hf.MobileNetV2Config(depth_multiplier=0.35, output_stride=16, num_labels=CLASSES)
    return hf.MobileNetV2ForSemanticSegmentation(config), hf.MobileNetV2ImageProcessor()


PER_PIXEL: dict[str, Family] = {
    "SegFormer": Family(_segformer),
    "UPerNet": Family(_upernet),
    "UPerNet, --cut-tail": Family(_upernet, options={"keep_tail": False}, give="`--cut-tail`"),
    "BEiT": Family(_beit),
    "BEiT, centre crop": Family(
        lambda: _beit(size={"height": 256, "width": 256}, do_center_crop=True), crops=True
    ),
    "data2vec": Family(_data2vec),
    "DPT": Family(_dpt),
    "DPT, --cut-tail": Family(_dpt, options={"keep_tail": False}, give="`--cut-tail`"),
    "MobileViT": Family(_mobilevit, crops=True),
    "MobileViTV2": Family(_mobilevitv2, crops=True),
    "MobileNetV2": Family(_mobilenet_v2, crops=True),
}

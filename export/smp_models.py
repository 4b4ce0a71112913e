"""segmentation_models_pytorch: any of its architectures and encoders to one ONNX file.

    python export/smp_models.py Unet resnet18 --classes road,car,person --checkpoint mine.pth \
        --size 512x512 -o unet.onnx

Weights that were trained with ``encoder_weights="imagenet"`` want ImageNet's mean and std, which
segedge takes by default.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from torch import nn

import segedge
from segedge.card.geometry import Size


def build(architecture: str, encoder: str, *, num_classes: int) -> nn.Module:
    """One of the library's networks with random weights.

    Args:
        architecture: ``Unet``, ``FPN``, ``DeepLabV3Plus``, ``PAN``, ``Segformer`` ...
        encoder: ``resnet18``, ``timm-mobilenetv3_small_075`` ...
        num_classes: Logit channels; 1 makes a sigmoid head.
    """
    import segmentation_models_pytorch as smp

    network: nn.Module = smp.create_model(
        architecture, encoder_name=encoder, encoder_weights=None, classes=num_classes
    )
    return network


def main() -> None:
    """Export from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("architecture")
    parser.add_argument("encoder")
    parser.add_argument("--classes", required=True, help="names, separated by commas")
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--size", default="512x512", help="HEIGHTxWIDTH, multiples of 32")
    parser.add_argument("--verify", type=Path)
    parser.add_argument("-o", "--out", type=Path, default=Path("smp.onnx"))
    words = parser.parse_args()
    classes = tuple(words.classes.split(","))
    # Two names may also be one sigmoid channel: train with num_classes=1 for that.
    module = build(words.architecture, words.encoder, num_classes=len(classes))
    options = segedge.ExportOptions(
        checkpoint=words.checkpoint,
        classes=classes,
        size=Size.parse(words.size),
        verify=words.verify,
    )
    report = segedge.export(module, words.out, options=options)
    print(f"{report.path}: {report.channels} classes at stride {report.card.stride}")


if __name__ == "__main__":
    main()

"""torchvision's segmentation networks to one ONNX file.

    python export/torchvision_models.py lraspp_mobilenet_v3_large --weights DEFAULT -o lraspp.onnx
    python export/torchvision_models.py deeplabv3_mobilenet_v3_large --checkpoint mine.pth \
        --classes background,road -o deeplab.onnx

They return a dict; the main head is ``out``. Their weights are trained on Pascal VOC's 21 classes
with ImageNet's mean and std.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from torch import nn

import segedge
from segedge.card.geometry import Size

MODELS = (
    "deeplabv3_mobilenet_v3_large",
    "deeplabv3_resnet50",
    "deeplabv3_resnet101",
    "fcn_resnet50",
    "fcn_resnet101",
    "lraspp_mobilenet_v3_large",
)


def build(name: str, *, num_classes: int = 21, weights: str | None = None) -> nn.Module:
    """One of torchvision's networks.

    Args:
        name: One of `MODELS`.
        num_classes: Logit channels; 21 for the published weights.
        weights: ``DEFAULT`` downloads the published weights; None leaves them random.
    """
    from torchvision.models import get_model

    network: nn.Module = get_model(
        name, weights=weights, weights_backbone=None, num_classes=num_classes
    )
    return network


def main() -> None:
    """Export from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=MODELS)
    parser.add_argument("--weights", help="DEFAULT downloads torchvision's")
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--classes", default="voc")
    parser.add_argument("--size", default="520x520", help="HEIGHTxWIDTH")
    parser.add_argument("--verify", type=Path)
    parser.add_argument("-o", "--out", type=Path)
    words = parser.parse_args()
    count = 21 if words.classes == "voc" else len(words.classes.split(","))
    module = build(words.name, num_classes=count, weights=words.weights)
    options = segedge.ExportOptions(
        checkpoint=words.checkpoint,
        classes=words.classes,
        size=Size.parse(words.size),
        output="out",
        verify=words.verify,
    )
    report = segedge.export(module, words.out or Path(f"{words.name}.onnx"), options=options)
    print(f"{report.path}: {report.channels} classes at stride {report.card.stride}")


if __name__ == "__main__":
    main()

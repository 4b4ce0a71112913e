"""Hugging Face SegFormer (and other AutoModelForSemanticSegmentation) to one ONNX file.

    python export/segformer.py FOLDER -o segformer.onnx            # a folder saved or downloaded
    python export/segformer.py --random -o segformer.onnx          # B0 shapes, for speed only

FOLDER holds ``config.json``, ``preprocessor_config.json`` and the weights, as ``save_pretrained``
writes them. Classes, mean, std and the resize rule are read from there.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import segedge
from segedge.card.geometry import Size


def save_random_b0(folder: Path, *, size: int = 512, num_labels: int = 150) -> None:
    """Write a SegFormer-B0 with random weights, as ``save_pretrained`` does.

    Depths, widths and heads are the defaults of transformers' SegformerConfig, which are B0's.
    """
    from transformers import (
        SegformerConfig,
        SegformerForSemanticSegmentation,
        SegformerImageProcessor,
    )

    config = SegformerConfig(num_labels=num_labels)
    SegformerForSemanticSegmentation(config).save_pretrained(folder)
    SegformerImageProcessor(size={"height": size, "width": size}).save_pretrained(folder)


def main() -> None:
    """Export from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--random", action="store_true", help="B0 with random weights")
    parser.add_argument("-o", "--out", type=Path, default=Path("segformer.onnx"))
    parser.add_argument("--size", help="HEIGHTxWIDTH; the processor's own by default")
    parser.add_argument("--classes", help="label set or names; the config's own by default")
    parser.add_argument("--verify", type=Path)
    words = parser.parse_args()
    if (words.folder is None) != words.random:
        parser.error("give a folder, or --random")
    options = segedge.ExportOptions(
        size=Size.parse(words.size) if words.size else None,
        classes=words.classes,
        verify=words.verify,
    )
    with tempfile.TemporaryDirectory() as temporary:
        folder = words.folder or Path(temporary)
        if words.random:
            save_random_b0(folder)
        report = segedge.export(folder, words.out, options=options)
    print(f"{report.path}: {report.channels} classes at stride {report.card.stride}")


if __name__ == "__main__":
    main()

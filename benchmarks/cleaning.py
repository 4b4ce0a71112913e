"""What cleaning does to accuracy: mIoU and boundary F on CamVid val, for several sizes.

The trained Fast-SCNN of `../shared/models` on the 101 images of CamVid val, labels at 360x480,
through segedge and the scores of `segedge eval`: the network runs once an image.

    python benchmarks/cleaning.py [--images 101] [--save]
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import harness
import numpy as np
from document import Figure

import segedge
from segedge.card.card import ModelCard
from segedge.card.labels import label_set
from segedge.cpu.regions.clean import clean
from segedge.measure.datasets.datasets import open_dataset
from segedge.measure.evaluate.boundary import TOLERANCE, boundary_scores
from segedge.measure.evaluate.confusion import Confusion
from segedge.options.cleaning import Cleaning

SHARED = Path(__file__).resolve().parents[2] / "shared"
MODEL = SHARED / "models" / "fastscnn_camvid.onnx"
VAL = SHARED / "data" / "camvid" / "val"
CLASSES = label_set("camvid")
INCLUDES = {
    "miou": "mean IoU over classes; all images in one confusion matrix",
    "boundary_f": "mean F score of boundary pixels over images and classes",
    "changed": "pixels whose label cleaning changed",
}
CASES = {
    "off": Cleaning(),
    **{f"min_region {n}": Cleaning(n) for n in (10, 25, 50, 100, 200, 500)},
    "min_region 50, 8-connected": Cleaning(50, connectivity=8),
    "majority 3": Cleaning(majority=3),
    "majority 7": Cleaning(majority=7),
    "fill_holes 200": Cleaning(fill_holes=200),
    "200 for large classes only": Cleaning(
        dict.fromkeys(("sky", "building", "road", "pavement", "tree"), 200)
    ),
}


def pairs(count: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Ground truth and the network's labels of each image."""
    with segedge.load(MODEL, backend="onnxruntime", card=carried_card()) as segmenter:
        data = open_dataset(VAL, card_classes=CLASSES.names, ignore_index=CLASSES.ignore_index)
        return [
            (sample.labels(), segmenter(sample.image()).labels.copy())
            for sample in data.samples[:count]
        ]


def carried_card() -> ModelCard:
    """What the model's README says of it; the tail stays in the graph."""
    return ModelCard(
        CLASSES.names, CLASSES.palette_rgb, 352, 480, mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225), stride=1,
    )  # fmt: skip


def score(images: list[tuple[np.ndarray, np.ndarray]], cleaning: Cleaning) -> dict[str, Any]:
    """mIoU, boundary F and changed pixels, in percent, and IoU by class."""
    confusion = Confusion(CLASSES.names)
    edges, changed = [], []
    for truth, labels in images:
        cleaned = labels if cleaning.is_off else clean(labels, cleaning, CLASSES.names)
        changed.append(float((cleaned != labels).mean()))
        confusion.add(truth, cleaned)
        edges.append(boundary_scores(truth, cleaned, classes=len(CLASSES)))
    iou = 100 * confusion.iou
    return {
        "miou": 100 * confusion.miou,
        "boundary_f": 100 * float(np.nanmean(np.nanmean(edges, axis=0))),
        "changed": 100 * float(np.mean(changed)),
        "iou": dict(zip(CLASSES.names, iou.round(2).tolist(), strict=True)),
    }


def main() -> None:
    """Measure, print, save."""
    parser = harness.saving_parser(__doc__)
    parser.add_argument("--images", type=harness.positive(int), default=101)
    options = parser.parse_args()
    if not MODEL.is_file() or not VAL.is_dir():
        sys.exit("cleaning.py: nothing to measure here: ../shared has the network and CamVid")
    run = harness.Run.begin(options)
    images = pairs(options.images)
    print(f"{len(images)} images\n{'cleaning':32}{'mIoU':>8}{'bound. F':>10}{'changed':>10}   IoU")
    rows = {}
    for name, cleaning in CASES.items():
        row = rows[name] = score(images, cleaning)
        few = {k: v for k, v in row["iou"].items() if k in ("pole", "sign", "pedestrian")}
        print(
            f"{name:32}{row['miou']:8.2f}{row['boundary_f']:10.2f}{row['changed']:9.2f}%"
            f"   {' '.join(f'{k} {v}' for k, v in few.items())}"
        )
    figures = [
        Figure.of(name, quantity, [[row[quantity]]], unit="%")
        for name, row in rows.items()
        for quantity in INCLUDES
    ]
    details = {"iou": {name: row["iou"] for name, row in rows.items()}}
    settings = {"images": len(images), "tolerance_share": TOLERANCE}
    run.write("cleaning", INCLUDES, figures, settings, details=details)


if __name__ == "__main__":
    main()

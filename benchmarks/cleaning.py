"""What cleaning does to accuracy: mIoU and boundary F on CamVid val, for several sizes.

The trained Fast-SCNN of `../shared/models` on the 101 images of CamVid val, labels at 360x480,
through segedge and the scores of `segedge eval`: the network runs once an image.

    python benchmarks/cleaning.py [--images 101] [--save]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from harness import write_results

import segedge
from segedge.card import ModelCard
from segedge.cleaning import Cleaning
from segedge.cpu.regions import clean
from segedge.evaluate.boundary import boundary_scores
from segedge.evaluate.confusion import Confusion
from segedge.evaluate.datasets import open_dataset
from segedge.labels import label_set

SHARED = Path(__file__).resolve().parents[2] / "shared"
MODEL = SHARED / "models" / "fastscnn_camvid.onnx"
VAL = SHARED / "data" / "camvid" / "val"
CLASSES = label_set("camvid")
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


def score(images: list[tuple[np.ndarray, np.ndarray]], cleaning: Cleaning) -> dict[str, object]:
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
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=101)
    parser.add_argument("--save", action="store_true")
    options = parser.parse_args()
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
    if options.save:
        print(f"\nwrote {write_results('cleaning', {'images': len(images), 'cases': rows})}")


if __name__ == "__main__":
    main()

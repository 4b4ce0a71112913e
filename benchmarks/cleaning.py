"""What cleaning does to accuracy: mIoU and boundary F on CamVid val, for several sizes.

The trained Fast-SCNN of `../shared/models` on the 101 images of CamVid val, labels at 360x480,
through segedge. Boundary F is the mean over images and classes of the F score of boundary pixels
within 3 pixels (as in "What is a good evaluation measure for semantic segmentation?", Csurka et
al., BMVC 2013); classes that are neither in the picture nor in the labels do not count.

    python benchmarks/cleaning.py [--images 101] [--save]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
from harness import write_results

import segedge
from segedge.card import ModelCard
from segedge.cleaning import Cleaning
from segedge.cpu.regions import clean
from segedge.labels import label_set

SHARED = Path(__file__).resolve().parents[2] / "shared"
MODEL = SHARED / "models" / "fastscnn_camvid.onnx"
VAL = SHARED / "data" / "camvid" / "val"
CLASSES = label_set("camvid")
IGNORE = 11
TOLERANCE = 3
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


def boundary(mask: np.ndarray) -> np.ndarray:
    """Pixels of a mask that touch its outside."""
    return (mask - cv2.erode(mask, np.ones((3, 3), np.uint8))).astype(np.uint8)


def near(mask: np.ndarray) -> np.ndarray:
    """Pixels within the tolerance of a mask."""
    side = 2 * TOLERANCE + 1
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    return cv2.dilate(mask, kernel) > 0


def boundary_f(truth: np.ndarray, labels: np.ndarray) -> list[float]:
    """F score of each class's boundary in one image."""
    scores = []
    for label in range(len(CLASSES)):
        ours, theirs = (
            boundary(((m == label) & (truth != IGNORE)).astype(np.uint8)) for m in (labels, truth)
        )
        if not ours.any() and not theirs.any():
            continue
        precision = (ours > 0) & near(theirs)
        recall = (theirs > 0) & near(ours)
        p = precision.sum() / max(ours.sum(), 1)
        r = recall.sum() / max(theirs.sum(), 1)
        scores.append(2 * p * r / (p + r) if p + r > 0 else 0.0)
    return scores


def pairs(count: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Ground truth and the network's labels of each image."""
    card = carried_card()
    found = []
    with segedge.load(MODEL, backend="onnxruntime", card=card) as segmenter:
        for path in sorted((VAL / "images").iterdir())[:count]:
            truth = cv2.imread(str(VAL / "labels" / f"{path.stem}.png"), cv2.IMREAD_UNCHANGED)
            found.append((truth, segmenter(cv2.imread(str(path))).labels.copy()))
    return found


def carried_card() -> ModelCard:
    """What the model's README says of it; the tail stays in the graph."""
    return ModelCard(
        CLASSES.names, CLASSES.palette_rgb, 352, 480, mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225), stride=1,
    )  # fmt: skip


def score(images: list[tuple[np.ndarray, np.ndarray]], cleaning: Cleaning) -> dict[str, object]:
    """mIoU, boundary F and changed pixels, in percent, and IoU by class."""
    count = len(CLASSES)
    confusion = np.zeros((count, count), np.int64)
    edges: list[float] = []
    changed = 0.0
    for truth, labels in images:
        cleaned = labels if cleaning.is_off else clean(labels, cleaning, CLASSES.names)
        changed += float((cleaned != labels).mean())
        known = truth != IGNORE
        index = truth[known].astype(np.int64) * count + cleaned[known]
        confusion += np.bincount(index, minlength=count**2).reshape(count, count)
        edges += boundary_f(truth, cleaned)
    hits = np.diag(confusion)
    iou = 100 * hits / np.maximum(confusion.sum(0) + confusion.sum(1) - hits, 1)
    return {
        "miou": float(iou.mean()),
        "boundary_f": 100 * float(np.mean(edges)),
        "changed": 100 * changed / len(images),
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

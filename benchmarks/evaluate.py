"""Is `segedge eval` the slow path? Images a second of eval, of run, and of the usual script.

The trained Fast-SCNN of `../shared/models` on CamVid val, labels at 360x480, ONNX Runtime with two
threads: every variant reads the same JPEG files and calls the same network.

    python benchmarks/evaluate.py [--rounds 3] [--images 101] [--save]
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import harness
import numpy as np
from cleaning import CLASSES, MODEL, VAL, carried_card
from harness import Samples

import segedge
from segedge.card.geometry import Size
from segedge.measure.datasets.datasets import open_dataset
from segedge.measure.evaluate.evaluate import evaluate
from segedge.video.sinks.open import SinkOptions, open_sink
from segedge.video.sources.images import ImageFiles

THREADS = 2
INCLUDES = {
    "rate": "whole images a second, from the first read to the last score or file; opening and "
    "warming up are not in it",
    "miou": "mean IoU over the classes, where the variant counts it: the same for the same labels",
}
UNITS = {"rate": "/s", "miou": "%"}
TOLD = {
    "run": "segedge run without an output, its labels computed",
    "run masks": "segedge run -o masks/ --masks labels",
    "eval": "segedge eval --no-boundary",
    "eval boundary": "segedge eval",
    "eval slide": "segedge eval --slide auto --no-boundary: two windows an image",
    "script": "OpenCV, NumPy and ONNX Runtime one after the other, scores by np.bincount",
    "torchmetrics": "the same with torchmetrics' MulticlassJaccardIndex",
}


def _run(count: int, *, masks: bool) -> Samples:
    """`segedge run` over the images."""
    with segedge.load(MODEL, backend="onnxruntime", card=carried_card(), threads=THREADS) as model:
        model.warm_up(Size(360, 480), outputs=("labels",))
        source = ImageFiles(_files(count))
        with tempfile.TemporaryDirectory() as folder:
            if masks:
                place = f"{folder}/masks/"
                sink = open_sink(place, info=source.info, masks="labels", options=SinkOptions())
            else:
                sink = segedge.CallableSink(lambda frame, result: None, needs={"labels"})
            started = time.perf_counter()
            segedge.Pipeline(source, model, [sink]).run()
            return {"rate": [count / (time.perf_counter() - started)]}


def _eval(count: int, *, boundary: bool, slide: segedge.Slide | None = None) -> Samples:
    """`segedge eval`."""
    with segedge.load(
        MODEL, backend="onnxruntime", card=carried_card(), threads=THREADS, slide=slide
    ) as model:
        data = open_dataset(VAL, card_classes=CLASSES.names, ignore_index=CLASSES.ignore_index)
        found = evaluate(model, data, boundary=boundary, limit=count)
    return {"rate": [found.count / found.seconds], "miou": [100 * found.miou]}


def _script(count: int, *, torchmetrics: bool) -> Samples:
    """What a user writes: read, resize, normalise, run, argmax, count."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    session = onnxruntime.InferenceSession(str(MODEL), options, ["CPUExecutionProvider"])
    session.run(None, {"image": np.zeros((1, 3, 352, 480), np.float32)})
    mean = np.array((0.485, 0.456, 0.406), np.float32)
    std = np.array((0.229, 0.224, 0.225), np.float32)
    classes = len(CLASSES)
    matrix = np.zeros((classes, classes), np.int64)
    add, miou = _metric(classes) if torchmetrics else (None, None)
    started = time.perf_counter()
    for path in _files(count):
        image = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
        truth = cv2.imread(str(VAL / "labels" / f"{path.stem}.png"), cv2.IMREAD_UNCHANGED)
        small = cv2.resize(image, (480, 352)).astype(np.float32) / 255
        tensor = ((small - mean) / std).transpose(2, 0, 1)[None]
        logits = session.run(None, {"image": np.ascontiguousarray(tensor)})[0][0]
        whole = cv2.resize(logits.transpose(1, 2, 0), (truth.shape[1], truth.shape[0]))
        labels = whole.argmax(axis=2)
        if add is not None:
            add(labels, truth)
            continue
        counted = truth < classes
        pairs = truth[counted].astype(int) * classes + labels[counted]
        matrix += np.bincount(pairs, minlength=classes**2).reshape(classes, classes)
    if miou is not None:
        value = miou()
    else:
        hits = np.diag(matrix)
        value = float(np.mean(hits / (matrix.sum(0) + matrix.sum(1) - hits)))
    return {"rate": [count / (time.perf_counter() - started)], "miou": [100 * value]}


def _metric(
    classes: int,
) -> tuple[Callable[[np.ndarray, np.ndarray], None], Callable[[], float]]:
    import torch
    from torchmetrics.classification import MulticlassJaccardIndex

    torch.set_num_threads(THREADS)
    metric = MulticlassJaccardIndex(classes, ignore_index=classes)

    def add(labels: np.ndarray, truth: np.ndarray) -> None:
        metric.update(torch.from_numpy(labels)[None], torch.from_numpy(truth.astype(int))[None])

    return add, lambda: float(metric.compute())


def _files(count: int) -> list[Path]:
    return sorted((VAL / "images").iterdir())[:count]


VARIANTS: dict[str, Callable[[int], Samples]] = {
    "run": lambda count: _run(count, masks=False),
    "run masks": lambda count: _run(count, masks=True),
    "eval": lambda count: _eval(count, boundary=False),
    "eval boundary": lambda count: _eval(count, boundary=True),
    "eval slide": lambda count: _eval(count, boundary=False, slide=segedge.Slide()),
    "script": lambda count: _script(count, torchmetrics=False),
    "torchmetrics": lambda count: _script(count, torchmetrics=True),
}


def main() -> None:
    """Measure, print, save."""
    parser = harness.parser_of(__doc__, rounds=3, seconds=1.0)
    parser.add_argument("--images", type=harness.positive(int), default=101)
    options = harness.parsed(parser)
    if not MODEL.is_file() or not VAL.is_dir():
        sys.exit("evaluate.py: nothing to measure here: ../shared has the network and CamVid")
    count = min(8 if options.quick else options.images, len(_files(1 << 20)))
    if options.variant:
        print(json.dumps(VARIANTS[options.variant](count)))
        return
    run = harness.Run.begin(options)
    turns = run.in_turn(__file__, tuple(VARIANTS), also={"images": count})
    print(f"{count} images\n\n{'variant':16}{'images/s':>9}{'mIoU':>8}  what")
    for name, told in TOLD.items():
        cells = []
        for quantity, width in (("rate", 9), ("miou", 8)):
            value = turns.median(name, quantity)
            cells.append(f"{'-' if value is None else f'{value:.2f}':>{width}}")
        print(f"{name:16}{''.join(cells)}  {told}")
    settings = {"images": count, "threads": THREADS, "variants": TOLD}
    run.write("evaluate", INCLUDES, turns.figures(UNITS), settings, skipped=turns.skipped)


if __name__ == "__main__":
    main()

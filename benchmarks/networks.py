"""Which families of networks work, and how nearly they say what their own pipelines say.

    python benchmarks/networks.py [--only NAME ...] [--images 20] [--quick] [--save]

Each family is a small random network (see `frames/families.py`, also for how its head is made to
say several classes), written as its users have it, exported, and run on CamVid images beside the
family's own way: its image processor, its model in PyTorch and its post-processing. Where a
processor cuts the centre, pixels are compared inside it, at the network's own size: Hugging Face's
post-processing stretches the crop's labels over the whole image.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import harness
import numpy as np
from document import Figure
from frames.families import PER_PIXEL, Family, save
from frames.mask_families import MASKS
from numpy.typing import NDArray
from PIL import Image

import segedge
from segedge.card.geometry import Geometry, Size
from segedge.errors import SegedgeError
from segedge.options.sliding import Slide
from segedge.reference import frame as reference

FAMILIES: dict[str, Family] = {**PER_PIXEL, **MASKS}
CAMVID = Path(__file__).resolve().parents[2] / "shared" / "data" / "camvid"
SETTLED_ON = 4
"""Images that a network's head is set on; not those that it is measured on."""
INCLUDES = {
    "equal pixels": "share of pixels with the label of the family's own pipeline, an image each",
    "itself, rounded": "the own pipeline and itself with its input moved by 1e-4 (std, normalised)",
    "itself, a level off": "the same, each value of the input moved by -1, 0 or 1 grey level",
    "segedge": "an image in memory to labels of its size: preprocessing, ONNX Runtime, tail",
    "own pipeline": "the same by the family's processor, its model in PyTorch, post-processing",
    "transformers.pipeline": "the same model by pipeline('image-segmentation'): a mask a class",
}


@dataclass(frozen=True)
class Outcome:
    """What came of one family."""

    tail: str = ""
    """What was cut from the graph's end."""
    classes: int = 0
    """How many classes occur in the family's own labels."""
    equal: tuple[float, ...] = ()
    """Share of equal pixels, an image each."""
    ours_ms: tuple[float, ...] = ()
    own_ms: tuple[float, ...] = ()
    pipeline_ms: tuple[float, ...] = ()
    """By ``transformers.pipeline``; 0 where its processor is none of transformers'."""
    rounded: tuple[float, ...] = ()
    """Share of pixels that the own way leaves equal when its input is moved by rounding."""
    level_off: tuple[float, ...] = ()
    """The same for values up to a grey level off."""
    refused: str = ""
    """Why it was not exported."""


def images_of(split: str, count: int) -> list[Image.Image]:
    """Evenly chosen CamVid images."""
    files = sorted((CAMVID / split / "images").iterdir())
    return [Image.open(file).convert("RGB") for file in files[:: max(1, len(files) // count)]][
        :count
    ]


def try_family(
    family: Family, settled: Sequence[Image.Image], shown: Sequence[Image.Image]
) -> Outcome:
    """Make a family's network, export it and show images to both."""
    import torch

    with tempfile.TemporaryDirectory() as temporary, torch.inference_mode(False):
        folder = Path(temporary) / "network"
        model, processor = save(family, folder, settled)
        given = {**family.options}
        if "size" in given:
            given["size"] = Size(*given["size"])
        options = segedge.ExportOptions(verify=CAMVID / "val" / "images", verify_images=4, **given)
        try:
            report = segedge.export(folder, Path(temporary) / "network.onnx", options=options)
        except SegedgeError as error:
            return Outcome(refused=str(error).splitlines()[0])
        tail = ", ".join(report.tail.removed) if report.tail.cut else report.tail.reason
        pipe = _pipeline(model, processor)
        slide = Slide(overlap=0) if family.slides else None
        with segedge.load(report.path, backend="onnxruntime", slide=slide) as segmenter:
            rows = [_compared(segmenter, model, processor, pipe, image, family) for image in shown]
    seen = np.unique(np.concatenate([row[1] for row in rows]))
    columns = zip(*(row[0] for row in rows), strict=True)
    return Outcome(tail, len(seen), *columns)


def _pipeline(model: Any, processor: Any) -> Callable[[Image.Image], object] | None:
    """``transformers.pipeline``, where the processor is transformers' own."""
    import transformers as hf

    if not isinstance(processor, hf.image_processing_utils.BaseImageProcessor):
        return None
    pipe = hf.pipeline("image-segmentation", model=model, image_processor=processor)
    return lambda image: pipe(image, subtask="semantic")


def _compared(
    segmenter: Any, model: Any, processor: Any, pipe: Any, image: Image.Image, family: Family
) -> tuple[tuple[float, ...], NDArray[Any]]:
    """An image's share of equal pixels, times, and the own way beside itself; classes of it."""
    bgr = cv2.cvtColor(np.asarray(image), cv2.COLOR_RGB2BGR)
    start = time.perf_counter()
    result = segmenter(bgr, outputs=["labels"])
    ours, ours_ms = result.labels, 1e3 * (time.perf_counter() - start)
    size = (image.height, image.width)
    if family.crops:
        network = segmenter.card.input_size
        size = (network.height, network.width)
        geometry = Geometry(network, network, 0, 0, network)
        ours = reference.labels(result.logits, segmenter.card, geometry)
    start = time.perf_counter()
    own = own_labels(model, processor, image, size, family.asked)
    own_ms = 1e3 * (time.perf_counter() - start)
    start = time.perf_counter()
    if pipe is not None:
        pipe(image)
    pipeline_ms = 1e3 * (time.perf_counter() - start) if pipe is not None else 0.0
    beside = [
        float(np.mean(own == own_labels(model, processor, image, size, family.asked, moved)))
        for moved in (_rounded, _a_level_off)
    ]
    times = (ours_ms, own_ms, pipeline_ms)
    return (float(np.mean(ours == own)), *times, *beside), np.unique(own)


def _rounded(tensor: Any, _std: Any) -> Any:
    """About what single precision leaves undecided behind some layers."""
    import torch

    return tensor + 1e-4 * torch.randn(tensor.shape, generator=torch.Generator().manual_seed(0))


def _a_level_off(tensor: Any, std: Any) -> Any:
    """What another resampling of the same filter makes of an image."""
    import torch

    seeded = torch.Generator().manual_seed(0)
    levels = torch.randint(-1, 2, tensor.shape, generator=seeded)
    return tensor + levels / 255 / torch.tensor(std).reshape(1, -1, 1, 1)


def own_labels(
    model: Any,
    processor: Any,
    image: Image.Image,
    size: tuple[int, int],
    asked: dict[str, Any],
    moved: Callable[[Any, Any], Any] | None = None,
) -> NDArray[Any]:
    """The family's own way from an image to labels of a size, with its input moved."""
    import torch

    given = processor(images=image, return_tensors="pt", **asked)
    if moved is not None:
        std = processor.image_std if getattr(processor, "do_normalize", True) else 1.0
        given["pixel_values"] = moved(given["pixel_values"], std or 1.0)
    with torch.no_grad():
        outputs = model(**given)
    found = processor.post_process_semantic_segmentation(outputs, target_sizes=[size])
    return np.asarray(found[0].numpy())


def main(words: Sequence[str] | None = None) -> None:
    """Measure, print the table, write it where it is asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="*", help=f"any of {', '.join(FAMILIES)}")
    parser.add_argument("--images", type=harness.positive(int), default=20)
    parser.add_argument("--quick", action="store_true", help="two images: does it run?")
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/")
    options = parser.parse_args(words)
    run = harness.Run.begin(options)
    settled = images_of("train", SETTLED_ON)
    shown = images_of("val", 2 if options.quick else options.images)
    outcomes = {}
    for name in options.only or FAMILIES:
        outcomes[name] = try_family(FAMILIES[name], settled, shown)
        print(row_of(name, outcomes[name]), flush=True)
    figures = [figure for name, found in outcomes.items() for figure in _figures(name, found)]
    details = {name: _details(FAMILIES[name], found) for name, found in outcomes.items()}
    skipped = {name: found.refused for name, found in outcomes.items() if found.refused}
    settings = {"images": len(shown), "settled_on": SETTLED_ON}
    run.write("networks", INCLUDES, figures, settings, details=details, skipped=skipped)


def _figures(name: str, found: Outcome) -> list[Figure]:
    """The figures of a family that was exported; the first image warms up and has no times."""
    if found.refused:
        return []
    return [
        Figure.of(name, "equal pixels", [found.equal], unit="share"),
        Figure.of(name, "itself, rounded", [found.rounded], unit="share"),
        Figure.of(name, "itself, a level off", [found.level_off], unit="share"),
        Figure.of(name, "segedge", [found.ours_ms[1:]]),
        Figure.of(name, "own pipeline", [found.own_ms[1:]]),
        *(
            [Figure.of(name, "transformers.pipeline", [found.pipeline_ms[1:]])]
            if any(found.pipeline_ms)
            else []
        ),
    ]


def _details(family: Family, found: Outcome) -> dict[str, Any]:
    kept = {key: value for key, value in asdict(found).items() if key in ("tail", "classes")}
    mean = float(np.mean(found.equal)) if found.equal else None
    return {**kept, "give": family.give, "equal": mean}


def row_of(name: str, found: Outcome) -> str:
    """A row of the table in docs/networks.md."""
    if found.refused:
        return f"| {name} | refused: {found.refused} |"
    speed, whole = (
        np.median(times[1:]) / np.median(found.ours_ms[1:])
        for times in (found.own_ms, found.pipeline_ms)
    )
    return (
        f"| {name} | yes | {found.tail} | {100 * np.mean(found.equal):.2f} % "
        f"(worst {100 * min(found.equal):.2f} %) | "
        f"{100 * np.mean(found.rounded):.2f} % | {100 * np.mean(found.level_off):.2f} % | "
        f"{speed:.1f}x | {whole:.1f}x | "
        f"{FAMILIES[name].give or 'the folder'} | {found.classes} classes |"
    )


if __name__ == "__main__":
    main()

"""Which families of networks work, and how nearly they say what their own pipelines say.

    python benchmarks/networks.py [--only NAME ...] [--images 20] [--quick] [--save]

Each family is a small random network (see `frames/families.py`, also for how its head is made to
say several classes), written as its users have it, exported, and run on CamVid images beside the
family's own way: its image processor, its model in PyTorch and its post-processing. Each way shows
all images before the next one begins, as threads of both would be in each other's way. Where a
processor cuts the centre, pixels are compared inside it, at the network's own size: Hugging Face's
post-processing stretches the crop's labels over the whole image.
"""

from __future__ import annotations

import tempfile
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
from segedge.card.modelfile import require_card
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
    """By ``transformers.pipeline``; empty where its processor is none of transformers'."""
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
        inside = require_card(report.path).input_size if family.crops else None
        own = [_own_way(model, processor, image, family, inside) for image in shown]
        pipeline_ms = _pipeline_ms(model, processor, shown)
        slide = Slide(overlap=0) if family.slides else None
        # Opened last: threads that wait for the next image of one library slow another's down.
        with segedge.load(report.path, backend="onnxruntime", slide=slide) as segmenter:
            ours = [_ours(segmenter, image, inside) for image in shown]
    return Outcome(
        tail=tail,
        classes=len(np.unique(np.concatenate([np.unique(one.labels) for one in own]))),
        equal=tuple(float(np.mean(a.labels == b.labels)) for a, b in zip(ours, own, strict=True)),
        ours_ms=tuple(one.ms for one in ours),
        own_ms=tuple(one.ms for one in own),
        pipeline_ms=pipeline_ms,
        rounded=tuple(one.beside[0] for one in own),
        level_off=tuple(one.beside[1] for one in own),
    )


@dataclass(frozen=True)
class _Labelled:
    """What one way makes of an image."""

    labels: NDArray[Any]
    ms: float
    beside: tuple[float, ...] = ()
    """Share of labels that stay when the input is moved, a way of moving each."""


def _pipeline_ms(model: Any, processor: Any, shown: Sequence[Image.Image]) -> tuple[float, ...]:
    """``transformers.pipeline``, an image each; empty where the processor is none of theirs."""
    import transformers as hf

    if not isinstance(processor, hf.image_processing_utils.BaseImageProcessor):
        return ()
    pipe = hf.pipeline("image-segmentation", model=model, image_processor=processor)
    watch, times = harness.Stopwatch(), []
    for image in shown:
        watch.lap()
        pipe(image, subtask="semantic")
        times.append(watch.lap())
    return tuple(times)


def _own_way(
    model: Any, processor: Any, image: Image.Image, family: Family, inside: Size | None
) -> _Labelled:
    """The family's own labels, and how far it agrees with itself."""
    size = inside or Size(image.height, image.width)
    watch = harness.Stopwatch()
    own = own_labels(model, processor, image, size, family.asked)
    ms = watch.lap()
    beside = tuple(
        float(np.mean(own == own_labels(model, processor, image, size, family.asked, moved)))
        for moved in (_rounded, _a_level_off)
    )
    return _Labelled(own, ms, beside)


def _ours(segmenter: Any, image: Image.Image, inside: Size | None) -> _Labelled:
    """Labels by segedge; where the processor crops, at the network's size."""
    bgr = cv2.cvtColor(np.asarray(image), cv2.COLOR_RGB2BGR)
    watch = harness.Stopwatch()
    result = segmenter(bgr, outputs=["labels"])
    labels, ms = result.labels, watch.lap()
    if inside is not None:
        geometry = Geometry(inside, inside, 0, 0, inside)
        labels = reference.labels(result.logits, segmenter.card, geometry)
    return _Labelled(labels, ms)


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
    size: Size,
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
    found = processor.post_process_semantic_segmentation(
        outputs, target_sizes=[(size.height, size.width)]
    )
    return np.asarray(found[0].numpy())


def main(words: Sequence[str] | None = None) -> None:
    """Measure, print the table, write it where it is asked for."""
    parser = harness.saving_parser(__doc__, quick="two images: does it run?")
    parser.add_argument("--only", nargs="*", help=f"any of {', '.join(FAMILIES)}")
    parser.add_argument("--images", type=harness.positive(int), default=20)
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
            if found.pipeline_ms
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
        f"{np.median(times[1:]) / np.median(found.ours_ms[1:]):.1f}x" if times else ""
        for times in (found.own_ms, found.pipeline_ms)
    )
    return (
        f"| {name} | yes | {found.tail} | {100 * np.mean(found.equal):.2f} % "
        f"(worst {100 * min(found.equal):.2f} %) | "
        f"{100 * np.mean(found.rounded):.2f} % | {100 * np.mean(found.level_off):.2f} % | "
        f"{speed} | {whole} | "
        f"{FAMILIES[name].give or 'the folder'} | {found.classes} classes |"
    )


if __name__ == "__main__":
    main()

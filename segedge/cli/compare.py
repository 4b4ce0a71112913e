"""`segedge compare`: two models, or two backends, on the same images."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

from segedge.cli.console import check_folder, frame_progress, print_json, print_prose, print_row
from segedge.convert.images import image_files, read_images, smooth_noise
from segedge.errors import SourceError, UsageError
from segedge.evaluate.agreement import Agreement, check_classes, compare
from segedge.evaluate.difference import difference_picture
from segedge.segmenter import load

Named = tuple[str, NDArray[np.uint8]]


def compare_command(
    first: Annotated[str, typer.Argument(help="The reference: MODEL or MODEL@BACKEND.")],
    second: Annotated[str, typer.Argument(help="What is compared: MODEL or MODEL@BACKEND.")],
    images: Annotated[
        str | None, typer.Option(help="Image, folder, glob or video; default: smooth noise.")
    ] = None,
    limit: Annotated[int, typer.Option(help="How many images at most, evenly sampled.")] = 64,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="PNG of where they differ most.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for machines.")] = False,
) -> None:
    """Compare the labels and logits of two models or backends on the same images.

    Pixels that are a tie in the first, its two best logits within 1e-4 of their range, are left
    out and counted.
    """
    _check_picture(out)
    if limit < 1:
        raise UsageError("--limit must be positive", facts={"found": str(limit)}, fix="--limit 64")
    (path_a, backend_a), (path_b, backend_b) = map(parse_model, (first, second))
    with load(path_a, backend=backend_a) as one, load(path_b, backend=backend_b) as two:
        check_classes(one.card, two.card)
        pictures = list(_images(images, limit, one.card.input_size))
        with frame_progress() as progress:
            shown = progress.track(pictures, description="comparing")
            found = compare(one, two, shown)
        if out is not None:
            image = dict(pictures)[found.worst.name]
            _write(out, difference_picture(one, two, image))
        names = {
            "first": f"{path_a.name} on {one.backend_name}",
            "second": f"{path_b.name} on {two.backend_name}",
        }
    if as_json:
        print_json(_as_data(found, names, images))
        return
    _print(found, names, images)
    if out is not None:
        print_row("wrote", f"{out}  first, second, difference on {found.worst.name}")
    print_row("next", f"segedge run {path_b} video.mp4 -o out.mp4")


def parse_model(text: str) -> tuple[Path, str]:
    """``model.onnx@openvino:f32`` as path and backend; a file of the whole name wins."""
    path, at, backend = text.rpartition("@")
    if not at or Path(text).exists():
        return Path(text), "auto"
    return Path(path), backend


def _images(where: str | None, limit: int, size: Any) -> Iterator[Named]:
    if where is None:
        yield from ((f"noise {i}", image) for i, image in enumerate(smooth_noise(size)))
        return
    try:
        for file in image_files(where, limit):
            found = list(read_images([file], limit))
            for index, image in enumerate(found):
                yield (file.name if len(found) == 1 else f"{file.name} frame {index}"), image
    except SourceError as error:
        # It speaks of the exporter's option.
        fix = "--images IMAGE, FOLDER, 'GLOB' or VIDEO"
        raise SourceError(error.headline, facts=error.facts, fix=fix) from error


def _check_picture(out: Path | None) -> None:
    """A wrong output is found before anything runs."""
    if out is None:
        return
    if out.suffix.lower() != ".png":
        raise UsageError(f"{out} is no .png file", fix=f"-o {out.with_suffix('.png')}")
    check_folder(out)


def _write(out: Path, picture: NDArray[np.uint8]) -> None:
    import cv2

    from segedge.video.output import write_atomically

    write_atomically(out, bytes(cv2.imencode(".png", picture)[1]))


def _print(found: Agreement, names: dict[str, str], images: str | None) -> None:
    for text in found.findings:
        print_prose("found", text)
    for label, text in names.items():
        print_row(label, text)
    what = images or "smooth noise: a weak test; --images FOLDER takes yours"
    print_row("images", f"{len(found.images)}  {what}")
    error = found.max_logit_error
    print_row(
        "pixels",
        f"{100 * found.agreement:.3f} % equal, {100 * found.ambiguous:.3f} % ambiguous left out"
        + (f"; max logit error {error:.2g}" if error is not None else ""),
    )
    print_row("worst", f"{100 * found.worst.agreement:.3f} % on {found.worst.name}")
    for name, share in found.class_agreement.items():
        print_row("class", f"{name:<20} " + ("-" if share is None else f"{100 * share:8.3f} %"))
    print_row("", "class: pixels that both give it, of those that either does (IoU of the two)")


def _as_data(found: Agreement, names: dict[str, str], images: str | None) -> dict[str, Any]:
    return {
        **names,
        "images": images or "noise",
        "findings": list(found.findings),
        "agreement": found.agreement,
        "ambiguous": found.ambiguous,
        "max_logit_error": found.max_logit_error,
        "class_agreement": found.class_agreement,
        "per_image": [
            {"name": i.name, "agreement": i.agreement, "max_logit_error": i.max_logit_error}
            for i in found.images
        ],
    }

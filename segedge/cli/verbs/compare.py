"""`segedge compare`: two models, or two backends, on the same images."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
import typer
from numpy.typing import NDArray

from segedge.cli.checked import checked_dict, print_checked
from segedge.cli.console import check_folder, print_json, print_row
from segedge.cli.groups import Option
from segedge.cli.options import AsJson, CheckGroup, SlideGroup
from segedge.cli.progress import frame_progress
from segedge.cli.verbs.compare_report import as_data, print_agreement
from segedge.cli.verbs.labelled import DataGroup
from segedge.convert.noise import smooth_noise
from segedge.errors import UsageError
from segedge.measure.evaluate.agreement import Pair, check_classes, compare
from segedge.measure.evaluate.difference import draw_pair
from segedge.reference.agreement import LabelCount
from segedge.segment.load import load

if TYPE_CHECKING:
    from segedge.card.labels import Rgb
    from segedge.measure.evaluate.versus import Versus

Named = tuple[str, NDArray[np.uint8]]
_INCOMPLETE = 1
_MOST_IMAGES = 64


@dataclass(frozen=True, kw_only=True)
class ImagesGroup:
    """What both are run on."""

    panel: ClassVar[str] = "Images"
    images: Annotated[str | None, "Image, folder, glob or video; default: smooth noise."] = None
    dataset: Annotated[Path | None, "A labelled data set: mIoU of both; docs/evaluate.md."] = None
    labels: DataGroup
    limit: Annotated[
        int | None, "How many images at most, evenly sampled; 64, of a data set all."
    ] = None

    def __post_init__(self) -> None:
        if self.images is not None and self.dataset is not None:
            headline = "--images and --dataset both say what to look at"
            raise UsageError(headline, fix="give one of them")
        if self.limit is not None and self.limit < 1:
            facts = {"found": str(self.limit)}
            raise UsageError("--limit must be positive", facts=facts, fix="--limit 64")


def compare_command(
    first: Annotated[str, typer.Argument(help="The reference: MODEL or MODEL@BACKEND.")],
    second: Annotated[str, typer.Argument(help="What is compared: MODEL or MODEL@BACKEND.")],
    *,
    on: ImagesGroup,
    worst: Annotated[int, Option("How many of the worst images to name.", min=0)] = 3,
    out: Annotated[
        Path | None, Option("x.png: where they differ most; folder/: every image.", "-o --out")
    ] = None,
    slide: SlideGroup,
    check: CheckGroup,
    as_json: AsJson = False,
) -> None:
    """Compare the labels and logits of two models or backends on the same images.

    Pixels that are a tie in the first, its two best logits within 1e-4 of their range, are left
    out and counted. Exit code 1: done, but images of the data set could not be read or have no
    labels.
    """
    drawing = _Drawing(out)
    (path_a, backend_a), (path_b, backend_b) = map(parse_model, (first, second))
    with (
        load(path_a, backend=backend_a, slide=slide.value, **check.words) as one,
        load(path_b, backend=backend_b, slide=slide.value, **check.words) as two,
    ):
        check_classes(one.card, two.card)
        drawing.palette_rgb = one.card.palette_rgb
        scores = None
        if on.dataset is None:
            most = on.limit or _MOST_IMAGES
            pictures = list(named_images(on.images, most, one.card.input_size))
            with frame_progress() as progress:
                shown = progress.track(pictures, description="comparing")
                found = compare(one, two, shown, each=drawing.add)
        else:
            data = on.labels.open(on.dataset, one.card)
            scores = _on_labels(one, two, data, on.limit, drawing)
            found = scores.agreement
        names = {
            "first": f"{path_a.name} on {one.backend_name}",
            "second": f"{path_b.name} on {two.backend_name}",
        }
    wrote = drawing.finish()
    if as_json:
        plain = as_data(found, names, str(on.dataset or on.images or "noise"), scores)
        print_json({**plain, "checked": [checked_dict(one), checked_dict(two)]})
    else:
        told = str(on.images or "smooth noise: a weak test; --images FOLDER takes yours")
        told = scores.dataset.name if scores is not None else told
        print_agreement(found, names, told, scores=scores, worst=worst)
        print_checked(one, "first ")
        print_checked(two, "second ")
        if wrote:
            print_row("wrote", wrote)
        print_row("next", f"segedge run {path_b} video.mp4 -o out.mp4")
    if scores is not None and (scores.failures or scores.dataset.missing):
        raise typer.Exit(_INCOMPLETE)


def _on_labels(one: Any, two: Any, data: Any, limit: int | None, drawing: _Drawing) -> Versus:
    """Both on a data set, with a bar."""
    from segedge.measure.evaluate.versus import compare_on

    with frame_progress() as progress:
        task = progress.add_task("comparing", total=min(limit or len(data), len(data)))

        def each(pair: Pair) -> None:
            drawing.add(pair)
            progress.advance(task)

        return compare_on(one, two, data, limit=limit, each=each)


class _Drawing:
    """Pictures of where they differ: of the worst image into a file, or of all into a folder."""

    def __init__(self, out: Path | None) -> None:
        """A wrong output is found before anything runs."""
        self._out = out
        self._is_folder = out is not None and (out.is_dir() or not out.suffix)
        self._worst: tuple[float, str, bytes] | None = None
        self._count = 0
        self.palette_rgb: tuple[Rgb, ...] = ()
        if out is not None and not self._is_folder and out.suffix.lower() != ".png":
            fix = f"-o {out.with_suffix('.png')}, or -o {out.with_suffix('')}/ for a folder"
            raise UsageError(f"{out} is no .png file", fix=fix)
        if out is not None and not out.is_dir():
            check_folder(out)

    def add(self, pair: Pair) -> None:
        """Draw a pair where it is wanted."""
        if self._out is None:
            return
        equal = LabelCount.of(pair.states == 0, pair.states != 2).agreement
        if self._is_folder:
            stem = Path(pair.name).stem.replace(" ", "-")
            self._out.mkdir(exist_ok=True)
            _write(self._out / f"{self._count:04d}-{stem}.png", self._drawn(pair))
        elif self._worst is None or equal < self._worst[0]:
            self._worst = equal, pair.name, self._drawn(pair)
        self._count += 1

    def _drawn(self, pair: Pair) -> bytes:
        import cv2

        return bytes(cv2.imencode(".png", draw_pair(pair, self.palette_rgb))[1])

    def finish(self) -> str:
        """What was written, in words; empty: nothing."""
        if self._out is None:
            return ""
        if self._is_folder:
            return f"{self._out}/  {self._count} pictures: first, second, difference"
        if self._worst is None:
            return ""
        _write(self._out, self._worst[2])
        return f"{self._out}  first, second, difference on {self._worst[1]}"


def parse_model(text: str) -> tuple[Path, str]:
    """``model.onnx@openvino:f32`` as path and backend; a file of the whole name wins."""
    path, at, backend = text.rpartition("@")
    if not at or Path(text).exists():
        return Path(text), "auto"
    return Path(path), backend


def named_images(where: str | None, limit: int, size: Any) -> Iterator[Named]:
    """Images by name from a file, folder, glob or video; of smooth noise where none are given."""
    if where is None:
        return ((f"noise {i}", image) for i, image in enumerate(smooth_noise(size)))
    from segedge.video.sources.sample import sample_images

    return iter(sample_images([where], limit=limit, option="--images"))


def _write(path: Path, data: bytes) -> None:
    from segedge.machine.files import write_atomically

    write_atomically(path, data)

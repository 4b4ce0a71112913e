"""What people do with pictures of results: show, save, and lay many out on one sheet."""

from __future__ import annotations

import io
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from segedge.errors import SourceError, UsageError, nearest_name, unknown_name_error
from segedge.frames.frame import Frame
from segedge.frames.protocols import ResultView
from segedge.machine.files import write_atomically
from segedge.video.formats import ALPHA_SUFFIXES, OVERLAY_SUFFIXES
from segedge.video.picture import over_checkerboard
from segedge.video.sinks.contact import TILE_WIDTH, draw_sheet
from segedge.video.sinks.panoptic import annotation, categories, encode_panoptic_png, panoptic_json
from segedge.video.sinks.png import encode_labels_png
from segedge.video.sinks.window import no_window_because


class FramedResult(ResultView, Protocol):
    """A result that knows its frame; the real one is `segedge.segment.result.Result`."""

    @property
    def frame(self) -> Frame:
        """The frame that was segmented."""


CONTENTS = ("picture", "labels", "palette", "panoptic")
"""What `save_result` writes."""


def save_result(result: FramedResult, path: Path, content: str) -> Path:
    """Write a result's picture or labels; see `segedge.segment.result.Result.save`."""
    if content not in CONTENTS:
        raise unknown_name_error("content", content, CONTENTS)
    suffix = path.suffix.lower()
    if suffix == ".npy":
        file = io.BytesIO()
        np.save(file, np.ascontiguousarray(result.labels))
        write_atomically(path, file.getvalue())
    elif content == "picture":
        write_atomically(path, _picture_bytes(result.overlay(), path))
    elif suffix != ".png":
        raise UsageError(f"{content} is a PNG, not {path.name}", fix=f"{path.with_suffix('.png')}")
    else:
        write_atomically(path, _labels_bytes(result, content))
        if content == "panoptic":
            found = [annotation(result, path.name, result.frame.index)]
            write_atomically(path.with_suffix(".json"), panoptic_json(found, categories(result)))
    return path


def _picture_bytes(image: NDArray[np.uint8], path: Path) -> bytes:
    known = ALPHA_SUFFIXES if image.shape[2] == 4 else OVERLAY_SUFFIXES
    if path.suffix.lower() not in known:
        near = nearest_name(path.suffix, known)
        what = "a picture with opacity" if image.shape[2] == 4 else "a picture"
        raise UsageError(
            f"cannot write {what} as {path.name}" + (f"; did you mean {near!r}?" if near else ""),
            facts={"known": " ".join((*known, ".npy (the labels)"))},
            fix=f"{path.with_suffix('.png')}",
        )
    return bytes(cv2.imencode(path.suffix.lower(), image)[1])


def _labels_bytes(result: FramedResult, content: str) -> bytes:
    if content == "panoptic":
        return encode_panoptic_png(result.labels, len(result.classes))
    palette = result.palette_rgb if content == "palette" else None
    return encode_labels_png(result.labels, palette_rgb=palette)


def show_picture(
    image: NDArray[np.uint8],
    png: Callable[[], bytes],
    *,
    why_no_window: Callable[[], str | None] = no_window_because,
) -> str:
    """Show a picture: in the notebook that runs this, else in a window, else as a file.

    Takes H x W x 3 or 4 uint8 BGR; returns ``notebook``, ``window``, or the path, printed too.
    """
    display = _notebook_display()
    if display is not None:
        display({"image/png": png()}, raw=True)
        return "notebook"
    if why_no_window() is None:
        cv2.imshow("segedge", over_checkerboard(image))
        cv2.waitKey(0)
        cv2.destroyWindow("segedge")
        return "window"
    with tempfile.NamedTemporaryFile(prefix="segedge-", suffix=".png", delete=False) as file:
        file.write(png())
    sys.stdout.write(f"{file.name}\n")
    return file.name


def _notebook_display() -> Any:
    """IPython's display function where a notebook runs this; a terminal shows no pictures."""
    ipython = sys.modules.get("IPython")  # a notebook has imported it
    shell = ipython and ipython.get_ipython()
    if not shell or not hasattr(shell, "kernel"):
        return None
    from IPython.display import display  # type: ignore[import-not-found, unused-ignore]

    return display


def contact_sheet(
    items: str | Path | Iterable[FramedResult | NDArray[np.uint8]],
    *,
    columns: int | None = None,
    tile_width: int = TILE_WIDTH,
    captions: Sequence[str] | None = None,
) -> NDArray[np.uint8]:
    """Many pictures on one sheet.

    Args:
        items: Results, pictures (H x W x 3 or 4 uint8 BGR), or a folder of picture files.
        columns: Pictures in a row; None: about 16:10 in all.
        tile_width: Width of each in pixels.
        captions: A line below each; None takes file names, where there are some.

    Returns:
        H x W x 3 uint8 BGR.

    Raises:
        UsageError: No pictures, or no columns.
        SourceError: The folder is missing or holds no picture.
    """
    if isinstance(items, str | Path):
        pictures, names = _folder_pictures(Path(items))
    else:
        pictures, names = [], []
        for item in items:
            if isinstance(item, np.ndarray):
                pictures.append(item)
                names.append("")
            else:
                pictures.append(item.overlay())
                names.append(Path(item.frame.name).name)
    shown = names if captions is None else list(captions)
    return draw_sheet(pictures, captions=shown, columns=columns, tile_width=tile_width)


def _folder_pictures(folder: Path) -> tuple[list[NDArray[np.uint8]], list[str]]:
    if not folder.is_dir():
        raise SourceError(f"no folder {folder}", fix="a folder of pictures, or results")
    paths = sorted(p for p in folder.iterdir() if p.suffix.lower() in OVERLAY_SUFFIXES)
    pictures, names = [], []
    for path in paths:
        data = np.frombuffer(path.read_bytes() or b"\0", np.uint8)
        image = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
        if image is None or image.dtype != np.uint8:
            continue
        if image.ndim == 2:
            image = cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)
        pictures.append(np.asarray(image, np.uint8))
        names.append(path.name)
    if not pictures:
        known = " ".join(OVERLAY_SUFFIXES)
        raise SourceError(f"no pictures in {folder}", facts={"known": known})
    return pictures, names

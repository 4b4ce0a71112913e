"""ImageSink and FolderSink: overlays and label maps as image files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import cv2

from segedge.errors import SinkError, UsageError
from segedge.frames.closing import check_takes
from segedge.frames.frame import Frame
from segedge.frames.protocols import ResultView
from segedge.machine.files import prepare_folder, same_file, write_atomically
from segedge.video.formats import ALPHA_SUFFIXES, OVERLAY_SUFFIXES
from segedge.video.sinks.names import FrameNames
from segedge.video.sinks.panoptic import annotation, categories, encode_panoptic_png, panoptic_json
from segedge.video.sinks.png import encode_labels_png

Picture = Literal["overlay", "cutout", "labels", "palette", "panoptic"]
"""What an image holds: the overlay (or another effect of three channels), one with opacity, or
labels: raw, with the palette, or as COCO's panoptic format has them."""

_JPEG_QUALITY = 95


class ImageSink:
    """One image file; a second frame is an error."""

    def __init__(self, path: str | Path, *, picture: Picture = "overlay") -> None:
        """Check the name and its folder, which is made where it is missing.

        Label maps (``labels``, ``palette``, ``panoptic``) are PNG only; panoptic ones have a
        ``.json`` of that name beside them.
        """
        self._path = Path(path)
        self._picture = picture
        self._encode = _encoder(picture, self._path.suffix.lower())
        self.needs = _NEEDS[picture]
        self.paths: Sequence[Path] = ()
        self.notes: Sequence[str] = ()
        self._is_closed = False
        prepare_folder(self._path.parent, purpose=self._path)

    def write(self, frame: Frame, result: ResultView) -> None:
        """Write the image; the name appears when it is whole. A second one is refused."""
        check_takes(not self._is_closed, self._path)
        if self.paths:
            raise SinkError(
                f"{self._path} is one image, and the source has more frames",
                fix=f"-o {self._path.with_suffix('')}/ writes one image a frame",
            )
        with frame.times.measure("encode"):
            _write(self._path, frame, self._encode(result))
            self.paths = (self._path,)
            if self._picture == "panoptic":
                beside = self._path.with_suffix(".json")
                found = [annotation(result, self._path.name, frame.index)]
                write_atomically(beside, panoptic_json(found, categories(result)))
                self.paths = (self._path, beside)

    def close(self, *, error: bool = False) -> None:
        """Nothing is open between frames."""
        self._is_closed = True


class FolderSink:
    """One image file a frame, in one folder; files of the same names are replaced."""

    def __init__(
        self,
        folder: str | Path,
        *,
        picture: Picture = "overlay",
        suffix: str | None = None,
        names: Callable[[Frame], str] | None = None,
    ) -> None:
        """Make the folder where it is missing; files are named as ``names`` or `FrameNames` says.

        No ``suffix`` is ``.jpg`` for overlays, else ``.png``. A folder of panoptic maps has a
        ``panoptic.json`` once it is closed.
        """
        self._folder = Path(folder)
        self._picture = picture
        self._annotations: list[Any] = []
        self._categories: list[Any] = []
        self._suffix = suffix or (".jpg" if picture == "overlay" else ".png")
        self._encode = _encoder(picture, self._suffix)
        self._names = names or FrameNames()
        self.needs = _NEEDS[picture]
        self.paths: Sequence[Path] = ()
        self.notes: Sequence[str] = ()
        self._is_closed = False
        prepare_folder(self._folder, purpose=self._folder)

    def write(self, frame: Frame, result: ResultView) -> None:
        """Write this frame's file; refused where it would replace the image that was read."""
        check_takes(not self._is_closed, self._folder)
        with frame.times.measure("encode"):
            path = self._folder / f"{self._names(frame)}{self._suffix}"
            _write(path, frame, self._encode(result))
            if self._picture == "panoptic":
                self._annotations.append(annotation(result, path.name, frame.index))
                self._categories = categories(result)
        self.paths = (self._folder,)

    def close(self, *, error: bool = False) -> None:
        """Write the segments of panoptic maps; every other file is whole already."""
        self._is_closed = True
        if self._annotations:
            data = panoptic_json(self._annotations, self._categories)
            write_atomically(self._folder / "panoptic.json", data)
            self._annotations = []


def _write(path: Path, frame: Frame, data: bytes) -> None:
    if frame.name and same_file(path, frame.name):
        raise SinkError(
            f"{path} is the image that was read", fix="choose another folder for the output"
        )
    write_atomically(path, data)


def _encoder(picture: Picture, suffix: str) -> Callable[[ResultView], bytes]:
    """The function that makes a file's bytes from a result."""
    known = {"overlay": OVERLAY_SUFFIXES, "cutout": ALPHA_SUFFIXES}.get(picture, (".png",))
    if suffix not in known:
        raise UsageError(
            f"cannot write {picture} as {suffix!r}",
            facts={"known": " ".join(known)},
            fix="-o out.png",
        )
    encoders: dict[Picture, Callable[[ResultView], bytes]] = {
        "overlay": lambda result: _encode_overlay(result, suffix),
        "cutout": lambda result: _encode_overlay(result, suffix),
        "panoptic": lambda result: encode_panoptic_png(result.labels, len(result.classes)),
        "labels": lambda result: encode_labels_png(result.labels),
        "palette": lambda result: encode_labels_png(result.labels, palette_rgb=result.palette_rgb),
    }
    return encoders[picture]


def _encode_overlay(result: ResultView, suffix: str) -> bytes:
    image = result.overlay()
    if image.shape[2] == 4 and suffix not in ALPHA_SUFFIXES:
        raise SinkError(
            f"{suffix} holds no opacity, and the pictures have one",
            facts={"known": " ".join(ALPHA_SUFFIXES)},
            fix="-o out.png",
        )
    options = [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY] if suffix in (".jpg", ".jpeg") else []
    return bytes(cv2.imencode(suffix, image, options)[1])


_NEEDS: dict[Picture, frozenset[str]] = {
    "overlay": frozenset({"overlay"}),
    "cutout": frozenset({"overlay"}),
    "panoptic": frozenset({"labels"}),
    "labels": frozenset({"labels"}),
    "palette": frozenset({"labels"}),
}

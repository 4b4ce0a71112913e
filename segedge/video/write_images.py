"""ImageSink and FolderSink: overlays and label maps as image files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import cv2

from segedge.errors import SinkError, UsageError
from segedge.frame import Frame
from segedge.video.output import (
    OVERLAY_SUFFIXES,
    FrameNames,
    prepare_folder,
    same_file,
    write_atomically,
)
from segedge.video.png import encode_labels_png
from segedge.video.protocols import ResultView

Picture = Literal["overlay", "labels", "palette"]

_JPEG_QUALITY = 95


class ImageSink:
    """One image file; a second frame is an error."""

    def __init__(self, path: str | Path, *, picture: Picture = "overlay") -> None:
        """Check the name and its folder, which is made where it is missing.

        Args:
            path: The file; its ending is the format.
            picture: What it shows. Label maps (``labels``, ``palette``) are PNG only.

        Raises:
            UsageError: The ending does not fit.
            SinkError: The folder cannot be written.
        """
        self._path = Path(path)
        self._encode = _encoder(picture, self._path.suffix.lower())
        self.needs = _NEEDS[picture]
        self.paths: Sequence[Path] = ()
        self.notes: Sequence[str] = ()
        prepare_folder(self._path.parent, purpose=self._path)

    def write(self, frame: Frame, result: ResultView) -> None:
        """Write the image; the name appears when it is whole.

        Raises:
            SinkError: It cannot be written, or is a second one.
        """
        if self.paths:
            raise SinkError(
                f"{self._path} is one image, and the source has more frames",
                fix=f"-o {self._path.with_suffix('')}/ writes one image a frame",
            )
        with frame.times.measure("encode"):
            _write(self._path, frame, self._encode(result))
        self.paths = (self._path,)

    def close(self, *, error: bool = False) -> None:
        """Nothing is open between frames."""


class FolderSink:
    """One image file a frame, in one folder; files of the same names are replaced."""

    def __init__(
        self, folder: str | Path, *, picture: Picture = "overlay", suffix: str | None = None
    ) -> None:
        """Make the folder where it is missing.

        Args:
            folder: Where the files go. They are named as `FrameNames` says.
            picture: What they show.
            suffix: Their format; None is ``.jpg`` for overlays and ``.png`` for label maps.

        Raises:
            UsageError: The ending does not fit.
            SinkError: The folder cannot be made or written.
        """
        self._folder = Path(folder)
        self._suffix = suffix or (".jpg" if picture == "overlay" else ".png")
        self._encode = _encoder(picture, self._suffix)
        self._names = FrameNames()
        self.needs = _NEEDS[picture]
        self.paths: Sequence[Path] = ()
        self.notes: Sequence[str] = ()
        prepare_folder(self._folder, purpose=self._folder)

    def write(self, frame: Frame, result: ResultView) -> None:
        """Write this frame's file.

        Raises:
            SinkError: It cannot be written, or it would replace the image that was read.
        """
        with frame.times.measure("encode"):
            path = self._folder / f"{self._names(frame)}{self._suffix}"
            _write(path, frame, self._encode(result))
        self.paths = (self._folder,)

    def close(self, *, error: bool = False) -> None:
        """Nothing is open between frames; every file that is there is whole."""


def _write(path: Path, frame: Frame, data: bytes) -> None:
    if frame.name and same_file(path, frame.name):
        raise SinkError(
            f"{path} is the image that was read", fix="choose another folder for the output"
        )
    write_atomically(path, data)


def _encoder(picture: Picture, suffix: str) -> Callable[[ResultView], bytes]:
    """The function that makes a file's bytes from a result."""
    known = OVERLAY_SUFFIXES if picture == "overlay" else (".png",)
    if suffix not in known:
        raise UsageError(f"cannot write {picture} as {suffix!r}", facts={"known": " ".join(known)})
    encoders: dict[Picture, Callable[[ResultView], bytes]] = {
        "overlay": lambda result: _encode_overlay(result, suffix),
        "labels": lambda result: encode_labels_png(result.labels),
        "palette": lambda result: encode_labels_png(result.labels, palette_rgb=result.palette_rgb),
    }
    return encoders[picture]


def _encode_overlay(result: ResultView, suffix: str) -> bytes:
    options = [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY] if suffix in (".jpg", ".jpeg") else []
    return bytes(cv2.imencode(suffix, result.overlay(), options)[1])


_NEEDS: dict[Picture, frozenset[str]] = {
    "overlay": frozenset({"overlay"}),
    "labels": frozenset({"labels"}),
    "palette": frozenset({"labels"}),
}

"""ImageFiles: still images as a source; one file, a folder, a pattern or a list."""

from __future__ import annotations

import glob
import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from segedge.errors import SourceError, UsageError
from segedge.frames.frame import Frame
from segedge.frames.protocols import SourceFailure, SourceInfo
from segedge.frames.timing import StageTimes
from segedge.machine.files import reason_of
from segedge.video.formats import IMAGE_SUFFIXES
from segedge.video.sources.complaints import complaints
from segedge.video.sources.depth import RangeUnknown, deep_samples, to_8_bits
from segedge.video.sources.pages import has_more_pictures

_COLOR = cv2.IMREAD_COLOR
_ALL_BITS = cv2.IMREAD_ANYDEPTH | cv2.IMREAD_ANYCOLOR
_STUFFING = 4
_DAMAGE = ("Corrupt JPEG data", "Premature end of JPEG")
"""What libjpeg says of a picture that it gives all the same."""


class ImageFiles:
    """Image files in the given order; unreadable ones are recorded and skipped."""

    def __init__(self, paths: Sequence[str | Path], *, name: str | None = None) -> None:
        """Take a list of files; they are opened when their turn comes. No name: the first path."""
        if not paths:
            raise UsageError("no image was given")
        self.paths = tuple(Path(path) for path in paths)
        self._closed = threading.Event()
        self.failures: list[SourceFailure] = []
        self._more: list[str] = []
        self.info = SourceInfo(name or str(paths[0]), "images", frame_count=len(self.paths))

    def frames(self) -> Iterator[Frame]:
        """The readable images; ``index`` is the position in the list, gaps are unreadable ones."""
        self.failures.clear()
        self._more.clear()
        for index, path in enumerate(self.paths):
            if self._closed.is_set():
                return
            times = StageTimes()
            try:
                with times.measure("decode"):
                    image, has_more = _read(path)
            except SourceError as error:
                reason = error.facts.get("found", error.headline)
                self.failures.append(SourceFailure(str(path), reason))
                continue
            if has_more:
                self._more.append(path.name)
            yield Frame(image, index=index, name=str(path), times=times)
        if len(self.failures) == len(self.paths):
            raise _all_failed(self.failures)

    @property
    def notes(self) -> tuple[str, ...]:
        """Files of which only the first picture was read."""
        if not self._more:
            return ()
        others = f", and of {len(self._more) - 1} more such files" if len(self._more) > 1 else ""
        return (f"{self._more[0]} holds several pictures: only the first is read{others}",)

    def close(self) -> None:
        """End a running iteration before its next image."""
        self._closed.set()


def images_in_folder(folder: str | Path) -> ImageFiles:
    """The images directly in a folder, in natural order (``9.png`` before ``10.png``)."""
    folder = Path(folder)
    try:
        entries = list(folder.iterdir())
    except OSError as error:
        raise SourceError(f"cannot list {folder}", facts={"found": reason_of(error)}) from error
    paths = [path for path in entries if is_image(path)]
    if not paths:
        raise _no_images_error(folder, entries)
    return ImageFiles(sorted(paths, key=natural_key), name=str(folder))


def images_matching(pattern: str) -> ImageFiles:
    """The images that match a glob pattern (``**`` goes into sub-folders), in natural order."""
    matches = [Path(text) for text in glob.glob(pattern, recursive=True)]  # noqa: PTH207
    paths = [path for path in matches if is_image(path)]
    if not paths:
        others = sorted({path.suffix for path in matches if path.is_file()})
        found = f"{len(matches)} matches, endings {', '.join(others)}" if others else "no match"
        raise SourceError(
            f"no image matches {pattern}",
            facts={"found": found, "images": " ".join(IMAGE_SUFFIXES)},
            fix="put the pattern in quotes, so that the shell leaves it alone"
            if not matches
            else "give a video by its own name; a pattern is for images",
        )
    return ImageFiles(sorted(paths, key=natural_key), name=pattern)


def read_image(path: str | Path) -> NDArray[np.uint8]:
    """An image file as OpenCV decodes it: H x W x 3 uint8 BGR, EXIF orientation applied, no alpha.

    Grey is repeated. 16 bits a sample are cut to the upper 8; other ranges are scaled to what the
    file says is white, and refused where it says nothing. Reads through NumPy because OpenCV cannot
    open every Unicode path on every system.
    """
    return _read(path)[0]


def _read(path: str | Path) -> tuple[NDArray[np.uint8], bool]:
    """The image, and whether the file holds more of them."""
    try:
        data = np.fromfile(path, np.uint8)
    except OSError as error:
        raise _unreadable(path, reason_of(error)) from error
    if data.size == 0:
        raise _unreadable(path, "empty file (0 bytes)")
    stored = data.tobytes()
    if _is_cut_jpeg(stored):
        raise _unreadable(path, f"truncated JPEG ({data.size} bytes, no end marker)")
    samples = deep_samples(stored)
    image, damage = _decode_quietly(data, _COLOR if samples is None else _ALL_BITS)
    if image is None:
        raise _unreadable(path, f"{data.size} bytes that are no readable image")
    if damage:
        raise _unreadable(path, damage)
    if samples is None:
        return np.asarray(image, np.uint8), has_more_pictures(stored)
    try:
        return to_8_bits(image, samples), has_more_pictures(stored)
    except RangeUnknown as error:
        raise _unreadable(path, str(error), fix="scale it to 8 bits, or to all 16") from error


def natural_key(path: str | Path) -> list[tuple[int, int | str]]:
    """Sort key in which runs of digits compare as numbers: ``9`` before ``10``."""
    parts = re.split(r"(\d+)", str(path))
    return [(0, int(part)) if part.isdecimal() else (1, part.casefold()) for part in parts]


def _decode_quietly(data: NDArray[np.uint8], flags: int) -> tuple[Any, str]:
    """OpenCV's decoder without its lines on stderr; None where it fails, and what is damaged."""
    with quiet_opencv(), complaints() as heard:
        try:
            image = cv2.imdecode(data, flags)
        except cv2.error:  # a size beyond OpenCV's limits
            return None, ""
    return image, next(filter(_is_damage, "".join(heard).splitlines()), "")


def _is_damage(line: str) -> bool:
    """Not a few bytes too many in front of a table, as some webcams send them in each picture."""
    match = re.search(r": (\d+) extraneous bytes before marker 0x(..)", line)
    is_stuffing = match is not None and int(match[1]) <= _STUFFING and match[2] != "d9"
    return line.startswith(_DAMAGE) and not is_stuffing


@contextmanager
def quiet_opencv() -> Iterator[None]:
    """Keep OpenCV's log silent in a ``with`` statement, in any number of threads at once.

    The level is the process's: the first that comes keeps it and the last that goes restores it.
    """
    with _quiet.lock:
        if _quiet.inside == 0:
            _quiet.level = cv2.utils.logging.getLogLevel()
            cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
        _quiet.inside += 1
    try:
        yield
    finally:
        with _quiet.lock:
            _quiet.inside -= 1
            if _quiet.inside == 0:
                cv2.utils.logging.setLogLevel(_quiet.level)


class _Quiet:
    """Who wants silence now, and the level before."""

    lock = threading.Lock()
    inside = 0
    level = 0


_quiet = _Quiet()


def _is_cut_jpeg(data: bytes) -> bool:
    """Whether a JPEG lacks its end marker: OpenCV before 5 fills what is missing with grey.

    The search begins at the start of scan: a thumbnail in the EXIF data has an end marker too.
    Inside the scan FF D9 is nothing but the end (ITU-T T.81, B.1.1.2).
    """
    if data[:2] != b"\xff\xd8":
        return False
    position = data.find(b"\xff", 2)  # some webcams send a byte too many in front of a table
    while 0 <= position <= len(data) - 4:
        kind = data[position + 1]
        if kind == 0xDA:
            return data.find(b"\xff\xd9", position) < 0
        is_marker = kind not in (0x00, 0xFF)
        length = int.from_bytes(data[position + 2 : position + 4], "big")
        position = data.find(b"\xff", position + (2 + length if is_marker else 1))
    return True


def is_image(path: Path) -> bool:
    """By ending; hidden files (macOS leaves ``._name.jpg``) are none."""
    return (
        path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".") and path.is_file()
    )


def _no_images_error(folder: Path, entries: Sequence[Path]) -> SourceError:
    facts = {"found": f"{len(entries)} entries" if entries else "an empty folder"}
    inside = next((p for e in entries if e.is_dir() for p in e.iterdir() if is_image(p)), None)
    fix = None
    if inside is not None:
        facts["inside"] = f"images in sub-folders: {inside.relative_to(folder)}"
        fix = f"give one of them, or all: '{folder}/**/*{inside.suffix}'"
    facts["images"] = " ".join(IMAGE_SUFFIXES)
    return SourceError(f"no images in {folder}", facts=facts, fix=fix)


def _all_failed(failures: Sequence[SourceFailure]) -> SourceError:
    first = failures[0]
    if len(failures) == 1:
        return _unreadable(first.name, first.reason)
    return SourceError(
        f"none of {len(failures)} images can be read",
        facts={"first": f"{first.name}: {first.reason}"},
    )


def _unreadable(
    path: str | Path, reason: str, *, fix: str = "copy or convert it again"
) -> SourceError:
    return SourceError(f"cannot read image {path}", facts={"found": reason}, fix=fix)

"""Contact sheets: many pictures as one, small and with their names; also as a sink."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from segedge.errors import UsageError
from segedge.frames.closing import check_takes
from segedge.frames.frame import Frame
from segedge.frames.protocols import ResultView
from segedge.machine.files import prepare_folder, write_atomically
from segedge.video.formats import OVERLAY_SUFFIXES
from segedge.video.picture import letterboxed, over_checkerboard

MOST_TILES = 64
TILE_WIDTH = 320
_GAP = 6
_CAPTION = 18
_PAPER = (32, 32, 32)
_FONT = cv2.FONT_HERSHEY_SIMPLEX


def draw_sheet(
    pictures: Sequence[NDArray[np.uint8]],
    *,
    captions: Sequence[str] = (),
    columns: int | None = None,
    tile_width: int = TILE_WIDTH,
) -> NDArray[np.uint8]:
    """Pictures side by side, each as wide as the others, on dark paper: H x W x 3 uint8 BGR.

    They are H x W x 3 or 4 uint8 BGR; those of another shape than the first are letterboxed. No
    captions leave no room for them; None ``columns``: about as wide as high, times 16/10.
    """
    if not pictures:
        raise UsageError("a contact sheet needs at least one picture")
    if (columns is not None and columns < 1) or tile_width < 16:
        raise UsageError(
            "a contact sheet has at least 1 column and tiles of 16 pixels",
            facts={"found": f"{columns} columns, tiles of {tile_width}"},
        )
    tiles = [as_tile(picture, tile_width) for picture in pictures]
    height, caption = tiles[0].shape[0], _CAPTION if any(captions) else 0
    across = min(columns or _columns(len(tiles), tile_width, height + caption), len(tiles))
    down = -(-len(tiles) // across)
    step_y, step_x = height + caption + _GAP, tile_width + _GAP
    sheet = np.full((down * step_y + _GAP, across * step_x + _GAP, 3), _PAPER, np.uint8)
    for number, tile in enumerate(tiles):
        if tile.shape[0] != height:
            tile = letterboxed(tile, height, tile_width)
        top, left = _GAP + number // across * step_y, _GAP + number % across * step_x
        sheet[top : top + height, left : left + tile_width] = tile
        if number < len(captions):
            _write(sheet, captions[number], left, top + height, tile_width)
    return sheet


def as_tile(picture: NDArray[np.uint8], width: int) -> NDArray[np.uint8]:
    """A picture of this width; opacity shows a checkerboard."""
    image = over_checkerboard(picture)
    height = max(1, round(image.shape[0] * width / image.shape[1]))
    shrinks = image.shape[1] > width
    how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, (width, height), interpolation=how), np.uint8)


def _columns(count: int, width: int, height: int) -> int:
    return max(1, min(count, round(math.sqrt(count * 1.6 * height / width))))


def _write(sheet: NDArray[np.uint8], text: str, left: int, top: int, width: int) -> None:
    """One line, cut at the front where it is too long: the end of a file's name tells more."""
    scale = 0.42
    plain = text.encode("ascii", "replace").decode()
    shown = plain
    while len(shown) > 4 and cv2.getTextSize(shown, _FONT, scale, 1)[0][0] > width - 4:
        plain = plain[1:]
        shown = f"...{plain}"
    origin = (left + 2, top + _CAPTION - 5)
    cv2.putText(sheet, shown, origin, _FONT, scale, (220, 220, 220), 1, cv2.LINE_AA)


class ContactSheetSink:
    """One picture of up to 64 frames; of more, evenly spaced ones.

    Keeps only small tiles: of a long video every second is dropped each time there are too many.
    """

    def __init__(
        self, path: str | Path, *, tile_width: int = TILE_WIDTH, most: int = MOST_TILES
    ) -> None:
        """Check name and place; the file is written in `close`."""
        self._path = Path(path)
        if self._path.suffix.lower() not in OVERLAY_SUFFIXES:
            raise UsageError(
                f"a contact sheet is one picture, not {self._path.name or 'nothing'}",
                facts={"known": " ".join(OVERLAY_SUFFIXES)},
                fix="-o contact:sheet.jpg",
            )
        prepare_folder(self._path.parent, purpose=self._path)
        self._tile_width, self._most = tile_width, most
        self._tiles: list[tuple[NDArray[np.uint8], str]] = []
        self._every, self._seen = 1, 0
        self._is_closed = False
        self.needs = frozenset({"overlay"})
        self.paths: Sequence[Path] = ()
        self.notes: list[str] = []

    def write(self, frame: Frame, result: ResultView) -> None:
        """Take the frame's picture, if it is its turn."""
        check_takes(not self._is_closed, self._path)
        if self._seen % self._every == 0:
            with frame.times.measure("encode"):
                tile = as_tile(result.overlay(), self._tile_width)
                self._tiles.append((tile, _caption(frame)))
                if len(self._tiles) > self._most:
                    self._tiles, self._every = self._tiles[::2], 2 * self._every
        self._seen += 1

    def close(self, *, error: bool = False) -> None:
        """Draw the sheet and write it."""
        self._is_closed = True
        if not self._tiles:
            return
        pictures, captions = zip(*self._tiles, strict=True)
        sheet = draw_sheet(pictures, captions=captions, tile_width=self._tile_width)
        write_atomically(self._path, bytes(cv2.imencode(self._path.suffix.lower(), sheet)[1]))
        if self._every > 1:
            self.notes.append(
                f"{self._path.name}: {len(self._tiles)} of {self._seen} frames, every "
                f"{self._every}th"
            )
        self._tiles = []
        self.paths = (self._path,)


def _caption(frame: Frame) -> str:
    if frame.pts_seconds is not None:
        return f"{frame.index}  {frame.pts_seconds:.2f} s"
    return Path(frame.name).name or str(frame.index)

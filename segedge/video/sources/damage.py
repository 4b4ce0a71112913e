"""Decoding a stream's packets, and what of it went wrong, with the frame at which it did.

FFmpeg tells of damage in four ways: reading stops; a packet is refused; a picture is marked, since
parts of it were made up from others; or, of H.265, a picture does not come at all, without a word,
since one that it hangs on was lost.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from typing import Any

from segedge.video.ffmpeg import av

_SILENT = ("hevc",)
"""Codecs of which each packet is a picture that is shown, or was left out."""


class Damage:
    """What went wrong with one stream so far."""

    def __init__(self, stream: Any) -> None:
        """Nothing yet."""
        self.problems: list[str] = []
        self._is_watched = stream.codec_context.name in _SILENT
        self._waiting: list[int] = []
        self._begun = False

    def pictures(self, packets: Iterator[Any], first_index: int = 0) -> Iterator[Any]:
        """Decoded pictures; damaged packets are noted and skipped.

        ``first_index`` is the number of the first picture: problems say at which frame they are.
        """
        count = first_index
        while True:
            try:
                packet = next(packets, None)
            except av.error.FFmpegError as error:  # the container itself is broken from here on
                said = f"reading stopped at frame {count}; FFmpeg says: {error.strerror}"
                self.problems.append(said)
                return
            if packet is None:
                return
            try:
                pictures = packet.decode()
            except av.error.FFmpegError as error:
                size = f"a packet of {packet.size} bytes"
                self.problems.append(f"{size} at frame {count}; FFmpeg says: {error.strerror}")
                continue
            if self._is_watched and packet.pts is not None and not packet.is_discard:
                heapq.heappush(self._waiting, packet.pts)
            for picture in pictures:
                yield picture
                count += 1

    def look(self, picture: Any, index: int) -> None:
        """Note what is wrong with the next picture that is shown, or with those before it."""
        if picture.is_corrupt:
            self.problems.append(f"frame {index}, parts of which FFmpeg made up from others")
        if self._is_watched and picture.pts is not None:
            self._note_left_out(picture.pts, index)
            if self._waiting and self._waiting[0] == picture.pts:
                heapq.heappop(self._waiting)
            self._begun = True

    def end(self, index: int) -> None:
        """Note what did not come up to the end of the stream."""
        if self._waiting:
            self._note_left_out(max(self._waiting) + 1, index)

    def _note_left_out(self, pts: int, index: int) -> None:
        """Pictures come in the order of their times: those before this one come no more."""
        count = 0
        while self._waiting and self._waiting[0] < pts:
            heapq.heappop(self._waiting)
            count += 1
        if count and self._begun:  # what leads the first key frame hangs on nothing that is there
            pictures = "a picture" if count == 1 else f"{count} pictures"
            self.problems.append(f"{pictures} before frame {index} that FFmpeg left out")

"""Parts of a video that decode on their own: cut at key frames, every frame in exactly one.

A part is decoded from its key frame on, keeps what is shown from that frame's time up to the next
part's, and so gives the very pictures that decoding the whole file gives.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segedge.errors import SourceError, UsageError
from segedge.video.bgr import LENIENT, video_stream
from segedge.video.ffmpeg import av, local

_CLEAN_CODECS = ("h264", "hevc", "av1", "vp8", "vp9", "mpeg2video", "mjpeg", "prores", "dnxhd")
"""Codecs whose key frames start afresh; of H.264 only those that are IDR pictures (checked)."""
_SLICE, _IDR_SLICE = 1, 5
"""Kinds of NAL units (ITU-T H.264, table 7-1)."""


@dataclass(frozen=True)
class VideoPart:
    """Consecutive frames of a video."""

    first_index: int
    """Number of its first frame in the whole file."""
    frames: int
    """How many it has, by the file's packets."""
    start_pts: int
    """Presentation time of its first frame, in ticks of the stream."""
    key_dts: int
    """Decoding time of that frame's packet: what is sought."""
    end_pts: int | None
    """Presentation time of the next part's first frame; None: the file's end."""

    def __post_init__(self) -> None:
        if self.first_index < 0 or self.frames < 1:
            raise UsageError(f"no part of a video: {self.frames} frames from {self.first_index}")


@dataclass(frozen=True)
class _Key:
    """A packet at which decoding may begin."""

    pts: int
    dts: int


def split_video(path: str | Path, *, frames: int) -> tuple[VideoPart, ...]:
    """Cut a video into parts of so many frames or more; it is read once, nothing is decoded.

    The next key frame that starts afresh ends a part. None where there is no such in its midst, or
    no times to tell them by: it is to be read as a whole.
    """
    if frames < 1:
        raise UsageError(f"a part of {frames} frames", fix="1 or more")
    try:
        with av.open(local(Path(path)), **LENIENT) as container:
            stream = video_stream(container, str(path), fix="convert it")
            shown, keys = _scan(container, stream)
            cuts = [key for key in _chosen(shown, keys, frames) if _is_reached(stream, key)]
    except (av.error.FFmpegError, OSError) as error:
        raise SourceError(
            f"cannot read video {path}", facts={"found": getattr(error, "strerror", str(error))}
        ) from error
    return _parts(shown, keys[0], cuts) if cuts else ()


def _scan(container: Any, stream: Any) -> tuple[list[int], list[_Key]]:
    """Times of all frames that are shown, in order, and the key frames that start afresh.

    Nothing where times are missing or doubled.
    """
    shown: list[int] = []
    keys: list[_Key] = []
    latest: int | None = None
    for packet in _packets(container, stream):
        if packet.pts is None:
            return [], []
        if packet.is_discard:  # an edit list hides it
            continue
        # What was decoded before a cut must not be shown after it.
        if (latest is None or latest < packet.pts) and _starts_afresh(packet, stream):
            # Matroska stores no decoding times: those of its first packets are not known.
            keys.append(_Key(packet.pts, packet.pts if packet.dts is None else packet.dts))
        shown.append(packet.pts)
        latest = packet.pts if latest is None else max(latest, packet.pts)
    if len(set(shown)) < len(shown) or not keys:
        return [], []
    return sorted(shown), keys


def _packets(container: Any, stream: Any) -> Iterator[Any]:
    """Packets up to the end, or to where the file is broken."""
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
        except av.error.FFmpegError:
            return
        if packet is None:
            return
        if packet.size:
            yield packet


def _starts_afresh(packet: Any, stream: Any) -> bool:
    codec = stream.codec_context.name
    if not packet.is_keyframe or codec not in _CLEAN_CODECS:
        return False
    return codec != "h264" or is_idr(bytes(packet), stream.codec_context.extradata or b"")


def is_idr(data: bytes, extradata: bytes) -> bool:
    """Whether an H.264 packet is an IDR picture; other key frames only recover by and by.

    It comes with lengths (MP4) or start codes (everything else); a first byte of 1 in the stream's
    ``extradata`` announces lengths (ISO/IEC 14496-15).
    """
    units = _by_length(data, (extradata[4] & 3) + 1) if extradata[:1] == b"\1" else _by_code(data)
    kinds = (unit & 31 for unit in units)
    return next((kind == _IDR_SLICE for kind in kinds if _SLICE <= kind <= _IDR_SLICE), False)


def _by_length(data: bytes, size: int) -> Iterator[int]:
    position = 0
    while position + size < len(data):
        yield data[position + size]
        position += size + int.from_bytes(data[position : position + size], "big")


def _by_code(data: bytes) -> Iterator[int]:
    position = data.find(b"\0\0\1")
    while 0 <= position < len(data) - 3:
        yield data[position + 3]
        position = data.find(b"\0\0\1", position + 3)


def _chosen(shown: list[int], keys: list[_Key], frames: int) -> list[_Key]:
    """The cuts: each part has the wanted length at least."""
    chosen: list[_Key] = []
    if not keys or keys[0].pts != shown[0]:  # the first frames hang on something that is not there
        return chosen
    last = 0
    for key in keys[1:]:
        index = bisect.bisect_left(shown, key.pts)
        if index - last >= frames:
            chosen.append(key)
            last = index
    return chosen


def _is_reached(stream: Any, key: _Key) -> bool:
    """Whether seeking gets to a packet: not every container has an index."""
    try:
        return next(packets_from(stream.container, stream, key.pts, key.dts), None) is not None
    except (av.error.FFmpegError, SourceError):
        return False


def _parts(shown: list[int], first: _Key, cuts: list[_Key]) -> tuple[VideoPart, ...]:
    keys = [first, *cuts]
    starts = [bisect.bisect_left(shown, key.pts) for key in keys]
    ends = [*starts[1:], len(shown)]
    end_times = [*(key.pts for key in cuts), None]
    return tuple(
        VideoPart(start, end - start, key.pts, key.dts, end_pts)
        for key, start, end, end_pts in zip(keys, starts, ends, end_times, strict=True)
    )


def packets_from(container: Any, stream: Any, pts: int, dts: int) -> Iterator[Any]:
    """Packets from one on, found by seeking; `SourceError` where it is not there."""
    container.seek(dts, stream=stream, backward=True)
    packets = container.demux(stream)
    for packet in packets:
        if packet.pts == pts and packet.is_keyframe:
            yield packet
            yield from packets
            return
        if packet.is_keyframe and packet.pts is not None and packet.pts > pts:
            break
    raise SourceError(
        "a key frame is not where it was when the video was cut",
        facts={"expected": f"at {pts} ticks"},
        fix="do not change videos while they are worked on; start anew",
    )


def within_part(pictures: Iterator[Any], part: VideoPart) -> Iterator[Any]:
    """The decoded pictures that belong to a part."""
    for picture in pictures:
        if picture is not None and picture.pts is not None:
            if picture.pts < part.start_pts:  # leading pictures of an open group
                continue
            if part.end_pts is not None and picture.pts >= part.end_pts:
                return
        yield picture

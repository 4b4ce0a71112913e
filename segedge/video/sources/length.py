"""How long a video is: containers disagree on what their "duration" means."""

from __future__ import annotations

from typing import Any

from segedge.video.ffmpeg import av

_END_TIMES = ("matroska", "flv")
"""Formats whose duration may be the time of the end: pieces of a recording start late."""
_LATE_SECONDS = 1.0


def length_seconds(container: Any, stream: Any) -> float:
    """From the first picture to the end, as declared; 0 where nothing is said.

    Of a piece that starts late the end is looked up. Where that is cut off, too, a duration beyond
    the start is taken for an end time.
    """
    declared: float = (container.duration or 0) / av.time_base
    start: float = (container.start_time or 0) / av.time_base
    name = container.format.name
    if start < _LATE_SECONDS or not any(known in name for known in _END_TIMES):
        return declared
    if declared <= start or _end_seconds(container, stream) > declared + _LATE_SECONDS:
        return declared
    return declared - start


def _end_seconds(container: Any, stream: Any) -> float:
    """Time of the last packet that is there, read from the last key frame on."""
    latest = 0.0
    try:
        container.seek(container.duration, backward=True)
        for packet in container.demux(stream):
            if packet.pts is not None:
                latest = max(latest, float(packet.pts * packet.time_base))
    except av.error.FFmpegError:  # broken from here on
        pass
    return latest

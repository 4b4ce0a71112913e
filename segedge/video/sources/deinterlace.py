"""Interlaced pictures to whole ones, where the user asks for it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from segedge.video.ffmpeg import av


def deinterlaced(pictures: Iterator[Any], stream: Any) -> Iterator[Any]:
    """One picture for each, with the lines of one moment; by FFmpeg's ``bwdif``."""
    graph = av.filter.Graph()
    entry = graph.add_buffer(template=stream, time_base=stream.time_base)
    weave = graph.add("bwdif", "mode=send_frame:deint=all")
    end = graph.add("buffersink")
    entry.link_to(weave)
    weave.link_to(end)
    graph.configure()
    for picture in pictures:
        graph.push(picture)
        yield from _ready(graph)
    graph.push(None)
    yield from _ready(graph)


def _ready(graph: Any) -> Iterator[Any]:
    while True:
        try:
            yield graph.pull()
        except (BlockingIOError, EOFError):  # it needs the next picture, or there is none
            return

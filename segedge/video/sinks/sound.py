"""Sound: what is heard in a file, packet by packet and unchanged, into the video made of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from segedge.video.bgr import LENIENT
from segedge.video.ffmpeg import av, local

_ALL = 48
"""FFmpeg's AVDISCARD_ALL; older PyAV has no such thing and reads everything."""


class Sound:
    """The sound of a video file from a time on; nothing is decoded or encoded.

    A second look at the file reads only what is heard: the demuxer skips the other streams.
    """

    def __init__(self, path: Path) -> None:
        """Open the file; a file that is no longer there, or none, has no sound."""
        self.notes: list[str] = []
        self._name = path.name
        self._input: Any = None
        self._outputs: dict[int, Any] = {}
        self._packets: Iterator[Any] = iter(())
        self._next: Any = None
        self._start = self._shift = 0.0
        with suppress(av.error.FFmpegError, OSError):
            self._input = av.open(local(path), **LENIENT)

    def join(self, output: Any, target: str) -> bool:
        """Add its streams to a container that is not begun; False where none can be held."""
        for stream in self._input.streams if self._input is not None else ():
            if stream.type != "audio":
                continue
            codec = "no known codec" if stream.codec_context is None else stream.codec_context.name
            if codec in output.supported_codecs:
                self._outputs[stream.index] = output.add_stream_from_template(stream)
            else:
                self._refused(codec, target)
        return self.is_joined

    @property
    def is_joined(self) -> bool:
        """Whether some of its streams are in what is made."""
        return bool(self._outputs)

    def refuse(self, target: str) -> None:
        """Forget the streams: the container took them, and then failed to begin."""
        codecs = [self._input.streams[index].codec_context.name for index in self._outputs]
        self._refused(", ".join(codecs), target)
        self._outputs.clear()

    def begin(self, source_seconds: float, target_seconds: float) -> None:
        """The first frame's time in the source, and in what is made."""
        self._start, self._shift = source_seconds, target_seconds - source_seconds
        if not self._outputs:
            return
        with suppress(av.error.FFmpegError):  # no seeking here: from the start
            if source_seconds > 1.0:
                self._input.seek(round((source_seconds - 1.0) * av.time_base))
        for stream in self._input.streams:
            if stream.index not in self._outputs and hasattr(stream, "discard"):
                stream.discard = type(stream.discard)(_ALL)
        heard = [self._input.streams[index] for index in self._outputs]
        self._packets = self._input.demux(heard)

    def until(self, target_seconds: float) -> Iterator[Any]:
        """The packets that begin before a time of what is made, ready to be written."""
        limit = target_seconds - self._shift
        while self._outputs:
            packet = self._take()
            if packet is None or _seconds(packet) >= limit:
                self._next = packet
                return
            if _seconds(packet) < self._start:
                continue
            ticks = round(self._shift / packet.time_base)
            packet.pts, packet.dts = packet.pts + ticks, packet.dts + ticks
            packet.stream = self._outputs[packet.stream.index]
            yield packet

    def close(self) -> None:
        """Let go of the file."""
        if self._input is not None:
            self._input.close()
        self._input, self._next, self._packets = None, None, iter(())
        self._outputs.clear()

    def _take(self) -> Any:
        """The next packet with a time; None at the end, or where the file is broken."""
        packet, self._next = self._next, None
        if packet is not None:
            return packet
        try:
            return next((p for p in self._packets if p.pts is not None and p.dts is not None), None)
        except av.error.FFmpegError as error:
            self.notes.append(f"the sound of {self._name} breaks off: {error.strerror}")
            self._packets = iter(())
            return None

    def _refused(self, codec: str, target: str) -> None:
        ending = Path(target).suffix
        self.notes.append(
            f"{target}: without the sound of {self._name}, since {ending} holds no {codec}: "
            "-o out.mkv holds it"
        )


def _seconds(packet: Any) -> float:
    return float(packet.pts * packet.time_base)

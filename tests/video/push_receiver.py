"""A receiver of pushes on loopback, and frames to send to it."""

from __future__ import annotations

import io
import socket
import threading
from typing import Any

import av
import av.error
from video_clips import FakeResult, gradient_images

from segedge.frames.frame import Frame
from segedge.video.push.sink import PushSink

IMAGES = gradient_images(40)


def feed(sink: PushSink, count: int, start: int = 0) -> None:
    for index in range(start, start + count):
        image = IMAGES[index % len(IMAGES)]
        sink.write(Frame(image, index, pts_seconds=index / 25), FakeResult(image=image))


def decoded(data: bytes, kind: str = "mpegts") -> tuple[str, list[Any]]:
    with av.open(io.BytesIO(data), format=kind) as container:
        frames = list(container.decode(video=0))
        return container.streams.video[0].codec_context.codec.canonical_name, frames


class Receiver:
    """A TCP server that keeps what its connections send, and may hang up early."""

    def __init__(self, hang_up_after: int | None = None) -> None:
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        self.streams: list[bytes] = []
        self._hang_up_after = hang_up_after
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            data = bytearray()
            with connection:
                while part := connection.recv(65536):
                    data += part
                    if self._hang_up_after and len(data) >= self._hang_up_after:
                        self._hang_up_after = None
                        break
            self.streams.append(bytes(data))

    def stop(self) -> None:
        """No further connections; those that are open are read to their end."""
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._thread.join(10)
        assert not self._thread.is_alive()


def settle(sink: PushSink) -> None:
    """The link's thread has tried to connect, or has ended."""
    if sink._link is not None:
        sink._link._tried.wait(10)

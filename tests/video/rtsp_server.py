"""A network camera: RTSP with H.264 inside the connection, as small as FFmpeg accepts it."""

from __future__ import annotations

import base64
import re
import socket
import struct
import threading
from collections.abc import Sequence
from contextlib import suppress
from fractions import Fraction

import av
import numpy as np
from numpy.typing import NDArray

_SDP = (
    "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=camera\r\nt=0 0\r\nm=video 0 RTP/AVP 96\r\n"
    "a=rtpmap:96 H264/90000\r\na=fmtp:96 packetization-mode=1\r\na=control:track1\r\n"
)


class RtspServer:
    """Serves the images to each connection (RFC 2326, RFC 6184: one NAL unit a packet)."""

    def __init__(self, images: Sequence[NDArray[np.uint8]], *, user: str | None = None) -> None:
        self._frames = nal_units(images)
        self._user = user
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self._socket.close()

    def _serve(self) -> None:
        with suppress(OSError):  # closed
            while True:
                connection, _ = self._socket.accept()
                threading.Thread(target=self._talk, args=(connection,), daemon=True).start()

    def _talk(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as lines, suppress(OSError):
            while True:
                request = [line := lines.readline()]
                while line not in (b"\r\n", b""):
                    request.append(line := lines.readline())
                if line == b"":
                    return
                text = b"".join(request).decode()
                connection.sendall(self._answer(text).encode())
                if text.startswith("PLAY"):
                    self._send(connection)
                    return

    def _answer(self, request: str) -> str:
        number = re.search(r"CSeq: (\d+)", request)
        head = f"CSeq: {number[1] if number else 0}\r\n"
        if self._user is not None:
            wanted = base64.b64encode(self._user.encode()).decode()
            if f"Basic {wanted}" not in request:
                ask = 'WWW-Authenticate: Basic realm="camera"\r\n\r\n'
                return f"RTSP/1.0 401 Unauthorized\r\n{head}{ask}"
        verb, body = request.partition(" ")[0], ""
        if verb == "OPTIONS":
            head += "Public: DESCRIBE, SETUP, PLAY, TEARDOWN\r\n"
        elif verb == "DESCRIBE":
            head += f"Content-Type: application/sdp\r\nContent-Length: {len(_SDP)}\r\n"
            body = _SDP
        elif verb == "SETUP":
            head += "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\nSession: 1\r\n"
        return f"RTSP/1.0 200 OK\r\n{head}\r\n{body}"

    def _send(self, connection: socket.socket) -> None:
        sequence = 0
        for index, units in enumerate(self._frames):
            for unit in units:
                marker = 0x80 if unit is units[-1] else 0
                head = struct.pack(">BBHII", 0x80, 96 | marker, sequence, 3600 * index, 1)
                sequence += 1
                connection.sendall(struct.pack(">cBH", b"$", 0, 12 + len(unit)) + head + unit)


def nal_units(images: Sequence[NDArray[np.uint8]]) -> list[list[bytes]]:
    """H.264 NAL units of each image, parameter sets before every key frame."""
    codec = av.CodecContext.create("libx264", "w")
    codec.height, codec.width = images[0].shape[:2]
    codec.pix_fmt, codec.time_base = "yuv420p", Fraction(1, 25)
    codec.options = {"crf": "10", "tune": "zerolatency", "g": "10"}
    frames = []
    for index, image in enumerate([*images, None]):
        picture = None
        if image is not None:
            picture = av.VideoFrame.from_ndarray(image, format="bgr24")
            picture.pts = index
        for packet in codec.encode(picture):
            frames.append([u for u in re.split(b"\0?\0\0\1", bytes(packet)) if u])
    return frames

"""Network streams on loopback, served from threads: what the tests of live sources share."""

from __future__ import annotations

import base64
import io
import socket
import threading
from collections.abc import Sequence
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray


def transport_stream(images: Sequence[NDArray[np.uint8]], *, codec: str = "libx264") -> bytes:
    """Images as MPEG-TS, as a live encoder makes it."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mpegts") as container:
        options = {"crf": "10", "bf": "0", "g": "10", "tune": "zerolatency"}
        stream = container.add_stream(codec, rate=25, options=options)
        stream.height, stream.width = images[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        for image in images:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="bgr24")))
        container.mux(stream.encode(None))
    return buffer.getvalue()


def remuxed(clip: Path, packets: int) -> bytes:
    """The first packets of a video file as MPEG-TS, not encoded again."""
    buffer = io.BytesIO()
    with av.open(str(clip)) as source, av.open(buffer, "w", format="mpegts") as target:
        video = source.streams.video[0]
        stream = target.add_stream_from_template(video)
        for count, packet in enumerate(source.demux(video)):
            if count == packets or packet.dts is None:
                break
            packet.stream = stream
            target.mux(packet)
    return buffer.getvalue()


def free_port() -> int:
    """A port where nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class TcpServer:
    """Gives each connection the next of some byte strings, then ends it, or holds it open."""

    def __init__(self, *contents: bytes, hold: bool = False) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.address = f"tcp://127.0.0.1:{self._socket.getsockname()[1]}"
        self._contents, self._hold = contents, hold
        self._released = threading.Event()
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def _serve(self) -> None:
        for content in self._contents:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection:
                try:
                    connection.sendall(content)
                except OSError:
                    continue
                if self._hold:
                    self._released.wait()
        self._socket.close()

    def close(self) -> None:
        """Release held connections; refuse further ones."""
        self._released.set()
        self._socket.close()


class MjpegServer:
    """A network camera as they come: endless MJPEG over HTTP, with a password on request."""

    def __init__(self, *, port: int = 0, user: str | None = None, size: tuple[int, int] = (48, 64)):
        self._stopped = threading.Event()
        self._open: list[socket.socket] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *arguments: Any) -> None: ...

            def do_GET(self) -> None:
                server.answer(self)

        ThreadingHTTPServer.allow_reuse_address = True
        self._user, self._size = user, size
        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_port
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
        )
        self._thread.start()

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        """Frames without end, or what the path says."""
        given = handler.headers.get("Authorization", "")
        wanted = base64.b64encode((self._user or "").encode()).decode()
        status = 200 if self._user is None or given == f"Basic {wanted}" else 401
        if handler.path == "/missing":
            status = 404
        handler.send_response(status)
        if status == 401:
            handler.send_header("WWW-Authenticate", 'Basic realm="camera"')
        if handler.path == "/page":
            handler.send_header("Content-Type", "text/html")
            handler.end_headers()
            handler.wfile.write(b"<html>a page</html>" * 100)
            return
        handler.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        handler.end_headers()
        if status == 200:
            self._open.append(handler.connection)
            self._send_frames(handler)

    def _send_frames(self, handler: BaseHTTPRequestHandler) -> None:
        image = np.full((*self._size, 3), 90, np.uint8)
        jpeg = cv2.imencode(".jpg", image)[1].tobytes()
        head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
        with suppress(OSError):  # killed, or the reader left
            while not self._stopped.is_set():
                handler.wfile.write(head.encode() + jpeg + b"\r\n")

    def url(self, path: str = "/stream", user: str = "") -> str:
        return f"http://{user + '@' if user else ''}127.0.0.1:{self.port}{path}"

    def kill(self) -> None:
        """End everything at once, as when the plug is pulled."""
        self._stopped.set()
        self._server.shutdown()
        self._server.server_close()
        for connection in self._open:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

"""Pushes: what a receiver on loopback gets, and what is said where there is none."""

from __future__ import annotations

import io
import itertools
import socket
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import av
import av.error
import pytest
from push_receiver import IMAGES, Receiver, decoded, feed
from stream_servers import free_port

from segedge.errors import SinkError, UsageError
from segedge.video.encode.options import EncodeOptions
from segedge.video.push.link import redacted
from segedge.video.push.sink import PushSink


@pytest.mark.parametrize(("codec", "name"), [("h264", "h264"), ("h265", "hevc")])
def test_mpegts_over_tcp(receiver: Receiver, codec: Any, name: str) -> None:
    url = f"tcp://127.0.0.1:{receiver.port}"
    sink = PushSink(url, fps=25, options=EncodeOptions(codec=codec, crf=5), live=False)
    feed(sink, 40)
    sink.close()
    sink.close()
    receiver.stop()
    found, frames = decoded(receiver.streams[0])
    assert found == name
    assert len(frames) == 40
    steps = [b.time - a.time for a, b in itertools.pairwise(frames)]
    assert steps == pytest.approx([0.04] * 39, abs=1e-3)
    for frame, image in zip(frames, IMAGES, strict=True):
        assert abs(frame.to_ndarray(format="bgr24").mean() - image.mean()) < 3
    assert (sink.sent, sink.dropped, sink.notes) == (40, 0, [])


def test_mpegts_over_udp() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        receiver.bind(("127.0.0.1", 0))
        receiver.setblocking(False)
        sink = PushSink(f"udp://127.0.0.1:{receiver.getsockname()[1]}", fps=25, live=False)
        feed(sink, 30)
        sink.close()
        packets = []
        while True:
            try:
                packets.append(receiver.recv(65536))
            except BlockingIOError:
                break
    assert max(map(len, packets)) <= 1316
    found, frames = decoded(b"".join(packets))
    assert (found, len(frames)) == ("h264", 30)


def test_every_picture_leaves_at_once(receiver: Receiver) -> None:
    """Low latency: nothing waits in the encoder, so all were sent before the end was known."""
    sink = PushSink(f"tcp://127.0.0.1:{receiver.port}", fps=25, live=False)
    feed(sink, 10)
    link = sink._link
    assert link is not None
    link._box.put(None)
    link._done.wait(10)
    receiver.stop()
    packets = [packet for packet in demuxed(receiver.streams[0]) if packet.size]
    assert len(packets) == 10
    assert all(packet.pts == packet.dts for packet in packets)


def demuxed(data: bytes) -> list[Any]:
    with av.open(io.BytesIO(data), format="mpegts") as container:
        return list(container.demux(video=0))


@pytest.mark.parametrize("scheme", ["rtsp", "rtmp", "tcp"])
def test_nobody_listens(scheme: str) -> None:
    port = free_port()
    sink = PushSink(f"{scheme}://user:secret@127.0.0.1:{port}/live/a", fps=25)
    with pytest.raises(SinkError) as caught:
        feed(sink, 1)
    sink.close(error=True)
    text = str(caught.value)
    assert f"cannot push to {scheme}://user:***@127.0.0.1:{port}/live/a" in text
    assert f"127.0.0.1:{port} refuses connections" in text
    assert "start the server that receives the stream" in text


@pytest.mark.parametrize("scheme", ["rtsp", "rtmp", "udp", "tcp"])
def test_no_such_host(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*args: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr("segedge.video.push.link.socket.getaddrinfo", unknown)
    sink = PushSink(f"{scheme}://nowhere.invalid:5000/a", fps=25)
    with pytest.raises(SinkError, match=r"no host 'nowhere\.invalid'"):
        feed(sink, 1)


def test_a_server_that_says_nothing() -> None:
    """Within the time that was set, and nothing else stands still meanwhile."""
    ticking, ticks = threading.Event(), 0
    with socket.create_server(("127.0.0.1", 0)) as server:
        sink = PushSink(f"rtsp://127.0.0.1:{server.getsockname()[1]}/a", fps=25, connect_seconds=1)

        def tick() -> None:
            nonlocal ticks
            while not ticking.wait(0.02):
                ticks += 1

        thread = threading.Thread(target=tick)
        thread.start()
        with pytest.raises(SinkError, match="cannot push") as caught:
            feed(sink, 1)
        ticking.set()
        thread.join()
    assert caught.value.facts["found"] == "no answer within 1 s"
    assert ticks > 10
    sink.close(error=True)


def test_a_killed_sender_is_a_lost_connection(receiver: Receiver) -> None:
    sink = PushSink(f"tcp://127.0.0.1:{receiver.port}", fps=25, live=False)
    feed(sink, 3)
    assert sink._link is not None
    stream: Any = sink._link._stream
    stream._process.kill()
    with pytest.raises(SinkError, match="cannot push") as caught:
        feed(sink, 20, 3)
    assert caught.value.facts["found"] in ("Broken pipe", "the sending process ended")
    sink.close(error=True)


def listens(port: int) -> bool:
    """Whether a socket of this machine listens there; asking it would be a connection."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return any(row[1].endswith(f":{port:04X}") and row[3] == "0A" for row in rows)


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="needs Linux's list of sockets")
@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("rtsp://127.0.0.1:{}/live", {"rtsp_flags": "listen", "listen_timeout": "20"}),
        ("rtmp://127.0.0.1:{}/live/a", {"listen": "1"}),
    ],
    ids=["rtsp", "rtmp"],
)
def test_ffmpeg_receives(url: str, options: dict[str, str]) -> None:
    """FFmpeg as the server at the other end: what it decodes is what was sent."""
    port = free_port()
    url, means = url.format(port), []

    def receive() -> None:
        with av.open(url, options=options) as container, suppress(av.error.FFmpegError):
            for picture in container.decode(video=0):  # the end of RTMP is an I/O error
                means.append(picture.to_ndarray(format="bgr24").mean())

    thread = threading.Thread(target=receive, daemon=True)
    thread.start()
    pause = threading.Event()
    assert any(listens(port) or pause.wait(0.01) for _ in range(2000))
    sink = PushSink(url, fps=25, options=EncodeOptions(crf=5), live=False)
    feed(sink, 60)
    sink.close()
    thread.join(20)
    assert means == pytest.approx([IMAGES[k % 40].mean() for k in range(60)], abs=3)
    assert sink.sent == 60


def test_a_password_is_asked_for() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def refuse() -> None:
            connection, _ = server.accept()
            with connection, connection.makefile("rb") as requests:
                for line in requests:
                    if line.startswith(b"CSeq:"):
                        answer = (
                            b"RTSP/1.0 401 Unauthorized\r\n" + line.strip() + b"\r\n"
                            b'WWW-Authenticate: Basic realm="push"\r\n\r\n'
                        )
                        connection.sendall(answer)

        threading.Thread(target=refuse, daemon=True).start()
        port = server.getsockname()[1]
        sink = PushSink(f"rtsp://127.0.0.1:{port}/live", fps=25)
        with pytest.raises(SinkError) as caught:
            feed(sink, 1)
    assert caught.value.fix == f"give user and password: rtsp://USER:PASSWORD@127.0.0.1:{port}/live"


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("rstp://host/a", "no address kind 'rstp'; did you mean 'rtsp'?"),
        ("udp://host", "names no port"),
        ("rtmp:///a", "names no host"),
        ("udp://host:99999", "ports are 1 to 65535"),
    ],
)
def test_bad_addresses(url: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        PushSink(url, fps=25)
    assert message in str(caught.value)


def test_other_arguments() -> None:
    with pytest.raises(UsageError, match="MPEG-TS holds no AV1"):
        PushSink("udp://host:1", fps=25, options=EncodeOptions(codec="av1"))
    with pytest.raises(UsageError, match="positive rate"):
        PushSink("udp://host:1", fps=0)
    assert redacted("rtmp://me:pw@host:1/live/key?token=x") == "rtmp://me:***@host:1/live/key"

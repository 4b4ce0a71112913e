"""Pushes: what a receiver on loopback gets, and what happens when it goes away."""

from __future__ import annotations

import io
import itertools
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import av
import av.error
import pytest
from video_clips import FakeResult, gradient_images

from segedge.errors import SinkError, UsageError
from segedge.frames.frame import Frame
from segedge.video.encode.options import EncodeOptions
from segedge.video.picture import Clock
from segedge.video.push.link import redacted
from segedge.video.push.sink import FIRST_DELAY_SECONDS, LAST_DELAY_SECONDS, PushSink

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


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    server = Receiver()
    yield server
    if server._thread.is_alive():
        server.stop()


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


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


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


class FakeStream:
    """A network that a test commands."""

    def __init__(self) -> None:
        self.pictures: list[Any] = []
        self.broken: Exception | None = None
        self.taken = threading.Semaphore(0)

    def send(self, picture: Any) -> None:
        if self.broken:
            self.taken.release()
            raise self.broken
        self.pictures.append(picture)
        self.taken.release()

    def finish(self) -> None:
        pass

    def abort(self) -> None:
        pass


class Network:
    """Connections in turn: a `FakeStream`, or a refusal."""

    def __init__(self, *outcomes: FakeStream | Exception) -> None:
        self.outcomes = list(outcomes)
        self.now = 100.0
        self.tries: list[float] = []

    def connect(self, size: tuple[int, int], clock: Clock) -> FakeStream:
        self.tries.append(self.now)
        outcome = self.outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def sink(self, *, live: bool = True) -> PushSink:
        return PushSink(
            "tcp://127.0.0.1:1", fps=25, connect=self.connect, clock=lambda: self.now, live=live
        )


def settle(sink: PushSink) -> None:
    """The link's thread has tried to connect, or has ended."""
    if sink._link is not None:
        sink._link._tried.wait(10)


def test_a_lost_connection_is_made_again_with_growing_pauses() -> None:
    first, second = FakeStream(), FakeStream()
    refusals = [ConnectionRefusedError(111, "Connection refused") for _ in range(6)]
    network = Network(first, *refusals, second)
    sink = network.sink()
    for index in range(3):
        feed(sink, 1, index)
        first.taken.acquire(timeout=10)
    first.broken = BrokenPipeError(32, "Broken pipe")
    feed(sink, 1, 3)
    assert first.taken.acquire(timeout=10)
    link = sink._link
    assert link is not None
    assert link._done.wait(10)
    for index in range(4, 130):
        feed(sink, 1, index)
        settle(sink)
        network.now += 1.0
    while second.taken.acquire(blocking=False):
        pass
    sink.close()
    pauses = [b - a for a, b in zip(network.tries[1:], network.tries[2:], strict=False)]
    assert pauses == sorted(pauses)
    assert network.tries[1] - network.tries[0] <= FIRST_DELAY_SECONDS + 1
    assert LAST_DELAY_SECONDS <= max(pauses) <= LAST_DELAY_SECONDS + 2
    assert len(network.tries) == 8
    assert [p.pts for p in first.pictures] == [0, 400, 800]
    assert second.pictures[0].pts == 0  # a new connection begins at 0
    assert sink.sent == 3 + len(second.pictures)
    assert sink.sent + sink.dropped == 130
    assert sink.notes == [
        f"tcp://127.0.0.1:1: {sink.dropped} of 130 frames were not sent; connection lost 1 time"
    ]


def test_a_really_lost_connection(receiver: Receiver) -> None:
    """The server hangs up; the sink notices, and connects again when its time has come."""
    receiver._hang_up_after = 2000
    now = 100.0
    sink = PushSink(f"tcp://127.0.0.1:{receiver.port}", fps=25, clock=lambda: now)
    for index in range(5000):
        feed(sink, 1, index)
        if sink._link is None:
            break
        sink._link._done.wait(0.002)  # the network's turn
    assert sink._lost == 1
    lost_at = sink.dropped
    feed(sink, 5)
    assert sink.dropped == lost_at + 5  # not yet time
    now += FIRST_DELAY_SECONDS
    feed(sink, 1)
    settle(sink)
    feed(sink, 3)
    sink.close()
    receiver.stop()
    assert len(receiver.streams) == 2
    assert len(decoded(receiver.streams[1])[1]) in (3, 4)  # it may have been there for the first


def test_a_file_is_not_pushed_with_holes() -> None:
    stream = FakeStream()
    sink = Network(stream).sink(live=False)
    feed(sink, 2)
    stream.broken = BrokenPipeError(32, "Broken pipe")
    with pytest.raises(SinkError, match="cannot push") as caught:
        feed(sink, 20, 2)
    assert caught.value.facts["found"] == "Broken pipe"
    sink.close(error=True)


def test_a_slow_receiver_loses_frames_of_a_live_push_only() -> None:
    gate = threading.Event()

    class Slow(FakeStream):
        def send(self, picture: Any) -> None:
            if self.pictures:
                gate.wait()
            super().send(picture)

    stream = Slow()
    sink = Network(stream).sink()
    feed(sink, 50)  # returns: nobody waits
    gate.set()
    sink.close()
    assert 5 <= len(stream.pictures) <= 6
    assert sink.dropped == 50 - len(stream.pictures)


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

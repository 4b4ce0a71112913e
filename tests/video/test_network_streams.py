"""Streams from real servers on loopback: read, lost, found again, refused."""

from __future__ import annotations

import itertools
import socket
import threading
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rtsp_server import RtspServer
from stream_servers import MjpegServer, TcpServer, free_port, remuxed, transport_stream
from video_clips import gradient_images, noise_images

from segedge.errors import SourceError
from segedge.frames.frame import Frame
from segedge.video.live.network import network_stream
from segedge.video.live.source import LiveSource
from segedge.video.options import SourceOptions
from segedge.video.sources.open import open_source

ONCE = SourceOptions(reconnect=False)


@pytest.fixture
def serve() -> Iterator[Callable[..., TcpServer]]:
    servers: list[TcpServer] = []

    def start(*contents: bytes, hold: bool = False) -> TcpServer:
        servers.append(TcpServer(*contents, hold=hold))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.fixture
def camera() -> Iterator[MjpegServer]:
    server = MjpegServer()
    yield server
    server.kill()


def test_transport_stream_over_tcp(serve: Callable[..., TcpServer], real_clip: Path) -> None:
    server = serve(remuxed(real_clip, 60))
    source = open_source(server.address, options=ONCE)
    assert source.info.live
    assert source.info.frame_count is None
    assert source.info.size == (432, 768)
    assert source.info.fps is not None
    frames = list(source.frames())
    assert [frame.index for frame in frames] == list(range(len(frames)))
    assert {frame.size for frame in frames} == {(432, 768)}
    times = [frame.pts_seconds or 0.0 for frame in frames]
    steps = [b - a for a, b in itertools.pairwise(times)]
    assert times[0] == 0
    assert all(step == pytest.approx(1 / source.info.fps, abs=2e-3) for step in steps[:-1])
    assert all(frame.times.total("decode") > 0 for frame in frames)


def test_a_lost_stream_comes_back(serve: Callable[..., TcpServer]) -> None:
    content = transport_stream(gradient_images(30))
    server = serve(content, content)
    delays: list[float] = []
    told: list[str] = []

    def wait(seconds: float) -> bool:
        delays.append(seconds)
        return len(delays) == 4  # the server is gone for good

    source = network_stream(server.address, on_note=told.append, wait=wait)
    frames = list(source.frames())
    # All of the second connection; of the first what came after frames() was asked for.
    assert 30 < len(frames) <= 60
    assert [frame.index for frame in frames] == list(range(len(frames)))
    times = [frame.pts_seconds or 0.0 for frame in frames]
    assert all(a < b for a, b in itertools.pairwise(times))
    assert delays == [0.5, 0.5, 1.0, 2.0]  # from the start again after the success
    assert source.reconnects == 1
    assert told == list(source.notes)
    assert told[0] == f"{server.address}: lost (the other side ended it), reconnecting"
    assert told[1].startswith(f"{server.address}: back after ")
    assert told[1].endswith(" s, 1 attempt")
    assert told[2] == told[0]
    assert told[3].startswith(f"{server.address}: still lost (connection refused")
    assert len(told) == 4  # one line a reason, not one an attempt


def test_a_camera_killed_and_started_again(camera: MjpegServer) -> None:
    delays: list[float] = []
    restarted: list[MjpegServer] = []

    def wait(seconds: float) -> bool:
        delays.append(seconds)
        if len(delays) == 3:
            restarted.append(MjpegServer(port=camera.port, size=(72, 96)))
        return False

    source = network_stream(camera.url(), wait=wait)
    assert source.info.live
    assert source.info.fps is None  # MJPEG over HTTP says nothing of its rate
    assert source.info.size == (48, 64)
    frames = source.frames()
    before = list(itertools.islice(frames, 10))
    camera.kill()
    after = list(itertools.takewhile(lambda frame: frame.size == (48, 64), frames))
    more = list(itertools.islice(frames, 10))
    source.close()
    for server in restarted:
        server.kill()
    indices = [frame.index for frame in before + after]
    assert indices == list(range(len(indices)))
    assert {frame.size for frame in more} == {(72, 96)}
    assert delays == [0.5, 1.0, 2.0]
    lost = next(note for note in source.notes if "lost" in note)
    assert lost == f"{camera.url()}: lost (the connection broke off), reconnecting"
    assert source.reconnects == 1
    assert source.notes[-1] == f"{camera.url()}: size changed from 64x48 to 96x72"
    assert any("back after" in note and "3 attempts" in note for note in source.notes)


def test_a_change_of_size_in_mid_stream_goes_on(serve: Callable[..., TcpServer]) -> None:
    content = transport_stream(noise_images(20)) + transport_stream(noise_images(20, 64, 96))
    source = network_stream(serve(content).address, options=ONCE)
    frames = list(source.frames())
    assert frames[-1].size == (64, 96)
    assert [frame.index for frame in frames] == list(range(len(frames)))
    assert [n for n in source.notes if "size changed" in n] == [
        f"{source.info.name}: size changed from 64x48 to 96x64"
    ]


def test_a_stream_that_ends_in_mid_frame(serve: Callable[..., TcpServer]) -> None:
    content = transport_stream(noise_images(30))
    address = serve(content[: len(content) // 2]).address
    source = network_stream(address, options=ONCE)
    seen: list[Frame] = []
    with pytest.raises(SourceError, match="was lost") as caught:
        seen.extend(source.frames())
    assert caught.value.facts["found"] == "it ended in mid-frame"
    assert caught.value.facts["after"].startswith(f"{len(seen)} frame")
    source = network_stream(serve(content[: len(content) // 2]).address, wait=lambda _: True)
    list(source.frames())
    name = source.info.name
    assert source.notes == (
        f"{name}: 1 damaged picture left out",
        f"{name}: lost (it ended in mid-frame), reconnecting",
    )


@pytest.mark.parametrize("asked", [False, True], ids=["at once", "after a frame"])
def test_close_ends_a_blocking_read(serve: Callable[..., TcpServer], asked: bool) -> None:
    server = serve(transport_stream(gradient_images(30)), hold=True)
    source = network_stream(server.address, options=SourceOptions(timeout_seconds=60))
    some = threading.Event()

    def read() -> None:
        for _ in source.frames():
            some.set()

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    if asked:
        assert some.wait(10)
    source.close()
    reader.join(5)
    assert not reader.is_alive()
    assert list(source.frames()) == []


def test_close_ends_the_wait_for_a_lost_stream(serve: Callable[..., TcpServer]) -> None:
    source = network_stream(serve(transport_stream(gradient_images(10))).address)
    source.on_note = lambda note: source.close()
    list(source.frames())
    assert len(source.notes) == 1


def test_nothing_comes_any_more(serve: Callable[..., TcpServer]) -> None:
    server = serve(transport_stream(gradient_images(30)), hold=True)
    options = SourceOptions(timeout_seconds=0.2, reconnect=False)
    source = network_stream(server.address, options=options)
    with pytest.raises(SourceError, match="was lost") as caught:
        list(source.frames())
    assert caught.value.facts["found"] == "timed out after 0.2 s"


def test_iterating_again_connects_again(serve: Callable[..., TcpServer]) -> None:
    content = transport_stream(gradient_images(10))
    source = network_stream(serve(content, content).address, options=ONCE)
    list(source.frames())
    assert len(list(source.frames())) == 10


def test_transport_stream_over_udp() -> None:
    content = transport_stream(gradient_images(20))
    port, done = free_port(), threading.Event()

    def send() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            for start in itertools.cycle(range(0, len(content), 7 * 188)):
                sender.sendto(content[start : start + 7 * 188], ("127.0.0.1", port))
                if done.wait(1e-3):  # as the line would
                    return

    threading.Thread(target=send, daemon=True).start()
    try:
        source = network_stream(f"udp://127.0.0.1:{port}")
        frames = list(itertools.islice(source.frames(), 30))
    finally:
        done.set()
    source.close()
    assert [frame.index for frame in frames] == list(range(30))
    times = [frame.pts_seconds or 0.0 for frame in frames]
    assert all(a < b for a, b in itertools.pairwise(times))


def test_rtsp() -> None:
    server = RtspServer(gradient_images(40), user="me:sesame")
    try:
        place = f"127.0.0.1:{server.port}/stream1"
        source = open_source(f"rtsp://me:sesame@{place}", options=ONCE)
        assert source.info.name == f"rtsp://***@{place}"
        assert source.info.live
        assert source.info.size == (48, 64)
        frames = list(source.frames())
        assert frames
        assert [frame.index for frame in frames] == list(range(len(frames)))
        steps = np.diff([frame.pts_seconds or 0.0 for frame in frames])
        assert steps == pytest.approx([0.04] * len(steps), abs=2e-3)
        error = failing(f"rtsp://me:wrong@{place}")
        assert error.headline == f"rtsp://***@{place} refuses the credentials"
        assert "401" in error.facts["found"]
        assert failing(f"rtsp://{place}").headline == f"rtsp://{place} wants credentials"
    finally:
        server.close()


def failing(address: str, options: SourceOptions = ONCE) -> SourceError:
    with pytest.raises(SourceError) as caught:
        open_source(address, options=options)
    return caught.value


def test_refused() -> None:
    port = free_port()
    for scheme in ("tcp", "http", "rtsp", "rtmp"):
        error = failing(f"{scheme}://127.0.0.1:{port}/x")
        assert error.headline == f"{scheme}://127.0.0.1:{port}/x refuses the connection"
        assert error.facts["found"] == "connection refused: nothing listens there"


def test_no_answer(serve: Callable[..., TcpServer]) -> None:
    short = SourceOptions(timeout_seconds=0.2)
    error = failing(serve(b"", hold=True).address, short)
    assert error.headline.startswith("no answer from tcp://127.0.0.1:")
    assert error.facts["found"] == "timed out after 0.2 s"
    address = serve(b"", hold=True).address.replace("tcp", "rtsp")
    assert "no answer" in failing(address, short).headline
    assert "no answer" in failing(f"udp://127.0.0.1:{free_port()}", short).headline


def test_unknown_host() -> None:
    error = failing("http://no-such-host.invalid/stream")
    assert error.headline == "cannot find no-such-host.invalid"


def test_no_video(serve: Callable[..., TcpServer], camera: MjpegServer) -> None:
    assert "is no video" in failing(serve(b"hello world\n" * 2000).address).headline
    error = failing(camera.url("/page"))
    assert error.facts["found"] == "the connection broke off, or what came is no video"
    assert failing(camera.url("/missing")).facts["found"] == "Server returned 404 Not Found"


def test_a_codec_that_ffmpeg_lacks(
    serve: Callable[..., TcpServer], make_clip: Callable[..., Path]
) -> None:
    content = make_clip("clip.mkv").read_bytes().replace(b"V_MPEG4/ISO/AVC", b"V_NOBODY/HAS/IT")
    error = failing(serve(content).address)
    assert error.headline.startswith("no decoder for tcp://")
    assert error.fix == "let the sender encode H.264, H.265 or MJPEG"


def test_credentials() -> None:
    server = MjpegServer(user="me:pass%word")
    try:
        error = failing(server.url())
        assert error.headline == f"{server.url()} wants credentials"
        address = server.url("/stream?token=hush", user="me:sesame")
        error = failing(address)
        assert (
            error.headline
            == f"http://***@127.0.0.1:{server.port}/stream?token=*** refuses the credentials"
        )
        shown = "".join(traceback.format_exception(error)) + str(error)
        assert "sesame" not in shown
        assert "hush" not in shown
        source = network_stream(server.url(user="me:pass%25word"))
        frame = next(source.frames())
        assert source.info.name == frame.name == f"http://***@127.0.0.1:{server.port}/stream"
        source.close()
    finally:
        server.kill()


@pytest.fixture
def web(tmp_path: Path) -> Iterator[str]:
    """The address of a web server for the test's folder."""

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *arguments: Any) -> None: ...

    handler = partial(Handler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_what_has_a_length_is_read_as_a_file_is(make_clip: Callable[..., Path], web: str) -> None:
    make_clip("clip.mp4", 30, container_options={"movflags": "faststart"})
    make_clip("clip.m3u8", 30, container_options={"hls_playlist_type": "vod"})
    for name in ("clip.mp4", "clip.m3u8"):
        source = network_stream(f"{web}/{name}")
        assert isinstance(source, LiveSource)
        assert not source.info.live
        assert source.info.frame_count == 30
        assert len(list(source.frames())) == 30
        assert len(list(source.frames())) == 30
        assert source.notes == ()
        assert list(source.failures) == []


def test_a_file_on_a_web_server_that_is_cut(make_clip: Callable[..., Path], web: str) -> None:
    """Matroska tells its length up front, and keeps to be readable."""
    whole = make_clip("clip.mkv", images=noise_images(200))
    whole.with_name("cut.mkv").write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    source = network_stream(f"{web}/cut.mkv")
    count = len(list(source.frames()))
    assert 0 < count < 200
    assert [failure.cut for failure in source.failures] == [True]
    assert source.failures[0].reason.startswith(f"truncated: {count} of about 200 frames; ")

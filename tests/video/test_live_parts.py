"""What live sources are made of: pump, clock, pacer, addresses, options, decoder, pattern."""

from __future__ import annotations

import gc
import textwrap
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import av.codec.hwaccel
import numpy as np
import pytest
from video_clips import gradient_images

from segedge.errors import SourceError, UsageError
from segedge.video.decoder import choose_decoder
from segedge.video.live.address import host_of, masked, scheme_of
from segedge.video.live.clock import LiveClock
from segedge.video.live.pump import Pump, PumpStalled
from segedge.video.live.source import delay_seconds
from segedge.video.memory import MemorySource
from segedge.video.options import SourceOptions, parse_size
from segedge.video.sources.open import open_source
from segedge.video.sources.pace import PacedSource, Pacer, paced
from segedge.video.sources.pattern import PatternSource, index_of, pattern_source


class FakeTime:
    """A clock that only waiting moves."""

    def __init__(self) -> None:
        self.now_ns = 1_000_000_000
        self.waited: list[float] = []

    def wait(self, seconds: float) -> bool:
        self.waited.append(seconds)
        self.now_ns += round(seconds * 1e9)
        return False

    def pacer(self) -> Pacer:
        return Pacer(clock_ns=lambda: self.now_ns, wait=self.wait)


def test_pump_hands_over_in_order_and_ends() -> None:
    pump = Pump(lambda: iter(range(10)))
    assert [pump.get() for _ in range(11)] == [*range(10), None]
    pump.thread.join(5)
    assert not pump.thread.is_alive()


def test_pump_gives_the_items_before_the_error() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise ValueError("broken")

    pump = Pump(items)
    assert pump.get() == 1
    with pytest.raises(ValueError, match="broken"):
        pump.get()


def test_pump_keeps_the_newest_while_nobody_reads() -> None:
    asked, done = threading.Event(), threading.Event()

    def items() -> Iterator[int]:
        yield from range(100)
        asked.set()
        done.wait(5)

    pump = Pump(items)
    pump.keep_newest()
    assert asked.wait(5)
    assert pump.get() == 99
    done.set()
    assert pump.get() is None


def test_pump_closed_while_the_call_blocks() -> None:
    entered, release, closed_in_thread = threading.Event(), threading.Event(), threading.Event()

    def items() -> Iterator[int]:
        try:
            entered.set()
            release.wait(10)
            yield 1
        finally:
            closed_in_thread.set()

    pump = Pump(items)
    assert entered.wait(5)
    with pytest.raises(PumpStalled):
        pump.get(timeout_seconds=0)
    threading.Thread(target=pump.close, daemon=True).start()
    assert pump.get(5) is None
    release.set()
    assert closed_in_thread.wait(5)


def test_live_clock_only_goes_forward() -> None:
    clock = LiveClock()
    second = 1_000_000_000
    assert clock(100.0, 7 * second) == 0
    assert clock(100.04, 8 * second) == pytest.approx(0.04)  # the stream's own interval
    assert clock(3.0, 10 * second) == pytest.approx(2.04)  # set back: the arrival tells
    assert clock(3.04, 10 * second) == pytest.approx(2.08)
    assert clock(900.0, 11 * second) == pytest.approx(3.08)  # set forward
    clock.restart()
    assert clock(900.04, 16 * second) == pytest.approx(8.08)  # a new connection
    assert clock(None, 17 * second) == pytest.approx(9.08)
    assert clock(None, 17 * second) > 9.08  # never twice the same


def test_delays_double_up_to_ten_seconds() -> None:
    assert [delay_seconds(n) for n in range(7)] == [0.5, 1, 2, 4, 8, 10, 10]
    assert delay_seconds(10_000) == 10


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("rtsp://me:se@cr:et@cam/1", "rtsp://***@cam/1"),
        ("rtsp://me@cam/1", "rtsp://***@cam/1"),
        ("http://cam/a@b?x=1", "http://cam/a@b?x=1"),
        ("http://cam/v?user=me&pwd=x&fps=5&access_token=y", None),
        ("rtmp://live/app?streamKey=abc", "rtmp://live/app?streamKey=***"),
        ("gst:rtspsrc location=rtsp://a:b@c/d ! x", "gst:rtspsrc location=rtsp://***@c/d ! x"),
    ],
)
def test_credentials_are_masked(address: str, shown: str | None) -> None:
    assert masked(address) == (shown or "http://cam/v?user=***&pwd=***&fps=5&access_token=***")


def test_parts_of_addresses() -> None:
    assert scheme_of("RTSP://x") == "rtsp"
    assert scheme_of("folder/x.mp4") is None
    assert host_of("rtsp://a:b@cam.local:554/x") == "cam.local"
    assert host_of("udp://[ff02::1]:5000") == "ff02::1"
    assert host_of("udp://:5000") == ""


def test_options_refuse_what_cannot_be_meant() -> None:
    with pytest.raises(UsageError, match="no decoder 'nvdeck'; did you mean 'nvdec'"):
        SourceOptions(decoder="nvdeck")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="no picture is 0x48"):
        SourceOptions(size=(48, 0))
    with pytest.raises(UsageError, match="a rate must be above 0"):
        SourceOptions(fps=-1)
    with pytest.raises(UsageError, match="a timeout must be above 0 s"):
        SourceOptions(timeout_seconds=float("nan"))
    assert parse_size("1280x720") == parse_size("720p") == (720, 1280)
    with pytest.raises(UsageError, match="no size '720'"):
        parse_size("720")


def test_without_nvdec_the_cpu_decodes(
    monkeypatch: pytest.MonkeyPatch, make_clip: Callable[..., Path]
) -> None:
    assert choose_decoder("auto") == choose_decoder("cpu") == (None, None)
    monkeypatch.setattr(av.codec.hwaccel, "hwdevices_available", list)
    reason = "decoding on the CPU, not by NVDEC: this build of FFmpeg has no CUDA"
    assert choose_decoder("nvdec") == (None, reason)
    source = open_source(make_clip(), options=SourceOptions(decoder="nvdec"))
    assert source.notes == (reason,)  # type: ignore[attr-defined]
    assert len(list(source.frames())) == 30


def test_nvdec_of_a_machine_without_a_driver() -> None:
    hwaccel, note = choose_decoder("nvdec")
    if hwaccel is not None:
        pytest.skip("this machine has an NVIDIA decoder")
    assert note is not None
    assert note.startswith("decoding on the CPU, not by NVDEC: ")


def test_pattern_is_the_same_every_time_and_says_its_index() -> None:
    one, two = (pattern_source("test:64x48@25:5") for _ in range(2))
    frames = list(one.frames())
    assert [frame.index for frame in frames] == [0, 1, 2, 3, 4]
    assert [index_of(frame.image_hwc) for frame in frames] == [0, 1, 2, 3, 4]
    assert [frame.pts_seconds for frame in frames] == [0, 0.04, 0.08, 0.12, 0.16]
    for a, b in zip(frames, two.frames(), strict=True):
        assert np.array_equal(a.image_hwc, b.image_hwc)
    assert not np.array_equal(frames[0].image_hwc, frames[4].image_hwc)
    assert index_of(PatternSource(size=(720, 1280)).image(54_321)) == 54_321


def test_spelling_of_patterns() -> None:
    endless = open_source("test:720p30")
    assert (endless.info.size, endless.info.fps) == ((720, 1280), 30)
    assert endless.info.live
    assert endless.info.frame_count is None
    counted = open_source("test:1280x720@29.97:300")
    assert (counted.info.fps, counted.info.frame_count) == (29.97, 300)
    assert not counted.info.live
    assert open_source("test:720p30:300", options=SourceOptions(pace=True)).info.live
    assert open_source("test:").info.size == (720, 1280)
    asked = open_source("test:", options=SourceOptions(size=(48, 64), fps=5))
    assert (asked.info.size, asked.info.fps) == ((48, 64), 5)
    for wrong in ("test:big", "test:720p30:x", "test:64x48@0", "test:0x0@5"):
        with pytest.raises(UsageError, match="no test pattern") as caught:
            open_source(wrong)
        assert not caught.value.facts["found"].startswith("found")


def test_live_pattern_comes_at_its_rate() -> None:
    time = FakeTime()
    source = PatternSource(size=(48, 64), fps=10, pacer=time.pacer())
    frames = source.frames()
    captured = []
    for number in range(4):
        captured.append(next(frames).captured_ns)
        if number == 1:
            time.now_ns += 250_000_000  # who takes them is late: the frames are due all the same
    assert np.diff(captured).tolist() == [100_000_000] * 3
    assert time.waited == pytest.approx([0.1])
    source.close()
    assert next(frames, None) is None


def test_a_file_at_its_own_rate(make_clip: Callable[..., Path]) -> None:
    time = FakeTime()
    plain = open_source(make_clip("clip.mp4", 5))
    source = paced(plain, pacer=time.pacer())
    assert source.info.live
    assert source.info.frame_count == 5
    frames = list(source.frames())
    assert time.waited == pytest.approx([0.04] * 4)
    assert frames[-1].captured_ns - frames[0].captured_ns == pytest.approx(160_000_000, abs=1000)
    assert source.failures == plain.failures


def test_images_are_paced_when_a_rate_is_given(tmp_path: Path) -> None:
    images = MemorySource(gradient_images(3))
    with pytest.raises(UsageError, match="has no rate of its own"):
        PacedSource(images)
    time = FakeTime()
    frames = list(paced(images, fps=4, pacer=time.pacer()).frames())
    assert [frame.pts_seconds for frame in frames] == [0, 0.25, 0.5]
    assert time.waited == pytest.approx([0.25, 0.25])


def test_close_ends_the_wait_of_a_paced_source() -> None:
    source = paced(MemorySource(gradient_images(2), fps=0.001))
    first = threading.Event()
    seen = []

    def read() -> None:
        for frame in source.frames():
            seen.append(frame)
            first.set()

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    assert first.wait(5)
    source.close()
    reader.join(5)
    assert not reader.is_alive()
    assert len(seen) == 1


def test_a_live_source_is_paced_already(make_clip: Callable[..., Path]) -> None:
    live = MemorySource(gradient_images(2), live=True)
    assert paced(live) is live
    assert open_source(make_clip(), options=SourceOptions(pace=True)).info.live


def test_the_page_on_sources_runs() -> None:
    page = (Path(__file__).parents[2] / "docs/sources.md").read_text("utf-8")
    code = textwrap.dedent(page.partition("## In Python")[2].partition("`MemorySource")[0])
    names: dict[str, object] = {}
    exec(code, names)
    assert names["source"].info.live is True  # type: ignore[attr-defined]
    assert names["frame"].size == (720, 1280)  # type: ignore[attr-defined]


def test_a_pump_that_failed_frees_what_it_read_from_without_the_collector() -> None:
    class Decoder:
        """What a connection holds."""

    held: list[weakref.ref[Decoder]] = []

    def items() -> Iterator[int]:
        decoder = Decoder()
        held.append(weakref.ref(decoder))
        yield 1
        raise SourceError("unplugged")

    gc.collect()
    gc.disable()
    try:
        pump: Pump[int] = Pump(items)
        assert pump.get() == 1
        with pytest.raises(SourceError, match="unplugged"):
            pump.get()
        assert pump.get() is None
        pump.thread.join()
        del pump
        assert held[0]() is None
    finally:
        gc.enable()

"""What each encoder is told: quality, speed, threads; and how it is opened."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

from segedge.machine.processors import usable_processors
from segedge.video.encode.options import EncodeOptions, is_hardware, presets_of
from segedge.video.encode.scheduling import ordinary_threads
from segedge.video.picture import BT601_MATRIX, LIMITED_RANGE


def open_encoder(
    codec: Any, encoder: str, options: EncodeOptions, rate: Fraction, time_base: Fraction
) -> None:
    """Open a codec context whose size is set; a preset of another encoder is left out."""
    _configure(codec, encoder, options, rate, time_base)
    with ordinary_threads():
        codec.open()


def _configure(
    codec: Any, encoder: str, options: EncodeOptions, rate: Fraction, time_base: Fraction
) -> None:
    os.environ.setdefault("SVT_LOG", "1")  # errors only; it would print its settings
    known = [] if options.alpha else [known.name for known in codec.codec.video_formats or ()]
    codec.pix_fmt = "yuva420p" if options.alpha else pixel_format(known)
    codec.framerate, codec.time_base = rate, time_base
    codec.gop_size = max(1, round(options.key_seconds * float(rate)))
    codec.colorspace, codec.color_range = BT601_MATRIX, LIMITED_RANGE
    if not is_hardware(encoder):
        # x264 would start 1.5 threads a core; the network needs them more.
        codec.thread_count = encoder_threads()
    # Pictures come out in the order in which they go in: B-frames cost latency, and in fragmented
    # MP4 they shift every time by theirs.
    codec.max_b_frames = 0
    family = encoder if encoder.startswith("lib") else encoder.partition("_")[2]
    settings = _SETTINGS.get(family)
    if settings is None:
        pixels_a_second = codec.width * codec.height * float(rate)
        codec.bit_rate = max(200_000, round(0.12 * pixels_a_second))
        return
    preset = options.preset if options.preset in presets_of(encoder) else None
    codec.options = settings(options, preset)


def pixel_format(known: Sequence[str]) -> str:
    """What an encoder takes of 4:2:0: Quick Sync knows NV12 only. PyAV converts to it."""
    return "nv12" if "nv12" in known and "yuv420p" not in known else "yuv420p"


def encoder_threads() -> int:
    """Half of the processors, four at most: the network has the others."""
    return min(4, max(1, usable_processors() // 2))


def _x264(options: EncodeOptions, preset: str | None) -> dict[str, str]:
    # ultrafast leaves deblocking out; flat class colours show every block edge.
    # It costs 5 to 8 % of the time and gives up to 0.4 dB.
    return {
        "crf": str(options.quality),
        "preset": preset or "ultrafast",
        "x264-params": "no-deblock=0:deblock=0,0",
        **({"tune": "zerolatency"} if options.low_latency else {}),
    }


def _x265(options: EncodeOptions, preset: str | None) -> dict[str, str]:
    repeat = ":repeat-headers=1" if options.low_latency else ""
    return {
        "crf": str(options.quality),
        "preset": preset or "ultrafast",
        # It would fill the terminal; its threads are a pool of their own.
        "x265-params": f"log-level=error:open-gop=0:pools={encoder_threads()}{repeat}",
        **({"tune": "zerolatency"} if options.low_latency else {}),
    }


def _svt_av1(options: EncodeOptions, preset: str | None) -> dict[str, str]:
    parameters = f"lp={encoder_threads()}" + (":pred-struct=1" if options.low_latency else "")
    return {
        "crf": str(options.quality), "preset": preset or "11", "svtav1-params": parameters
    }  # fmt: skip


def _nvenc(options: EncodeOptions, preset: str | None) -> dict[str, str]:
    tune = {"tune": "ull", "delay": "0", "zerolatency": "1"} if options.low_latency else {}
    return {
        "rc": "vbr", "cq": str(max(1, options.quality)), "b": "0", "preset": preset or "p4", **tune
    }  # fmt: skip


def _qsv(options: EncodeOptions, preset: str | None) -> dict[str, str]:
    return {"global_quality": str(max(1, options.quality)), "preset": "veryfast"}


def _amf(options: EncodeOptions, preset: str | None) -> dict[str, str]:
    quality = str(options.quality)
    return {"rc": "cqp", "qp_i": quality, "qp_p": quality, "usage": "lowlatency"}


def _aom(options: EncodeOptions, preset: str | None) -> dict[str, str]:
    return {"crf": str(options.quality), "cpu-used": "8", "usage": "realtime"}


def _vpx_vp9(options: EncodeOptions, preset: str | None) -> dict[str, str]:
    # A constant quality needs a bit rate of 0, and an opacity allows no frames that are not shown.
    return {
        "crf": str(options.quality),
        "b": "0",
        "deadline": "realtime",
        "cpu-used": "8",
        "row-mt": "1",
        "auto-alt-ref": "0",
        "lag-in-frames": "0",
    }


_SETTINGS: dict[str, Callable[[EncodeOptions, str | None], dict[str, str]]] = {
    "libx264": _x264,
    "libx265": _x265,
    "libsvtav1": _svt_av1,
    "libaom-av1": _aom,
    "libvpx-vp9": _vpx_vp9,
    "nvenc": _nvenc,
    "qsv": _qsv,
    "amf": _amf,
}
"""Options by encoder family; those that are not here (V4L2 ...) know bit rates only."""

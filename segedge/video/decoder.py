"""Where compressed video is decoded: the CPU, or NVDEC through FFmpeg."""

from __future__ import annotations

from typing import Any

from segedge.video.ffmpeg import av
from segedge.video.options import Decoder


def choose_decoder(decoder: Decoder) -> tuple[Any, str | None]:
    """FFmpeg's accelerator for `av.open`, and a note where the wish cannot be met.

    ``auto`` is the CPU, (None, None): pictures decoded by NVDEC come back to host memory here,
    where the sources' frames live, and no measurement yet says that this is faster for the whole
    frame. NVDEC falls back to the CPU by itself for codecs that the GPU lacks.
    """
    if decoder != "nvdec":
        return None, None
    try:
        from av.codec.hwaccel import HWAccel, hwdevices_available
    except ImportError:
        return None, _note(f"PyAV {av.__version__} has no hardware decoding")
    if "cuda" not in hwdevices_available():
        return None, _note("this build of FFmpeg has no CUDA")
    try:
        # Opening a file with it fails too, but only after a stream was connected to.
        HWAccel("cuda").create(av.Codec("h264", "r"))
    except (av.error.FFmpegError, NotImplementedError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        return None, _note(f"FFmpeg finds no NVIDIA decoder: {reason}")
    return HWAccel("cuda", allow_software_fallback=True), None


def _note(reason: str) -> str:
    return f"decoding on the CPU, not by NVDEC: {reason}"

"""Which encoder makes a video: the GPU's or the chip's where it works, else the CPU's."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from segedge.errors import UsageError
from segedge.video.encode.options import (
    CODECS,
    ENCODERS,
    EncodeOptions,
    codec_of,
    in_wheel,
    is_hardware,
    software_encoder,
)
from segedge.video.encode.settings import open_encoder
from segedge.video.ffmpeg import av

_PROBE_FRAMES = 3


@dataclass(frozen=True)
class Choice:
    """The encoder that is used."""

    encoder: str
    """FFmpeg's name."""
    note: str | None = None
    """Why it is not the one that was asked for, in one line."""


def choose_encoder(
    options: EncodeOptions,
    size: tuple[int, int],
    *,
    probe: Callable[[str, tuple[int, int]], str | None] | None = None,
) -> Choice:
    """The encoder for pictures of this size: the one asked for, or the first that works.

    Hardware encoders are tried on a few frames, once a process: FFmpeg has them in its list
    whether there is hardware or not. One that was asked for and does not work is replaced by the
    CPU's, and the note says so.
    """
    refusal = probe or why_not
    asked = ENCODERS[options.codec] if options.encoder == "auto" else (options.encoder,)
    reasons: dict[str, str] = {}
    for name in asked:
        reason = refusal(name, size)
        if reason is None:
            return Choice(name, _note(options, reasons, name))
        reasons[name] = reason
    for name in ENCODERS[options.codec]:
        if not is_hardware(name) and name not in reasons and refusal(name, size) is None:
            return Choice(name, _note(options, reasons, name))
    raise _nothing_works(options, reasons)


def _note(options: EncodeOptions, reasons: dict[str, str], used: str) -> str | None:
    """What to tell: always where an encoder was asked for, else where there is such hardware."""
    if options.encoder in reasons:
        return f"{options.encoder} does not work here ({reasons[options.encoder]}): {used} encodes"
    nvenc = next((name for name in reasons if name.endswith("_nvenc")), None)
    if nvenc and Path("/dev/nvidiactl").exists():
        return f"{nvenc} does not work on this GPU ({reasons[nvenc]}): {used} encodes"
    return None


def _nothing_works(options: EncodeOptions, reasons: dict[str, str]) -> UsageError:
    found = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
    others = [codec for codec in CODECS if codec != options.codec and software_encoder(codec)]
    return UsageError(
        f"no encoder for {options.codec} works here",
        facts={"found": found},
        fix=" or ".join(f"--codec {codec}" for codec in others) or "pip install --upgrade av",
    )


@functools.cache
def why_not(name: str, size: tuple[int, int]) -> str | None:
    """Why an encoder does not work for pictures of this size, or None if it does.

    The CPU's are taken at their word; the others encode a few frames. Asked once a process.
    """
    if not in_wheel(name):
        return "not in this build of FFmpeg"
    if not is_hardware(name):
        return None
    level = av.logging.get_level()
    av.logging.set_level(av.logging.PANIC)  # nothing is printed, and errors carry their log
    try:
        codec = av.CodecContext.create(name, "w")
        codec.height, codec.width = size
        open_encoder(
            codec, name, EncodeOptions(codec=codec_of(name)), Fraction(25), Fraction(1, 25)
        )
        for number in range(_PROBE_FRAMES):
            picture = av.VideoFrame(size[1], size[0], "yuv420p")
            picture.pts, picture.time_base = number, Fraction(1, 25)
            codec.encode(picture)
        codec.encode(None)
    except Exception as error:  # AMF raises what is not even an FFmpegError
        return _reason(error)
    finally:
        av.logging.set_level(level)
    return None


def _reason(error: Exception) -> str:
    """FFmpeg's last words in its log say more than the code it returns."""
    text = str(error)
    _, found, log = text.partition("last error log: ")
    if found:
        return log.strip().rpartition("] ")[2] or log.strip()
    return getattr(error, "strerror", None) or text

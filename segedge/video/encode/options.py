"""EncodeOptions: how a video is encoded, whichever encoder does it."""

from __future__ import annotations

from dataclasses import dataclass

from segedge.errors import UsageError, unknown_name_error
from segedge.video.ffmpeg import av
from segedge.video.formats import Codec

ENCODERS: dict[Codec, tuple[str, ...]] = {
    "h264": (
        "h264_nvenc", "h264_qsv", "h264_amf", "h264_videotoolbox", "h264_v4l2m2m",
        "libx264", "libopenh264",
    ),
    "h265": (
        "hevc_nvenc", "hevc_qsv", "hevc_amf", "hevc_videotoolbox", "hevc_v4l2m2m",
        "libx265",
    ),
    "av1": ("av1_nvenc", "av1_qsv", "av1_amf", "libsvtav1", "libaom-av1"),
    "vp9": ("libvpx-vp9",),
}  # fmt: skip
"""FFmpeg's encoders of each codec, in the order in which ``auto`` tries them."""

CODECS: tuple[Codec, ...] = ("h264", "h265", "av1", "vp9")

_X_PRESETS = (
    "ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow",
)  # fmt: skip
_NVENC_PRESETS = tuple(f"p{number}" for number in range(1, 8))
_SVT_PRESETS = tuple(str(number) for number in range(14))

_CRF: dict[Codec, int] = {"h264": 23, "h265": 26, "av1": 32, "vp9": 32}
_CRF_MAX: dict[Codec, int] = {"h264": 51, "h265": 51, "av1": 63, "vp9": 63}


@dataclass(frozen=True)
class EncodeOptions:
    """How a video is encoded, whichever encoder does it."""

    codec: Codec = "h264"
    """What the file or stream holds."""
    encoder: str = "auto"
    """FFmpeg's name of the encoder; ``auto`` takes the first that works here."""
    crf: int | None = None
    """Constant quality, 0 (best) to 51 (AV1, VP9: 63); 6 more halve the size. None is the codec's
    usual one: 23 for H.264, 26 for H.265, 32 for AV1 and VP9."""
    preset: str | None = None
    """The encoder's trade of time for size; None is one for real time. For libx264 that is
    ultrafast: the encoder runs beside a network that wants every core. For overlays of real street
    scenes at 720p, one frame took on one core 6.5 ms with ultrafast (deblocking added), 17 ms with
    superfast and 27 ms with veryfast, for 31, 25 and 17 kB at 37.8, 37.5 and 36.5 dB PSNR."""
    key_seconds: float = 2.0
    """Time between key frames: how finely players seek, and at most what a full disk costs."""
    low_latency: bool = False
    """For pushing: the encoder gives every frame back at once."""
    alpha: bool = False
    """Whether pictures have an opacity, which only VP9 keeps."""

    def __post_init__(self) -> None:
        if self.codec not in CODECS:
            raise unknown_name_error("codec", self.codec, CODECS)
        limit = _CRF_MAX[self.codec]
        if self.crf is not None and not 0 <= self.crf <= limit:
            raise UsageError(f"crf must be within 0..{limit}, found {self.crf}")
        if not self.key_seconds > 0:
            raise UsageError(f"key frames need a positive distance, found {self.key_seconds} s")
        self._check_encoder()
        if self.alpha and self.codec != "vp9":
            raise UsageError(f"{self.codec} keeps no opacity", fix="--codec vp9 -o out.webm")
        presets = presets_of(self._named_encoder)
        if self.preset is not None and presets and self.preset not in presets:
            kind = {"libx264": "x264", "libx265": "x265"}.get(
                self._named_encoder, self._named_encoder
            )
            raise unknown_name_error(f"{kind} preset", self.preset, presets)

    @property
    def quality(self) -> int:
        """`crf`, or the codec's usual one."""
        return _CRF[self.codec] if self.crf is None else self.crf

    @property
    def _named_encoder(self) -> str:
        return software_encoder(self.codec) if self.encoder == "auto" else self.encoder

    def _check_encoder(self) -> None:
        """Raise UsageError for an encoder that nobody knows, or of another codec."""
        if self.encoder == "auto" or self.encoder in ENCODERS[self.codec]:
            return
        for codec, names in ENCODERS.items():
            if self.encoder in names:
                raise UsageError(
                    f"{self.encoder} makes {codec}, not {self.codec}", fix=f"--codec {codec}"
                )
        raise unknown_name_error(
            f"{self.codec} encoder", self.encoder, ("auto", *ENCODERS[self.codec])
        )


def presets_of(encoder: str) -> tuple[str, ...]:
    """The presets that an encoder knows; none where it has no such thing."""
    if encoder.endswith("_nvenc"):
        return _NVENC_PRESETS
    return {"libx264": _X_PRESETS, "libx265": _X_PRESETS, "libsvtav1": _SVT_PRESETS}.get(
        encoder, ()
    )


def is_hardware(encoder: str) -> bool:
    """Whether it runs on a GPU or a chip of its own: it may be in the wheel, and not work."""
    return not encoder.startswith("lib")


def software_encoder(codec: Codec) -> str:
    """The CPU's encoder of a codec that this FFmpeg has, or ""."""
    names = (name for name in ENCODERS[codec] if not is_hardware(name))
    return next((name for name in names if in_wheel(name)), "")


def in_wheel(name: str) -> bool:
    """Whether this build of FFmpeg has the encoder; it may still not work."""
    try:
        av.Codec(name, "w")
    except av.codec.codec.UnknownCodecError:
        return False
    return True


def codec_of(name: str) -> Codec:
    """What an encoder makes."""
    return next(codec for codec, names in ENCODERS.items() if name in names)

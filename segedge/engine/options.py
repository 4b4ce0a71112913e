"""BuildOptions: everything that a user may say about how an engine is built."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal, get_args

from segedge.card.geometry import Size
from segedge.errors import UsageError, unknown_name_error

Precision = Literal["fp32", "fp16", "int8"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)


@dataclass(frozen=True)
class BatchRange:
    """Smallest, most frequent and largest batch."""

    smallest: int = 1
    usual: int = 1
    largest: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.smallest <= self.usual <= self.largest:
            raise UsageError(
                "a batch range must be MIN <= USUAL <= MAX, from 1 on", facts={"found": str(self)}
            )

    def __str__(self) -> str:
        return _range_text(self.smallest, self.usual, self.largest)

    @classmethod
    def parse(cls, text: str) -> BatchRange:
        """Read ``"4"`` or ``"1:2:4"``."""
        low, usual, high = _split(text, "batch range", "4 or 1:2:4")
        if not all(part.strip().isdigit() for part in (low, usual, high)):
            raise UsageError(
                f"{text!r} is no batch range",
                facts={"expected": "4 or 1:2:4"},
                fix="--batch 4, or smallest, usual and largest: --batch 1:2:4",
            )
        return cls(int(low), int(usual), int(high))


@dataclass(frozen=True)
class SizeRange:
    """Smallest, most frequent and largest input size."""

    smallest: Size
    usual: Size
    largest: Size

    def __post_init__(self) -> None:
        heights = [size.height for size in (self.smallest, self.usual, self.largest)]
        widths = [size.width for size in (self.smallest, self.usual, self.largest)]
        if heights != sorted(heights) or widths != sorted(widths):
            raise UsageError(
                "a size range must grow in height and width: MIN <= USUAL <= MAX",
                facts={"found": str(self)},
            )

    def __str__(self) -> str:
        return _range_text(self.smallest, self.usual, self.largest)

    @classmethod
    def parse(cls, text: str) -> SizeRange:
        """Read ``"512x1024"`` or ``"256x512:512x1024:1024x2048"``."""
        parts = _split(text, "size range", "512x1024 or 256x512:512x1024:1024x2048")
        low, usual, high = map(Size.parse, parts)
        return cls(low, usual, high)


@dataclass(frozen=True)
class BuildOptions:
    """How an engine is built; the defaults are a static, portable engine at full speed."""

    precision: Precision | None = None
    """None builds the graph as it is; ``fp16`` converts it first; ``int8`` and ``fp32`` insist that
    it holds quantisation nodes, or holds none."""
    keep_fp32: tuple[str, ...] = ()
    """Patterns of node names that fp16 conversion leaves alone, as in ``*/norm*``."""
    batch: BatchRange | None = None
    """Only for a model whose batch is dynamic; None is 1."""
    size: SizeRange | None = None
    """Only for a model whose input size is dynamic; None is the card's size, fixed."""
    workspace_bytes: int | None = None
    """Scratch memory that a layer may use; None leaves TensorRT's default (all of the GPU)."""
    optimization_level: int | None = None
    """0..5; higher builds longer and may run faster. None is TensorRT's default, 3."""
    timing_cache: bool = True
    """Remember kernel timings between builds, where that has an effect (not TensorRT-RTX)."""
    dla_core: int | None = None
    """Run what it can on this DLA core of a Jetson, the rest on the GPU."""
    version_compatible: bool = False
    """Let newer TensorRT versions of the same major version load it."""
    hardware_compatible: bool = False
    """Let every GPU from Ampere on run it, somewhat slower (TensorRT on discrete GPUs)."""
    targets: tuple[str, ...] = ()
    """TensorRT-RTX: the GPUs it is for, e.g. ``sm86``; empty is portable from sm_80 on."""
    tf32: bool = True
    """Allow 10-bit mantissas in fp32 convolutions, as PyTorch does for convolutions."""
    user_allocation: bool = False
    """TensorRT-RTX: the caller gives all device memory, which lets a CUDA graph hold the engine."""

    def __post_init__(self) -> None:
        if self.precision is not None and self.precision not in PRECISIONS:
            raise unknown_name_error("precision", str(self.precision), list(PRECISIONS))
        if self.optimization_level is not None and not 0 <= self.optimization_level <= 5:
            raise UsageError(
                f"optimisation level {self.optimization_level} does not exist",
                facts={"expected": "0 (fast to build) to 5 (searches longest)"},
                fix="--level 3",
            )
        if self.workspace_bytes is not None and self.workspace_bytes < 1 << 20:
            raise UsageError(
                f"a workspace of {self.workspace_bytes} bytes is too small",
                facts={"expected": "1 MB or more"},
                fix="--workspace 1024   (MB)",
            )

    def to_dict(self) -> dict[str, Any]:
        """Plain data of everything that differs from the default, for keys, files and messages."""
        default = BuildOptions()
        fields = [field.name for field in dataclasses.fields(self)]
        return {
            name: _plain(getattr(self, name))
            for name in fields
            if getattr(self, name) != getattr(default, name)
        }


def options_difference(old: dict[str, Any], new: dict[str, Any]) -> str:
    """``precision fp32 → fp16, tf32 True → False`` between two `BuildOptions.to_dict`."""
    defaults = {f.name: _plain(f.default) for f in dataclasses.fields(BuildOptions)}
    names = [n for n in defaults if old.get(n, defaults[n]) != new.get(n, defaults[n])]
    return ", ".join(
        f"{n} {_word(old.get(n, defaults[n]))} → {_word(new.get(n, defaults[n]))}" for n in names
    )


def _plain(value: Any) -> Any:
    if isinstance(value, (BatchRange, SizeRange)):
        return str(value)
    return list(value) if isinstance(value, tuple) else value


def _word(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, list):
        return ",".join(map(str, value)) or "-"
    return "-" if value is None else str(value)


def _split(text: str, kind: str, example: str) -> tuple[str, str, str]:
    parts = text.split(":")
    if len(parts) == 1:
        return text, text, text
    if len(parts) == 3:
        return parts[0], parts[1], parts[2]
    raise UsageError(f"{text!r} is no {kind}", facts={"expected": example})


def _range_text(low: object, usual: object, high: object) -> str:
    return str(usual) if low == high else f"{low}:{usual}:{high}"

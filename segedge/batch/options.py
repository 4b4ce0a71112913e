"""BatchOptions and Job: what is made of every frame, and what must not change in mid-archive."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from segedge.batch.inputs import InputFile
from segedge.card.card import ModelCard
from segedge.errors import ModelError, UsageError
from segedge.machine.files import refused
from segedge.options.cleaning import Cleaning
from segedge.options.frame import FrameOptions
from segedge.options.motion import Motion
from segedge.options.sliding import Slide
from segedge.version import __version__

MaskKind = Literal["palette", "labels"]
MASK_KINDS: tuple[MaskKind, ...] = ("palette", "labels")
SCHEMA = 1


@dataclass(frozen=True)
class BatchOptions:
    """What is made of every frame. Other options make another archive."""

    masks: MaskKind | None = "palette"
    """PNG of class indices a frame, with the palette or grey; None: no masks."""
    overlays: bool = False
    """Whether there is a JPEG with the classes coloured for each frame."""
    confidence: bool = True
    """Whether the table has the mean probability of the winning class; that takes a CPU some
    milliseconds a frame."""
    opacity: float = 0.5
    """Share of the class colour in overlays, 0..1."""
    cleaning: Cleaning = field(default_factory=Cleaning)
    """What is done with small regions of the labels."""
    slide: Slide | None = None
    """Windows over the frame at full resolution; None: the whole frame at the network's size."""
    motion: Motion | None = None
    """On which frames of videos the network works, the others getting its logits by motion; each
    shard begins anew. None: on all."""
    backend: str = "auto"
    """``auto`` or a name that `segedge doctor` lists."""
    shard_frames: int = 1500
    """Shortest part of a video, and most images of a shard."""

    def __post_init__(self) -> None:
        if self.masks is not None and self.masks not in MASK_KINDS:
            raise UsageError(f"no masks {self.masks!r}", facts={"known": ", ".join(MASK_KINDS)})
        if self.shard_frames < 1:
            raise UsageError(f"shards of {self.shard_frames} frames", fix="--shard 1500")
        FrameOptions(slide=self.slide, motion=self.motion)  # refuses what does not go together

    def check(self, card: ModelCard, files: Sequence[InputFile]) -> None:
        """Raise UsageError where a model or the inputs cannot have this."""
        if self.motion is None:
            return
        self.motion.check(card)
        if all(file.is_image for file in files):
            raise UsageError(
                "images are no video: nothing moves from one to the next",
                facts={"found": f"{len(files)} images, no video"},
                fix="leave --every out",
            )

    def to_dict(self) -> dict[str, Any]:
        """As JSON has them, for the manifest: equal exactly when the options are."""
        found: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self), default=str))
        return found


@dataclass(frozen=True)
class Job:
    """What every worker is told once."""

    model: Path
    """The model file, under a name that holds on every node."""
    model_sha256: str
    """Of its bytes, and of the weights beside it; see `model_hash`."""
    classes: tuple[str, ...]
    """Names in label order."""
    out: str
    """The folder or fsspec address."""
    token: str
    """Name of a file in ``out`` that this run made: a worker that does not see it writes to
    another place of the same name."""
    options: BatchOptions
    threads: int
    """CPU threads of one worker."""
    check: bool = True
    """Whether workers let the model prove itself on their backend; see `segedge.load`."""
    strict: bool = False
    """Whether they refuse instead of warning."""
    version: str = __version__
    """Of segedge, where the run was started."""


def model_hash(model: Path) -> str:
    """SHA-256 of a model file; where weights lie beside it, of both digests."""
    import hashlib

    from segedge.card.modelfile import file_sha256, weights_beside

    fix = "check the path; on a cluster it must hold on every node"
    with refused(f"cannot read {model}", ModelError, fix=fix):
        parts = [file_sha256(model)]
        beside = weights_beside(model)
        parts += [file_sha256(beside)] if beside else []
    return parts[0] if len(parts) == 1 else hashlib.sha256("".join(parts).encode()).hexdigest()

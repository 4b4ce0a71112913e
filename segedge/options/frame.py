"""FrameOptions: all that can be asked of how frames are segmented and shown, as one value."""

from __future__ import annotations

from dataclasses import dataclass, field

from segedge.card.card import ModelCard
from segedge.errors import UsageError
from segedge.options.cleaning import Cleaning
from segedge.options.motion import Motion
from segedge.options.sliding import Slide
from segedge.options.smoothing import Smoothing
from segedge.options.style import OverlayStyle


@dataclass(frozen=True)
class FrameOptions:
    """What a segmenter does with every frame; by default nothing beside the network's own work.

    A further wish is a member here, a keyword of `segedge.load`, and what fulfils it.
    """

    style: OverlayStyle = field(default_factory=OverlayStyle)
    """How overlays look; the palette at 50 % by default."""
    cleaning: Cleaning = field(default_factory=Cleaning)
    """What is done with small regions of the labels."""
    slide: Slide | None = None
    """Windows over the frame at full resolution, their logits averaged; None brings the whole
    frame to the network's size."""
    smoothing: Smoothing | None = None
    """How logits lean on those of the frames before of the same `Frame.stream`; None: not at
    all."""
    motion: Motion | None = None
    """On which frames of a video the network works, the others getting its logits by motion; None:
    on all. Applies where frames come in order: `segedge.pipeline`, `segedge.stream`."""

    def __post_init__(self) -> None:
        # Where windows slide no one input of the network tells where the image moved.
        if self.slide is not None and self.smoothing is not None:
            raise UsageError(
                "neither smoothing nor flicker goes with sliding windows",
                fix="leave --smooth and --flicker out, or --slide",
            )
        if self.motion is not None and self.slide is not None:
            raise UsageError(
                "logits of sliding windows are not carried by motion",
                fix="leave --every out, or --slide",
            )
        if self.motion is not None and self.smoothing is not None:
            raise UsageError(
                "smoothing needs every frame through the network",
                fix="leave --every out, or take --fuse, which smooths along the motion",
            )

    def check(self, card: ModelCard) -> None:
        """Raise UsageError where a model cannot have this; its overlays are checked when drawn."""
        self.cleaning.check(card.classes)
        if self.smoothing is not None:
            self.smoothing.check(card)
        if self.motion is not None:
            self.motion.check(card)

"""The motion vectors that a decoder on the CPU hands out with its pictures, where it is asked."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from segedge.video.upright import PLAIN, pixel_aspect, signs_of


def ask_vectors(stream: Any) -> None:
    """Tell a stream's decoder, before its first picture, to hand out motion vectors."""
    if pixel_aspect(stream) != 1:
        return
    stream.codec_context.options = {"flags2": "+export_mvs"}


def vectors_of(picture: Any) -> NDArray[Any] | None:
    """A picture's vectors, a record a block, or None where it has none.

    Pictures that are shown turned or stretched have none: theirs are those of the coded picture.
    """
    if signs_of(picture) != PLAIN:
        return None
    found = picture.side_data.get("MOTION_VECTORS")
    return None if found is None else np.array(found.to_ndarray())

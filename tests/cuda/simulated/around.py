"""Frames for CudaSegmenter, and what the host's segmenter gives of the same ones."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from segedge.backends.fake import FakeBackend
from segedge.card.card import ModelCard
from segedge.card.geometry import Geometry, Size
from segedge.reference import frame as reference
from segedge.segment.drawing import OUTPUTS
from segedge.segment.segmenter import Segmenter


def clear_pixels(card: ModelCard, image: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Where the reference's labels are no matter of rounding."""
    geometry = Geometry.fit(Size(*image.shape[:2]), card.input_size, card.fit)
    tensor = reference.preprocess(image, card, geometry)
    (logits,) = FakeBackend(card).run([tensor.astype(np.float32)])
    return ~reference.ambiguous(logits, card, geometry)


def assert_like_the_host(card: ModelCard, image: NDArray[np.uint8], result: Any) -> None:
    with Segmenter(card, FakeBackend(card), threads=1) as host:
        expected = host(image, outputs=OUTPUTS)
        clear = clear_pixels(card, image)
        assert clear.mean() > 0.9
        np.testing.assert_array_equal(result.labels[clear], expected.labels[clear])
        np.testing.assert_array_equal(result.overlay()[clear], expected.overlay()[clear])
        np.testing.assert_allclose(result.confidence[clear], expected.confidence[clear], atol=2e-3)
        counts = reference.class_pixels(result.labels, len(card.classes))
        assert result.class_pixels == dict(zip(card.classes, counts.tolist(), strict=True))

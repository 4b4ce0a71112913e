"""The codec's vectors: of records made by hand, and of films that FFmpeg made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from segedge.card.geometry import Size
from segedge.motion.grey import Grey
from segedge.motion.vectors import REACH, vector_step
from segedge.video.ffmpeg import av
from tests.motion.pictures import FRAME, picture, shifted
from tests.video.video_clips import write_clip

RECORD = np.dtype(
    {
        "names": ["source", "w", "h", "src_x", "src_y", "dst_x", "dst_y", "flags",
                  "motion_x", "motion_y", "motion_scale"],
        "formats": ["<i4", "u1", "u1", "<i2", "<i2", "<i2", "<i2", "<u8", "<i4", "<i4", "<u2"],
    }
)  # fmt: skip


def records(shift: tuple[float, float], *, source: int = -1, size: int = 16) -> np.ndarray:
    """One vector a block of the whole frame, in quarter pixels."""
    y, x = np.mgrid[size // 2 : FRAME.height : size, size // 2 : FRAME.width : size]
    found = np.zeros(x.size, RECORD)
    found["source"], found["w"], found["h"] = source, size, size
    found["dst_x"], found["dst_y"], found["motion_scale"] = x.ravel(), y.ravel(), 4
    found["motion_x"], found["motion_y"] = round(4 * shift[0]), round(4 * shift[1])
    return found


def moved(vectors: np.ndarray, shift: tuple[float, float] = (3, 2)) -> np.ndarray | None:
    before, now = picture(), shifted(picture(), shift)
    return vector_step(vectors, Grey.of(now), Grey.of(before))


@pytest.mark.parametrize("size", [4, 8, 16])
def test_vectors_are_the_motion(size: int):
    found = moved(records((3, 2), size=size))
    assert found is not None
    np.testing.assert_allclose(found, np.broadcast_to(np.float32([3, 2]), found.shape))


@pytest.mark.parametrize("reach", range(1, REACH + 1))
@pytest.mark.parametrize("source", [-1, 1])
def test_a_picture_further_away_or_to_come(reach: int, source: int):
    """Which one it was is not told: what fits the images says it."""
    found = moved(records((-source * 3 * reach, -source * 2 * reach), source=source))
    assert found is not None
    np.testing.assert_allclose(np.median(found, axis=(0, 1)), [3, 2], atol=0.01)


def test_intra_blocks_are_filled_from_their_neighbours():
    vectors = records((3, 2))
    hole = (np.abs(vectors["dst_x"] - 120) < 40) & (np.abs(vectors["dst_y"] - 90) < 40)
    found = moved(vectors[~hole])
    assert found is not None
    np.testing.assert_allclose(found, np.broadcast_to(np.float32([3, 2]), found.shape), atol=1e-3)


def test_too_few_vectors_are_none():
    assert moved(records((3, 2))[:20]) is None
    assert moved(records((3, 2))[:0]) is None


def test_vectors_beyond_the_frame_are_left_out():
    vectors = records((3, 2))
    vectors["dst_x"][:9] = [-400, 32000, -9, 2000, 256, 300, -32000, 0, 4000]
    vectors["dst_y"][:9] = [32000, -400, 500, -9, 192, 0, 0, -32000, 4000]
    assert moved(vectors) is not None


@pytest.mark.parametrize("b_frames", [0, 3])
def test_what_a_film_says(tmp_path: Path, b_frames: int):
    """A camera that pans over a picture, coded by x264 with and without B frames."""
    path = tmp_path / "pan.mp4"
    step = (2.0, 1.0)
    images = [shifted(picture(), (step[0] * i, step[1] * i)) for i in range(10)]
    write_clip(path, images, options={"preset": "medium", "bf": str(b_frames)})
    found = 0
    last = None
    for frame in vectors_of(path):
        grey = Grey.of(frame.to_ndarray(format="bgr24"))
        data = frame.side_data.get("MOTION_VECTORS")
        if data is not None and last is not None:
            motion = vector_step(data.to_ndarray(), grey, last)
            assert motion is not None
            np.testing.assert_allclose(np.median(motion, axis=(0, 1)), step, atol=0.3)
            found += 1
        last = grey
    assert found >= 8


def vectors_of(path: Path) -> Any:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.options = {"flags2": "+export_mvs"}
        yield from container.decode(stream)


def test_size_of_the_frame_that_is_no_multiple_of_a_block():
    frame = Size(FRAME.height - 5, FRAME.width - 3)
    before, now = (image[: frame.height, : frame.width] for image in (picture(), picture()))
    found = vector_step(records((0, 0)), Grey.of(now), Grey.of(before))
    assert found is not None
    assert not found.any()

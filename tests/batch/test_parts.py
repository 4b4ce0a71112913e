"""Videos cut at key frames: every frame exactly once, and the pictures of an uncut run."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from segedge.errors import SourceError, UsageError
from segedge.video.sources.file import VideoFile
from segedge.video.sources.parts import VideoPart, is_idr, split_video
from tests.batch.archives import moving, write_video

SHARED = Path(__file__).parents[3] / "shared"
STREET = Path(__file__).parents[2] / "export" / "street" / "street.mp4"

Facts = list[tuple[int, float | None, str]]


def frames_of(path: Path, part: VideoPart | None = None) -> Facts:
    source = VideoFile(path, part=part)
    found = [
        (f.index, f.pts_seconds, hashlib.sha256(f.image_hwc.tobytes()).hexdigest())
        for f in source.frames()
    ]
    assert source.failures == []
    assert part is None or (source.info.frame_count, found[0][0]) == (part.frames, part.first_index)
    return found


def check(path: Path, frames: int) -> tuple[VideoPart, ...]:
    """The parts' frames, one part after the other, are those of the file."""
    parts = split_video(path, frames=frames)
    if parts:
        assert [f for part in parts for f in frames_of(path, part)] == frames_of(path)
        assert all(part.frames >= frames for part in parts[:-1])
    return parts


@given(
    count=st.integers(1, 40),
    key_every=st.integers(1, 12),
    b_frames=st.integers(0, 3),
    frames=st.integers(1, 20),
    suffix=st.sampled_from([".mp4", ".mkv", ".ts", ".avi"]),
    more=st.sampled_from(["", "open-gop=1", "intra-refresh=1", "b-pyramid=normal:ref=4"]),
)
@settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_parts_are_the_file(
    tmp_path: Path,
    count: int,
    key_every: int,
    b_frames: int,
    frames: int,
    suffix: str,
    more: str,
) -> None:
    path = tmp_path / f"clip{suffix}"
    write_video(path, moving(count), key_every=key_every, b_frames=b_frames, options=more)
    parts = check(path, frames)
    # Key frames of closed groups stand at every so many frames: there is where it can be cut.
    cuts = [index for index in range(key_every, count, key_every) if index >= frames]
    if not more and suffix in (".mp4", ".mkv") and cuts and count - cuts[0] >= frames:
        assert parts
        assert all(part.first_index % key_every == 0 for part in parts)
    elif count <= frames:
        assert len(parts) <= 1


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts"])
def test_closed_groups_are_cut(tmp_path: Path, suffix: str) -> None:
    path = write_video(tmp_path / f"clip{suffix}", moving(24), key_every=6)
    parts = check(path, 6)
    assert [part.frames for part in parts] == [6, 6, 6, 6]
    assert [part.frames for part in check(path, 7)] == [12, 12]


def test_one_key_frame_is_no_cut() -> None:
    assert split_video(STREET, frames=50) == ()


def test_a_real_clip() -> None:
    path = SHARED / "data" / "video" / "car-detection.mp4"
    if not path.is_file():
        pytest.skip("../shared/data is not here")
    parts = check(path, 100)
    assert [part.first_index for part in parts] == [0, 120, 240, 360]
    assert sum(part.frames for part in parts) == 377


def test_a_recovery_point_is_no_cut(tmp_path: Path) -> None:
    """Key frames of a gradual refresh are marked, but only recover by and by."""
    path = write_video(
        tmp_path / "clip.ts", moving(30), key_every=6, b_frames=0, options="intra-refresh=1"
    )
    assert split_video(path, frames=5) == ()


def test_kinds_of_pictures() -> None:
    avcc = b"\1\0\0\0\xff"
    assert is_idr(b"\0\0\0\2\x06\0\0\0\0\2\x65\0", avcc)
    assert not is_idr(b"\0\0\0\2\x06\0\0\0\0\2\x41\0", avcc)
    assert is_idr(b"\0\0\0\1\x67\0\0\0\1\x65\0", b"")
    assert not is_idr(b"\0\0\1\x61\0", b"")
    assert not is_idr(b"", b"")


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="cannot read video"):
        split_video(tmp_path / "none.mp4", frames=10)
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    with pytest.raises(SourceError, match="cannot read video"):
        split_video(tmp_path / "bad.mp4", frames=10)
    with pytest.raises(UsageError, match="a part of 0 frames"):
        split_video(STREET, frames=0)
    with pytest.raises(UsageError, match="no part of a video"):
        VideoPart(0, 0, 0, 0, None)


def test_a_changed_video_is_told(tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.mp4", moving(24), key_every=6)
    part = split_video(path, frames=6)[1]
    write_video(path, moving(24), key_every=50)
    with pytest.raises(SourceError, match="not where it was"):
        list(VideoFile(path, part=part).frames())

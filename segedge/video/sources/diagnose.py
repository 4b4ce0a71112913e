"""Why a file is no readable video: what FFmpeg does not say."""

from __future__ import annotations

from pathlib import Path

from segedge.errors import SourceError

_TEXT = frozenset(range(32, 127)) | {9, 10, 13}


def unreadable_video(path: Path, reason: str) -> SourceError:
    """The error for a file that FFmpeg refuses for a reason; it exists and is not empty."""
    with path.open("rb") as file:
        head = file.read(512)
    size = path.stat().st_size
    if head.startswith(b"version https://git-lfs"):
        return _error(path, f"a Git LFS pointer ({size} bytes), not the video", "git lfs pull")
    if head[4:8] == b"ftyp" and not _has_index(path):
        return _error(
            path,
            f"{size} bytes of MP4 without its index (no moov atom): the recording was cut off, "
            "or the copy is incomplete",
            "copy it again; a lost recording can be mended with untrunc and an intact clip of "
            "the same camera",
        )
    if all(byte in _TEXT for byte in head):
        first = head.splitlines()[0].decode("ascii")[:40]
        return _error(path, f"a text file ({size} bytes): {first!r}", "check where it came from")
    return _error(path, f"{size} bytes; FFmpeg says: {reason}", "check that it plays, e.g. ffplay")


def _has_index(path: Path) -> bool:
    """Whether a top-level ``moov`` box lies within the file (ISO/IEC 14496-12, 4.2)."""
    size = path.stat().st_size
    position = 0
    with path.open("rb") as file:
        while position + 8 <= size:
            file.seek(position)
            header = file.read(16)
            length = int.from_bytes(header[:4], "big")
            if length == 1:  # a 64-bit length follows the name
                length = int.from_bytes(header[8:16], "big")
            if header[4:8] == b"moov":
                return position + length <= size
            if length < 8:  # 0 means: to the end of the file
                return False
            position += length
    return False


def _error(path: Path, found: str, fix: str) -> SourceError:
    return SourceError(f"{path} is not a readable video", facts={"found": found}, fix=fix)

"""FrameNames: one file name a frame, no name twice."""

from __future__ import annotations

from pathlib import Path

from segedge.frames.frame import Frame


class FrameNames:
    """File names for frames: an image's own stem, a video's frame number, no name twice.

    Two images of one stem (from two folders, or ``a.jpg`` beside ``a.png``) get ``folder_stem``,
    then ``folder_stem_ending``, then ``stem_index``.
    """

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def __call__(self, frame: Frame) -> str:
        """A stem that no frame had before."""
        if not frame.name or frame.pts_seconds is not None:
            return f"{frame.index:06d}"
        path = Path(frame.name)
        folder, ending = path.absolute().parent.name, path.suffix.lstrip(".")
        candidates = (
            path.stem,
            f"{folder}_{path.stem}",
            f"{folder}_{path.stem}_{ending}",
            f"{path.stem}_{frame.index:06d}",
        )
        # Compared without case: a.png and A.png are one file on Windows and macOS.
        name = next((c for c in candidates if c.casefold() not in self._taken), candidates[-1])
        self._taken.add(name.casefold())
        return name

"""What came of a file's proof, in rows and in JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from segedge.cli.console import print_prose

if TYPE_CHECKING:
    from segedge.segment.on_gpu import CudaSegmenter
    from segedge.segment.segmenter import Segmenter


def print_checked(segmenter: Segmenter | CudaSegmenter, prefix: str = "") -> None:
    """A row where the file was checked on the backend."""
    if segmenter.checked is not None:
        print_prose("checked", prefix + segmenter.checked.text)


def checked_dict(segmenter: Segmenter | CudaSegmenter) -> dict[str, Any] | None:
    """Plain values; None where it was not checked."""
    return None if segmenter.checked is None else segmenter.checked.to_dict()

"""What came of a file's proof, in rows and in JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from segedge.cli.console import print_prose

if TYPE_CHECKING:
    from segedge.segment.on_gpu import CudaSegmenter
    from segedge.segment.segmenter import Segmenter


def print_checked(segmenter: Segmenter | CudaSegmenter, prefix: str = "") -> None:
    """A row where the file was checked on the backend."""
    from segedge.segment.check import exact_variant

    checked = segmenter.checked
    if checked is None:
        return
    exact = exact_variant(segmenter.backend_name)
    keeps = checked.passed and checked.rounds and checked.labels < 1.0 and exact is not None
    text = prefix + checked.text
    print_prose("checked", f"{text}; {exact} keeps the exported labels" if keeps else text)


def checked_dict(segmenter: Segmenter | CudaSegmenter) -> dict[str, Any] | None:
    """Plain values; None where it was not checked."""
    return None if segmenter.checked is None else segmenter.checked.to_dict()
